"""The four stages as scikit-learn estimators over any base models.

    StackingRegressor(estimators)  ->  RegularizedStackingRegressor(estimators)

means the same thing: base models are cross-validated, and the meta-models learn from what they
said of rows that they had not seen. Only the kept base models are then fitted on all rows.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from sklearn.base import MetaEstimatorMixin, TransformerMixin, clone
from sklearn.model_selection import TimeSeriesSplit
from sklearn.utils import Bunch, get_tags, indexable
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import (
    _num_samples,
    check_array,
    check_is_fitted,
    validate_data,
)

from stackwise.catalog import check_knobs
from stackwise.combine.regularized_meta_learning.base_models import base_models
from stackwise.combine.regularized_meta_learning.kept import read_stack, refuse_unkept, write_stack
from stackwise.combine.regularized_meta_learning.out_of_fold import (
    Reader,
    fit_one,
    out_of_fold,
    warn_of_labels,
)
from stackwise.combine.regularized_meta_learning.stage_knobs import class_stage_knobs, stage_knobs
from stackwise.combine.regularized_meta_learning.stages.pipeline import Pipeline
from stackwise.errors import DataError, KnobError
from stackwise.knobs import knobs_of
from stackwise.learning.labelled_rows import read_labels, read_weight
from stackwise.learning.learner import seed_of
from stackwise.tasks.labelled.folds import make_folds
from stackwise.tasks.table.estimators.kept import computing_with
from stackwise.training.session import current_session


@dataclass(frozen=True)
class Rows:
    """The rows of a fit: whatever the base models take, (n,) targets, weights and groups."""

    X: Any
    target: np.ndarray
    weight: np.ndarray | None
    groups: np.ndarray | None


def _of_pipeline(name: str, what: str) -> property:
    return property(lambda stack: getattr(stack.pipeline_, name), doc=what)


class RegularizedStacking(TransformerMixin, MetaEstimatorMixin, _BaseComposition):
    """Base models joined by regularised meta-learning.

    Attributes (fitted):
        pipeline_: the four stages, fitted; see `pipeline.Pipeline`.
        estimators_, named_estimators_: the kept base models, fitted on all rows (with
            `refit=False` lists of the models of the folds).
        oof_: (n, M) or (n, M, C) out-of-fold predictions of the base models.
        notes_: what a reader of the result should know.
    """

    tasks: ClassVar[tuple[str, ...]] = ("table",)
    budget: ClassVar[str | None] = "cv"
    _by_class: ClassVar[bool]

    if TYPE_CHECKING:  # knobs are written by the catalog, targets are mixed in

        def __getattr__(self, name: str) -> Any: ...

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        groups: Any = None,
        validation: tuple[Any, Any] | None = None,
        metric: Any = None,
    ) -> Self:
        """Cross-validate the base models, join what they said, and fit the kept ones.

        Args:
            X: (n, ...) whatever the base models take; given to them as it is.
            y: (n,) target.
            sample_weight: (n,) how much each row counts; every base model must take it.
            groups: (n,) rows of one group are never parted, by no fold.
            validation: not looked at: rows that judge a run stay unseen.
            metric: not looked at: base models stop, and meta-models are blended, by their loss.

        Raises:
            DataError: nothing can be learned from this input; the sentence says why.
            KnobError: a knob is out of range.
        """
        check_knobs(self, self.get_params(deep=False))
        self.seed_ = seed_of(self.random_state)
        self.notes_: list[str] = []
        X, count = self._read_rows(X, fit=True)
        labels = read_labels(self, y, count)
        weight = None
        if sample_weight is not None:
            weight = read_weight(sample_weight, count)
            weight = weight / weight.mean()
        self._learn_target(labels)
        target = self._encode(labels)
        self._settle_scale(target)
        rows = Rows(X, target, weight, None if groups is None else np.asarray(groups))
        models = base_models(
            self.estimators, by_class=self._by_class, seed=self.seed_, threads=self.threads
        )
        meta = self.meta if self.final_estimator is None else [self.final_estimator]
        if current_session().folder is not None:
            refuse_unkept(models, meta)
        with computing_with(self.threads):
            fold_models = self._first_level(rows, models)
            late = [name for name in models if name not in self.readers_]
            if late:
                self.notes_.append(
                    f"the time limit left out {len(late)} of {len(models)} base models: "
                    + ", ".join(late)
                )
            self._second_level(rows, meta)
            self.estimators_: list[Any] = [
                models[name] if isinstance(self.cv, str)
                else fold_models[name] if fold_models
                else fit_one(name, clone(models[name]), X, target, weight)
                for name in self.kept_
            ]  # fmt: skip
        self.named_estimators_ = Bunch(**dict(zip(self.kept_, self.estimators_, strict=True)))
        return self

    def _first_level(self, rows: Rows, models: dict[str, Any]) -> dict[str, list[Any]]:
        """Ask all base models out of fold. Returns the models of the folds where they are kept."""
        by_class = self._by_class
        self.readers_ = {
            name: Reader.of(name, model, self.stack_method, by_class)
            for name, model in models.items()
        }
        warn_of_labels(self.readers_, by_class)
        if isinstance(self.cv, str):
            if self.cv != "prefit":
                raise KnobError(f"cv is a number, a splitter or 'prefit', not {self.cv!r}")
            found = []
            for name, model in models.items():
                check_is_fitted(model)
                said = self.readers_[name].ask(model, rows.X)
                self.readers_[name] = self.readers_[name].settled([said])
                found.append(self._answers(name, model, said))
            self.oof_ = np.stack(found, axis=1)
            return {}
        folds = make_folds(
            self.cv, rows.target, by_class=by_class, groups=rows.groups, seed=self.seed_, X=rows.X
        )
        self.oof_, self.readers_, kept = out_of_fold(
            models, self.readers_, rows.X, rows.target, folds, weight=rows.weight,
            classes=len(self.classes_) if by_class else 0, n_jobs=self.n_jobs,
            keep_models=not self.refit, labels=self.classes_ if by_class else None,
        )  # fmt: skip
        return kept

    def _answers(self, name: str, model: Any, said: np.ndarray) -> np.ndarray:
        """What a model said as numbers or as probabilities of `classes_`."""
        if not self._by_class:
            return self.readers_[name].read(said, np.empty(0), 0)
        own = np.asarray(model.classes_)
        count = len(self.classes_)
        if len(own) != count or not (
            np.array_equal(own, self.classes_) or np.array_equal(own, np.arange(count))
        ):
            raise DataError(
                f"the estimator {name!r} was fitted on the classes {own.tolist()} and y holds "
                f"{self.classes_.tolist()}"
            )
        return self.readers_[name].read(said, own, count)

    def _second_level(self, rows: Rows, meta: Sequence[Any]) -> None:
        """The four stages on the rows that were held out."""
        known = ~np.isnan(self.oof_.reshape(len(self.oof_), -1)).all(1)
        if not known.all():
            self.notes_.append(
                f"{int((~known).sum())} rows that no fold holds out were left out of the "
                "meta-models' rows"
            )
        names = [*knobs_of(stage_knobs), *(knobs_of(class_stage_knobs) if self._by_class else ())]
        knobs = {name: getattr(self, name) for name in names} | {"meta": meta}
        weight, groups, extra = (
            None if part is None else part[known]
            for part in (rows.weight, rows.groups, self._passed(rows.X))
        )
        classes = len(self.classes_) if self._by_class else 0
        self.pipeline_ = Pipeline(list(self.readers_), knobs, classes).fit(
            self.oof_[known], rows.target[known], weight=weight, groups=groups, extra=extra,
            ordered=isinstance(self.cv, TimeSeriesSplit), seed=self.seed_,
            out_of_fold=not isinstance(self.cv, str), few_is_fine=self.estimators is None,
            seconds=self._seconds_to_join(),
        )  # fmt: skip
        self.notes_ += self.pipeline_.notes_

    def _seconds_to_join(self) -> float | None:
        """What a limit leaves the meta-models: half, where kept base models are fitted again."""
        left = current_session().seconds_left()
        return left if left is None or not self.refit else left / 2

    def base_predictions(self, X: Any) -> np.ndarray:
        """What the kept base models say of new rows.

        Returns:
            (n, M) numbers or (n, M, C) probabilities; zeros in the columns of dropped models.
        """
        X, rows = self._read_rows(X, fit=False)
        names = self.pipeline_.names
        shape = (rows, len(names), *((len(self.classes_),) if self._by_class else ()))
        found = np.zeros(shape)
        with computing_with(self.threads):
            for name, models in zip(self.kept_, self.estimators_, strict=True):
                each = models if isinstance(models, list) else [models]
                parts = [
                    self._answers(name, model, self.readers_[name].ask(model, X)) for model in each
                ]
                found[:, names.index(name)] = sum(parts[1:], parts[0]) / len(parts)
        return found

    def transform(self, X: Any) -> np.ndarray:
        """The meta-features A of new rows, (n, p); tied classes one after the other."""
        check_is_fitted(self, "pipeline_")
        found = self.pipeline_.transform(self.base_predictions(X), self._passed(X))
        return np.asarray(found.reshape(len(found), -1))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The names of what `transform` returns."""
        check_is_fitted(self, "pipeline_")
        names = self.pipeline_.feature_names()
        if self._by_class and len(self.classes_) > 2:
            names = [f"{name} of {label}" for label in self.classes_ for name in names]
        if self.passthrough:
            count = self.n_features_in_
            names += list(getattr(self, "feature_names_in_", [f"x{i}" for i in range(count)]))
        return np.array(names, dtype=object)

    def _joined(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "pipeline_")
        return self.pipeline_.predict(self.base_predictions(X), self._passed(X))

    kept_ = _of_pipeline("kept_", "The names of the base models that stayed.")
    dropped_ = _of_pipeline("dropped_", "Twin, correlation, squared difference of each other one.")
    condition_ = _of_pipeline("condition_", "Condition number before and after stage 1.")
    meta_ = _of_pipeline("members_", "The meta-models by name.")
    weights_ = _of_pipeline("weights_", "The weights of the meta-models in the blend.")
    errors_ = _of_pipeline("errors_", "The errors of the meta-models, out of fold.")
    score_oof_ = _of_pipeline("score_", "The error of the blend, out of fold.")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Knobs, and with `deep` those of the base models as `name__knob`."""
        return dict(self._get_params("estimators", deep=deep and _pairs(self.estimators)))

    def set_params(self, **params: Any) -> Self:
        """Set knobs, base models by their names (or "drop"), and their knobs as `name__knob`."""
        if "estimators" in params:
            self.estimators = params.pop("estimators")
        if _pairs(self.estimators):
            self._set_params("estimators", **params)
        else:  # names alone have no knobs
            super().set_params(**params)
        return self

    def save(self, folder: Path | str) -> None:
        """Write the fitted stack into `folder`, as data only (JSON, safetensors, skops).

        Raises:
            ModelError: a base model cannot be kept so; it is named.
        """
        check_is_fitted(self, "pipeline_")
        write_stack(self, Path(folder))

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read back what `save` wrote; its predictions are the same to the bit.

        `estimators` is then the list of the kept ones.

        Raises:
            RunError: a file is missing, damaged, of a newer format or of another estimator.
        """
        made: Self = read_stack(cls, Path(folder))
        return made

    def _read_rows(self, X: Any, *, fit: bool) -> tuple[Any, int]:
        """X as rows that can be picked, and how many. It is the base models that read them."""
        if isinstance(X, np.ndarray) and X.ndim == 1 and X.dtype.kind in "fiub":
            raise DataError(
                f"Expected 2D array, got 1D array instead: X has shape {X.shape}. Reshape your "
                "data to (n, d), with a row a sample"
            )
        names = list(getattr(self, "feature_names_in_", []))
        if not fit and names and set(names) < set(getattr(X, "columns", [])):
            X = X[names]  # a file often has more columns, such as the target
        if hasattr(X, "shape") or hasattr(X, "columns"):
            try:
                validate_data(self, X, skip_check_array=True, reset=fit)
            except ValueError as error:
                raise DataError(str(error)) from error
        (X,) = indexable(X)
        rows = int(_num_samples(X))
        if not rows:
            raise DataError("X has no rows (0 sample(s)); at least 1 is needed")
        return X, rows

    def _passed(self, X: Any) -> np.ndarray | None:
        if not self.passthrough:
            return None
        try:
            return np.asarray(check_array(X, dtype=np.float64))
        except (TypeError, ValueError) as error:
            raise DataError(f"passthrough needs X to be finite numbers: {error}") from error

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        with contextlib.suppress(Exception):  # a list that is no list is refused by fit
            each = [
                get_tags(model)
                for model in base_models(
                    self.estimators, by_class=self._by_class, seed=0, threads=None
                ).values()
            ]
            for what in ("allow_nan", "sparse", "string", "categorical"):
                setattr(tags.input_tags, what, all(getattr(t.input_tags, what) for t in each))
        return tags


def _pairs(estimators: Any) -> bool:
    """Whether all base models are (name, estimator) pairs, which have knobs of their own."""
    return isinstance(estimators, (list, tuple)) and all(
        isinstance(item, (tuple, list)) and len(item) == 2 for item in estimators
    )
