"""Stages 1 to 4 over a matrix of out-of-fold predictions; what comes out is plain numbers.

keep  = project(P, y)
A     = augment(P[:, keep])
o_g   = predictions of meta-model g on rows that it did not learn from     (outer folds)
e_g   = error of o_g,    omega_g ~ 1 / e_g
yhat  = sum_g omega_g yhat_g,    yhat_g of a meta-model fitted on all rows
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self

import numpy as np

from stackwise.combine.regularized_meta_learning.stages.blending import (
    inverse_error_weights,
    near_the_best,
)
from stackwise.combine.regularized_meta_learning.stages.kinds import Classes, Numbers
from stackwise.combine.regularized_meta_learning.stages.matrix_checks import (
    check_matrix,
    refuse_leaks,
    usable,
)
from stackwise.combine.regularized_meta_learning.stages.meta_features import augment, feature_names
from stackwise.combine.regularized_meta_learning.stages.meta_models import (
    Member,
    OwnMember,
    check_meta,
    fit_members,
)
from stackwise.combine.regularized_meta_learning.stages.projection import (
    Projection,
    condition_number,
    project,
)
from stackwise.combine.regularized_meta_learning.time_shares import TimeShares
from stackwise.errors import DataError, KnobError, ModelError, RunError
from stackwise.tasks.labelled.folds import Folds, held_out, make_folds

FORMAT = 2
PLAIN = ("names", "classes", "errors_", "weights_", "score_", "report_", "notes_")
"""What is plain data as it is."""


class Pipeline:
    """The four stages, fitted on the out-of-fold predictions of M models.

    Args:
        names: of the models.
        knobs: see `stage_knobs`.
        classes: how many, or 0 for a number.

    Attributes (fitted):
        projection_: what stage 1 kept, by place.
        condition_: condition number of the correlation matrix of all columns, and of the kept.
        members_: the meta-models by name, fitted on all rows; none where `meta` is empty.
        errors_: error of each on rows that it did not learn from (RMSE, or log loss).
        weights_: their weights in the blend; where `meta` is empty, those of the kept models.
        oof_: blended predictions of the rows, each by meta-models that did not learn from it; NaN
            where no outer fold holds a row out.
        score_: error of `oof_`; report_: for classes its Brier score and calibration error too.
        notes_: sentences about what was dropped.
    """

    def __init__(self, names: Sequence[str], knobs: Mapping[str, Any], classes: int = 0) -> None:
        self.names = [str(name) for name in names]
        self.knobs = dict(knobs)
        self.classes = classes
        self.augmenting = {name: self.knobs[name] for name in ("statistics", "interactions")}
        self.kind = Classes(self.knobs, classes) if classes else Numbers(self.knobs)

    def fit(
        self,
        predictions: np.ndarray,
        target: np.ndarray,
        *,
        weight: np.ndarray | None = None,
        groups: np.ndarray | None = None,
        ordered: bool = False,
        seed: int = 0,
        extra: np.ndarray | None = None,
        out_of_fold: bool = False,
        few_is_fine: bool = False,
        seconds: float | None = None,
    ) -> Self:
        """Fit the four stages.

        Args:
            predictions: (n, M) numbers, or (n, M, C) probabilities, out of fold.
            target: (n,) numbers, or int64 codes.
            weight: (n,) how much each row counts.
            groups, ordered, seed: of the folds, see `make_folds`.
            extra: (n, e) further columns for the meta-models.
            out_of_fold: it is known that no model saw its own rows, however good it is.
            few_is_fine: go on, with a note, where all models are copies of one.
            seconds: that the meta-models may take; None for no limit.

        Raises:
            DataError: a column cannot be used; the sentence names it.
        """
        check_meta(self.knobs["meta"])
        predictions = np.asarray(predictions, dtype=np.float64)
        check_matrix(self.names, predictions, target)
        self.kind.settle(self.names, predictions)
        counts = np.ones(len(target)) if weight is None else weight
        risks = self._risks(predictions, target, counts)
        if not out_of_fold:
            refuse_leaks(self.names, risks)
        found = self._project(predictions, risks, target, counts)
        self.projection_, self.notes_ = usable(self.names, found, risks, few_is_fine=few_is_fine)
        kept = self.projection_.kept
        alike = self.kind.comparable(predictions)
        self.condition_ = (condition_number(alike), condition_number(alike[:, kept]))

        def folds(cv: Any, rows: np.ndarray) -> Folds:
            of = None if groups is None else groups[rows]
            return make_folds(
                cv, target[rows], by_class=self.kind.by_class, groups=of, ordered=ordered, seed=seed
            )

        def members(features: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
            """The meta-models, fitted on these rows."""
            return fit_members(
                features[rows], target[rows], folds(self.knobs["inner_cv"], rows),
                self.knobs["meta"], self.kind.solver(target[rows], counts[rows]),
                weight=None if weight is None else weight[rows], one_se=self.knobs["one_se"],
                seconds=shares.next(),
            )  # fmt: skip

        everything = np.arange(len(target))
        outer = folds(self.knobs["meta_cv"], everything)
        shares = TimeShares(len(outer) + 1, seconds)
        self.members_: dict[str, Any] = {}
        if self.knobs["meta"]:
            empty = np.full((len(target), *predictions.shape[2:]), np.nan)
            answers: dict[str, np.ndarray] = {}
            for train, held in outer:
                own = kept
                if self.knobs["honest"] and self.knobs["projection"]:
                    part = predictions[train], target[train], counts[train]
                    here = self._risks(*part)
                    own = self._project(part[0], here, *part[1:]).kept or [int(np.argmin(here))]
                features = self._features(predictions[:, own], extra)
                for name, member in members(features, train).items():
                    said = answers.setdefault(name, empty.copy())
                    said[held] = member.predict(features[held])
            features = self._features(predictions[:, kept], extra)
            self.members_ = members(features, everything)
        else:  # the base models' own predictions are out of fold already
            answers = {self.names[place]: predictions[:, place] for place in kept}
        self._blend(answers, target, held_out(outer, len(target)), counts)
        return self

    def _blend(
        self,
        answers: dict[str, np.ndarray],
        target: np.ndarray,
        judged: np.ndarray,
        weight: np.ndarray,
    ) -> None:
        truth = target[judged], weight[judged]
        errors = np.array([self.kind.error(said[judged], *truth) for said in answers.values()])
        self.errors_ = dict(zip(answers, errors.tolist(), strict=True))
        within = np.arange(len(errors)) == errors.argmin()
        if self.knobs["blend"]:
            within = near_the_best(errors, self.knobs["drop_worse"] if self.knobs["meta"] else None)
            self.notes_ += [
                f"the meta-model {name} was left out: its error {error:.5g} is more than "
                f"{self.knobs['drop_worse']:.0%} above the best ({errors.min():.5g})"
                for (name, error), fine in zip(self.errors_.items(), within, strict=True)
                if not fine
            ]
        weights = np.zeros(len(errors))
        weights[within] = inverse_error_weights(
            errors[within], sharpness=self.knobs["sharpness"], floor=self.kind.floor
        )
        self.weights_ = dict(zip(answers, weights.tolist(), strict=True))
        self.oof_ = np.asarray(sum(w * answers[name] for name, w in self.weights_.items() if w > 0))
        self.score_ = self.kind.error(self.oof_[judged], *truth)
        self.report_ = self.kind.report(self.oof_[judged], target[judged])

    def predict(self, predictions: np.ndarray, extra: np.ndarray | None = None) -> np.ndarray:
        """(n,) values or (n, C) probabilities from the predictions of all M models.

        Columns of models that were dropped are not looked at.
        """
        features = self.transform(predictions, extra)
        parts = [
            share * self.members_[name].predict(features) if self.members_
            else share * predictions[:, self.names.index(name)]
            for name, share in self.weights_.items() if share > 0
        ]  # fmt: skip
        return np.asarray(sum(parts))

    def transform(self, predictions: np.ndarray, extra: np.ndarray | None = None) -> np.ndarray:
        """The meta-features A of new rows: (n, p), or tied (n, C, p)."""
        if predictions.shape[1] != len(self.names):
            raise DataError(
                f"there are predictions of {predictions.shape[1]} models and the stack was fitted "
                f"on {len(self.names)}"
            )
        used = predictions[:, self.projection_.kept].astype(np.float64)
        finite = np.isfinite(used).reshape(*used.shape[:2], -1).all((0, 2))
        if not finite.all():
            raise DataError(
                f"the predictions of {self.kept_[int(finite.argmin())]!r} hold NaN or infinity on "
                "new rows"
            )
        return self._features(used, extra)

    def feature_names(self) -> list[str]:
        """The names of the columns of A (of one class)."""
        return feature_names(self.kept_, **self.augmenting)

    @property
    def tied_(self) -> bool:
        """Whether the classes share their weights."""
        return bool(self.kind.tied)

    @property
    def kept_(self) -> list[str]:
        """The names of the models that stayed."""
        return [self.names[place] for place in self.projection_.kept]

    @property
    def dropped_(self) -> dict[str, tuple[str, float, float] | None]:
        """For each dropped model its twin, correlation and mean squared difference.

        None for a model that was dropped because it hardly varies.
        """
        found: dict[str, Any] = dict.fromkeys(self.names[j] for j in self.projection_.flat)
        for j, (k, correlation, distance) in self.projection_.copies.items():
            found[self.names[j]] = (self.names[k], correlation, distance)
        return found

    def as_dict(self, own: Collection[str] = ()) -> dict[str, Any]:
        """The fitted pipeline as plain JSON, but for meta-models that are kept elsewhere, `own`.

        Raises:
            ModelError: another meta-model is an estimator of the user's own.
        """
        for name, member in self.members_.items():
            if isinstance(member, OwnMember) and name not in own:
                raise ModelError(
                    f"the meta-model {name!r} is an estimator of your own, which is no plain data; "
                    "use ridge, lasso or elasticnet"
                )
        told = (*self.augmenting, *(("space",) if self.classes else ()))
        return {name.rstrip("_"): getattr(self, name) for name in PLAIN} | {
            "format": FORMAT,
            "tied": self.tied_,
            "knobs": {name: self.knobs[name] for name in told},
            "kept": self.projection_.kept,
            "copies": [[j, *twin] for j, twin in self.projection_.copies.items()],
            "flat": self.projection_.flat,
            "condition": [value if np.isfinite(value) else None for value in self.condition_],
            "members": {n: m.as_dict() for n, m in self.members_.items() if n not in own},
        }

    @classmethod
    def from_dict(
        cls, record: Mapping[str, Any], own: Mapping[str, OwnMember] | None = None
    ) -> Self:
        """The inverse of `as_dict`; `own` are the meta-models that the record does not hold."""
        if record.get("format", 0) > FORMAT:
            raise RunError(
                f"the stack was written by a newer stackwise (format {record['format']})"
            )
        made = cls(record["names"], record["knobs"], record["classes"])
        made.kind.tied = record.get("tied", False)
        copies = {j: (k, corr, mse) for j, k, corr, mse in record["copies"]}
        made.projection_ = Projection(list(record["kept"]), copies, list(record["flat"]))
        before, after = (float("inf") if v is None else v for v in record["condition"])
        made.condition_ = (before, after)
        made.members_ = dict(own or {}) | {
            name: Member.from_dict(item, made.kind.by_class)
            for name, item in record["members"].items()
            if "coef" in item
        }
        for name in PLAIN:
            setattr(made, name, record.get(name.rstrip("_"), {}))
        return made

    def _features(self, predictions: np.ndarray, extra: np.ndarray | None) -> np.ndarray:
        found = augment(self.kind.values(predictions), **self.augmenting)
        if self.kind.tied:
            if extra is not None:
                raise KnobError(
                    "passthrough gives columns that belong to no class; set tied=False, or leave "
                    "it off"
                )
            return found
        found = found.reshape(len(found), -1)
        return found if extra is None else np.hstack([found, extra])

    def _risks(self, predictions: np.ndarray, target: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """(M,) the error of each model."""
        places = range(predictions.shape[1])
        return np.array([self.kind.error(predictions[:, j], target, weight) for j in places])

    def _project(
        self, predictions: np.ndarray, risks: np.ndarray, target: np.ndarray, weight: np.ndarray
    ) -> Projection:
        if not self.knobs["projection"]:
            return Projection(list(range(len(risks))))
        columns = self.kind.comparable(predictions)
        nearness, least = 1.0, 1.0
        if self.knobs["mse_units"] == "target":
            nearness, least = self.kind.units(columns, target, weight)
        return project(
            columns, risks, tau_corr=self.knobs["tau_corr"],
            nearness=np.full(len(risks), self.knobs["tau_mse"] * nearness),
            least_variance=self.knobs["tau_var"] * least,
            weight=np.repeat(weight, len(columns) // len(weight)),
        )  # fmt: skip
