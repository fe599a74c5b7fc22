"""Stages 1 to 4 over a matrix of out-of-fold predictions; what comes out is plain numbers.

    keep  = project(P, y)
    A     = augment(P[:, keep])
    o_g   = predictions of meta-model g on rows that it did not learn from     (outer folds)
    e_g   = error of o_g,    omega_g ~ 1 / e_g
    yhat  = sum_g omega_g yhat_g,    yhat_g of a meta-model fitted on all rows

`NumberPipeline` (number_pipeline.py) joins numbers, `ClassPipeline` (class_pipeline.py)
probabilities.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import clone

from stackwise.combine.regularized_meta_learning.blending import (
    inverse_error_weights,
    near_the_best,
)
from stackwise.combine.regularized_meta_learning.folds import Folds, held_out
from stackwise.combine.regularized_meta_learning.meta_features import feature_names
from stackwise.combine.regularized_meta_learning.meta_models import KINDS, standardise
from stackwise.combine.regularized_meta_learning.own_members import (
    ColumnMember,
    EstimatorMember,
    flat,
)
from stackwise.combine.regularized_meta_learning.projection import (
    Projection,
    condition_number,
    project,
)
from stackwise.errors import DataError, KnobError, ModelError, RunError, nearest

FORMAT = 1
LEAKED = 1e-3
"""A model whose error is below this part of the next best has seen its own rows."""
ERROR_FLOOR = 1e-6

Inner = Callable[[np.ndarray], Folds]
"""Rows -> the inner folds of these rows, as places in them."""


class Pipeline:
    """The four stages, fitted on the out-of-fold predictions of M models.

    Attributes (fitted):
        projection_: what stage 1 kept, by place.
        condition_: condition number of the correlation matrix of all columns, and of the kept.
        members_: the meta-models by name, fitted on all rows.
        errors_: error of each on rows that it did not learn from (RMSE, or log loss).
        weights_: their weights in the blend.
        oof_: blended predictions of the rows, each by meta-models that did not learn from it; NaN
            where no outer fold holds a row out.
        score_: error of `oof_`.
        notes_: sentences about what was dropped.
    """

    by_class: ClassVar[bool]
    member_kind: ClassVar[Any]

    def __init__(self, names: Sequence[str], knobs: Mapping[str, Any], classes: int = 0) -> None:
        self.names = [str(name) for name in names]
        self.knobs = dict(knobs)
        self.classes = classes

    def fit(
        self,
        predictions: np.ndarray,
        target: np.ndarray,
        *,
        outer: Folds,
        inner: Inner,
        weight: np.ndarray | None = None,
        extra: np.ndarray | None = None,
        out_of_fold: bool = False,
        few_is_fine: bool = False,
    ) -> Self:
        """Fit the four stages.

        Args:
            predictions: (n, M) numbers, or (n, M, C) probabilities, out of fold.
            target: (n,) numbers, or int64 codes.
            outer, inner: folds that judge the meta-models, and what makes those that choose.
            extra: (n, e) further columns for the meta-models.
            out_of_fold: it is known that no model saw its own rows, however good it is.
            few_is_fine: go on, with a note, where all models are copies of one.

        Raises:
            DataError: a column cannot be used; the sentence names it.
        """
        self.notes_: list[str] = []
        predictions = np.asarray(predictions, dtype=np.float64)
        self._check(predictions, target)
        risks = self.risks(predictions, target, weight)
        if not out_of_fold:
            self._refuse_leaks(risks)
        everything = np.arange(len(target))
        self._settle(predictions, target)
        self.projection_ = self._project(predictions, risks, target, weight)
        self._judge_projection(risks, few_is_fine)
        kept = self.projection_.kept
        alike = self._comparable(predictions)
        self.condition_ = (condition_number(alike), condition_number(alike[:, kept]))
        judged = held_out(outer, len(target))
        answers: dict[str, np.ndarray] = {}
        for train, held in outer:
            own = kept
            if self.knobs["honest"] and self.knobs["projection"]:
                part = None if weight is None else weight[train]
                here = self.risks(predictions[train], target[train], part)
                found = self._project(predictions[train], here, target[train], part)
                own = found.kept or [int(np.argmin(here))]
            features = self._features(predictions[:, own], extra)
            members = self._members(features, target, train, inner, weight, own)
            for name, member in members.items():
                if name not in answers:
                    answers[name] = np.full(self._answer_shape(predictions), np.nan)
                seen = predictions if isinstance(member, ColumnMember) else features
                answers[name][held] = member.predict(seen[held])
        features = self._features(predictions[:, kept], extra)
        self.members_ = self._members(features, target, everything, inner, weight, kept)
        self._blend(answers, target, judged, weight)
        return self

    def _blend(
        self,
        answers: dict[str, np.ndarray],
        target: np.ndarray,
        judged: np.ndarray,
        weight: np.ndarray | None,
    ) -> None:
        part = None if weight is None else weight[judged]
        # blending the models as they are, a model that an outer fold dropped has no full column
        names = [name for name in self.members_ if np.isfinite(answers[name][judged]).all()]
        if not names:
            names = [name for name in self.members_ if name in answers][:1]
        self.members_ = {name: self.members_[name] for name in names}
        errors = np.array([self._error(answers[name][judged], target[judged], part)
                           for name in names])  # fmt: skip
        self.errors_ = dict(zip(names, errors.tolist(), strict=True))
        if self.knobs["blend"]:
            within = near_the_best(errors, self.knobs["drop_worse"] if self.knobs["meta"] else None)
        else:
            within = np.arange(len(errors)) == errors.argmin()
        weights = np.zeros(len(errors))
        weights[within] = inverse_error_weights(
            errors[within], sharpness=self.knobs["sharpness"],
            floor=ERROR_FLOOR if self.by_class else 0.0,
        )  # fmt: skip
        self.weights_ = dict(zip(names, weights.tolist(), strict=True))
        if self.knobs["blend"]:
            self.notes_ += [
                f"the meta-model {name} was left out: its error {error:.5g} is more than "
                f"{self.knobs['drop_worse']:.0%} above the best ({errors.min():.5g})"
                for name, error, fine in zip(names, errors, within, strict=True)
                if not fine
            ]
        self.oof_ = np.asarray(sum(w * answers[name] for name, w in self.weights_.items() if w > 0))
        self.score_ = self._error(self.oof_[judged], target[judged], part)

    def predict(self, predictions: np.ndarray, extra: np.ndarray | None = None) -> np.ndarray:
        """(n,) values or (n, C) probabilities from the predictions of all M models.

        Columns of models that were dropped are not looked at.
        """
        predictions = np.asarray(predictions, dtype=np.float64)
        if predictions.shape[1] != len(self.names):
            raise DataError(
                f"there are predictions of {predictions.shape[1]} models and the stack was fitted "
                f"on {len(self.names)}"
            )
        features = self.transform(predictions, extra)
        total: np.ndarray | None = None
        for name, share in self.weights_.items():
            if share > 0:
                member = self.members_[name]
                seen = predictions if isinstance(member, ColumnMember) else features
                part = share * member.predict(seen)
                total = part if total is None else total + part
        return np.asarray(total)

    def transform(self, predictions: np.ndarray, extra: np.ndarray | None = None) -> np.ndarray:
        """The meta-features A of new rows: (n, p), or tied (n, C, p)."""
        kept = self.projection_.kept
        used = predictions[:, kept]
        if not np.isfinite(used).all():
            place = int(np.flatnonzero(~np.isfinite(used).reshape(len(used), len(kept), -1)
                                       .all((0, 2)))[0])  # fmt: skip
            raise DataError(
                f"the predictions of {self.names[kept[place]]!r} hold NaN or infinity on new rows"
            )
        return self._features(used, extra)

    def feature_names(self) -> list[str]:
        """The names of the columns of A (of one class)."""
        kept = [self.names[place] for place in self.projection_.kept]
        return feature_names(kept, **self._augmenting())

    @property
    def kept_(self) -> list[str]:
        """The names of the models that stayed."""
        return [self.names[place] for place in self.projection_.kept]

    @property
    def dropped_(self) -> dict[str, tuple[str, float, float] | None]:
        """For each dropped model its twin, correlation and mean squared difference.

        None for a model that was dropped because it hardly varies.
        """
        found: dict[str, tuple[str, float, float] | None] = {
            self.names[j]: (self.names[k], correlation, distance)
            for j, (k, correlation, distance) in self.projection_.copies.items()
        }
        return found | {self.names[j]: None for j in self.projection_.flat}

    def as_dict(self) -> dict[str, Any]:
        """The fitted pipeline as plain JSON.

        Raises:
            ModelError: a meta-model is an estimator of the user's own.
        """
        own = [
            name for name, member in self.members_.items() if isinstance(member, EstimatorMember)
        ]
        if own:
            raise ModelError(
                f"the meta-model {own[0]!r} is an estimator of your own, which is no plain data; "
                "use ridge, lasso or elasticnet"
            )
        return self._record() | {
            "members": {name: member.as_dict() for name, member in self.members_.items()}
        }

    def _record(self) -> dict[str, Any]:
        """All but the meta-models."""
        return {
            "format": FORMAT,
            "names": self.names,
            "classes": self.classes,
            "knobs": {
                name: self.knobs[name]
                for name in (*self._augmenting(), *(("space",) if self.by_class else ()))
            },
            "kept": self.projection_.kept,
            "copies": [[j, *twin] for j, twin in self.projection_.copies.items()],
            "flat": self.projection_.flat,
            "condition": [value if np.isfinite(value) else None for value in self.condition_],
            "errors": self.errors_,
            "weights": self.weights_,
            "score": self.score_,
            "notes": self.notes_,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], members: Mapping[str, Any] | None = None) -> Self:
        """The inverse of `as_dict`; `members` are those that the record does not hold."""
        if record.get("format", 0) > FORMAT:
            raise RunError(
                f"the stack was written by a newer stackwise (format {record['format']})"
            )
        made = cls(record["names"], record["knobs"], record["classes"])
        copies = {j: (k, corr, mse) for j, k, corr, mse in record["copies"]}
        made.projection_ = Projection(list(record["kept"]), copies, list(record["flat"]))
        before, after = (float("inf") if v is None else v for v in record["condition"])
        made.condition_ = (before, after)
        made.members_ = dict(members or {}) | {
            name: ColumnMember(item["place"])
            if "place" in item
            else cls.member_kind.from_dict(item)
            for name, item in record.get("members", {}).items()
        }
        made.errors_, made.weights_ = dict(record["errors"]), dict(record["weights"])
        made.score_, made.notes_ = record["score"], list(record["notes"])
        made._read_own(record)
        return made

    def _read_own(self, record: Mapping[str, Any]) -> None:
        """What a subclass keeps beside."""

    def _augmenting(self) -> dict[str, bool]:
        return {name: self.knobs[name] for name in ("statistics", "interactions")}

    def _check(self, predictions: np.ndarray, target: np.ndarray) -> None:
        rows, models = predictions.shape[:2]
        if models != len(self.names):
            raise DataError(
                f"there are {models} columns of predictions and {len(self.names)} names"
            )
        if rows != len(target):
            raise DataError(
                f"the out-of-fold predictions have {rows} rows and y has {len(target)}; they must "
                "be of the same rows"
            )
        finite = np.isfinite(predictions.reshape(rows, models, -1)).all((0, 2))
        if not finite.all():
            raise DataError(
                f"the predictions of {self.names[int((~finite).argmax())]!r} hold NaN or infinity; "
                "every row needs a prediction of every model"
            )
        known = (*KINDS,)
        for item in self.knobs["meta"]:
            if isinstance(item, str) and item not in known:
                raise KnobError(f"there is no meta-model {item!r}.{nearest(item, known)}")
            if not isinstance(item, str) and not hasattr(item, "fit"):
                raise KnobError(f"a meta-model is a name or an estimator, not {item!r}")

    def _refuse_leaks(self, risks: np.ndarray) -> None:
        if len(risks) < 2:
            return
        first, second = np.argsort(risks, kind="stable")[:2]
        if risks[first] < LEAKED * risks[second]:
            raise DataError(
                f"column {self.names[first]!r} predicts its own training rows: not out-of-fold? "
                f"(its error {risks[first]:.3g} is less than a thousandth of the next best, "
                f"{risks[second]:.3g}); if it is that good, use it alone"
            )

    def _project(
        self,
        predictions: np.ndarray,
        risks: np.ndarray,
        target: np.ndarray,
        weight: np.ndarray | None,
    ) -> Projection:
        if not self.knobs["projection"]:
            return Projection(list(range(len(risks))))
        columns = self._comparable(predictions)
        rows = None if weight is None else np.repeat(weight, len(columns) // len(weight))
        nearness, least = self._units(columns, target, weight, rows)
        return project(
            columns, risks, tau_corr=self.knobs["tau_corr"],
            nearness=self.knobs["tau_mse"] * nearness,
            least_variance=self.knobs["tau_var"] * least, weight=rows,
        )  # fmt: skip

    def _judge_projection(self, risks: np.ndarray, few_is_fine: bool) -> None:
        found = self.projection_
        self.notes_ += [
            f"{self.names[place]} was dropped: its predictions hardly vary" for place in found.flat
        ]
        best = int(np.argmin(risks))
        if len(found.kept) >= 2 or len(risks) == 1:
            if not found.kept:
                self.projection_ = Projection([0], {}, [])
            return
        if found.kept:
            left = self.names[found.kept[0]]
            what = (
                f"all {len(risks)} base models are near-copies of {left!r}"
                if not found.flat
                else f"only {left!r} of {len(risks)} base models is no near-copy and not constant"
            )
        else:
            left, what = self.names[best], f"none of the {len(risks)} base models varies"
            self.projection_ = Projection([best], {}, [j for j in found.flat if j != best])
        if not few_is_fine:
            raise DataError(
                f"{what}; raise tau_corr, lower tau_mse, or use that model alone"
                if found.kept
                else f"{what}; lower tau_var, or use other models"
            )
        self.notes_.append(f"{what}: the stack is of {left!r} alone")

    def _members(
        self,
        features: np.ndarray,
        target: np.ndarray,
        rows: np.ndarray,
        inner: Inner,
        weight: np.ndarray | None,
        kept: list[int],
    ) -> dict[str, Any]:
        """The meta-models, fitted on these rows."""
        part = None if weight is None else weight[rows]
        kinds = [item for item in self.knobs["meta"] if isinstance(item, str)]
        members: dict[str, Any] = {}
        if kinds:
            members = self._fit_kinds(features[rows], target[rows], inner(rows), kinds, part)
        for item in self.knobs["meta"]:
            if not isinstance(item, str):
                standard, mean, scale = standardise(flat(features[rows]), part)
                fitted = clone(item).fit(
                    standard, target[rows], **({} if part is None else {"sample_weight": part})
                )
                name, count = type(item).__name__.lower(), 2
                while name in members:
                    name, count = f"{type(item).__name__.lower()}-{count}", count + 1
                members[name] = EstimatorMember(fitted, mean, scale, self.by_class)
        if not self.knobs["meta"]:
            return {self.names[place]: ColumnMember(place) for place in kept}
        return members

    # what numbers and classes do differently

    def _settle(self, predictions: np.ndarray, target: np.ndarray) -> None:
        """Decide what depends on the size of the data."""

    def risks(
        self, predictions: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None
    ) -> np.ndarray:
        """(M,) the error of each model."""
        return np.array(
            [
                self._error(predictions[:, place], target, weight)
                for place in range(predictions.shape[1])
            ]
        )

    def _error(
        self, prediction: np.ndarray, target: np.ndarray, weight: np.ndarray | None
    ) -> float:
        raise NotImplementedError

    def _comparable(self, predictions: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _units(
        self,
        columns: np.ndarray,
        target: np.ndarray,
        weight: np.ndarray | None,
        rows: np.ndarray | None,
    ) -> tuple[np.ndarray, float]:
        raise NotImplementedError

    def _features(self, predictions: np.ndarray, extra: np.ndarray | None) -> np.ndarray:
        raise NotImplementedError

    def _answer_shape(self, predictions: np.ndarray) -> tuple[int, ...]:
        raise NotImplementedError

    def _fit_kinds(
        self,
        features: np.ndarray,
        target: np.ndarray,
        inner: Folds,
        kinds: list[str],
        weight: np.ndarray | None,
    ) -> dict[str, Any]:
        raise NotImplementedError
