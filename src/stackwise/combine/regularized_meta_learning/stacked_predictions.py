"""Join predictions that are there already: columns of a file, or the runs of a comparison.

    stack = StackedPredictions().fit({"tabm": p1, "mlp": p2, "linear": p3}, y)
    stack.predict({"tabm": q1, "mlp": q2, "linear": q3})

Each model has predicted rows that it did not learn from (out of fold, or a validation part); the
four stages are fitted on them, and join the same models' predictions of other rows. No base model
is needed, and what is fitted is plain JSON.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from sklearn.utils.multiclass import type_of_target

from stackwise.combine.regularized_meta_learning.stage_knobs import class_stage_knobs, stage_knobs
from stackwise.combine.regularized_meta_learning.stages.pipeline import Pipeline
from stackwise.errors import DataError, RunError, nearest
from stackwise.files import believing, read_json, write_json
from stackwise.knobs import check_values, knobs_of
from stackwise.seals import check_seal, sealed

Predictions = Mapping[str, Any] | pd.DataFrame | np.ndarray
"""(n,) numbers or (n, C) probabilities by name; or an (n, M) or (n, M, C) array, or a frame."""
SPECS = knobs_of(stage_knobs) | knobs_of(class_stage_knobs)


class StackedPredictions:
    """The four stages over named predictions.

    Args:
        problem: regression or classification; auto takes the predictions' shape: (n, C) a model,
            or text labels, or probabilities of the second of two classes, are classes.
        classes: in the order of the probabilities' columns; by default sorted.
        random_state: the seed of the folds.
        knobs: those of the four stages, see `stage_knobs`.

    Attributes (fitted):
        pipeline_: the stages; `kept_`, `dropped_`, `weights_`, `errors_`, `score_` and `notes_` are
            there.
        names_: the models in their order; classes_: (C,), of a classification.
    """

    def __init__(
        self,
        *,
        problem: Literal["auto", "regression", "classification"] = "auto",
        classes: Sequence[Any] | None = None,
        random_state: int = 0,
        **knobs: Any,
    ) -> None:
        self.problem = problem
        self.classes = classes
        self.random_state = random_state
        defaults = {name: spec.default for name, spec in SPECS.items()}
        self.knobs = defaults | check_values("StackedPredictions", SPECS, knobs)

    def fit(
        self,
        predictions: Predictions,
        y: Any,
        *,
        sample_weight: Any = None,
        groups: Any = None,
        ordered: bool = False,
        few_is_fine: bool = False,
        seconds: float | None = None,
    ) -> Self:
        """Fit the stages on predictions of rows that the models did not learn from.

        Args:
            predictions: of each model, for the same n rows.
            y: (n,) the rows' targets.
            groups: (n,) rows of one group are never parted.
            ordered: rows are in the order of time, and are predicted from earlier ones alone.
            few_is_fine: go on, with a note, where all models are copies of one.
            seconds: that the meta-models may take; None for no limit.

        Raises:
            DataError: a model's predictions cannot be used; it is named.
        """
        target = np.asarray(y)
        names, found = _stacked(predictions, None)
        self.names_ = names
        self.by_class_ = self._is_by_class(found, target)
        if self.by_class_:
            self.classes_ = np.unique(target) if self.classes is None else np.asarray(self.classes)
            found = self._probabilities(found)
            place = pd.Index(self.classes_).get_indexer(pd.Index(target))
            if (place < 0).any():
                raise DataError(
                    f"y holds the class {target[place < 0][0]!r}, which is none of "
                    f"{self.classes_.tolist()}"
                )
            target = place.astype(np.int64)
        else:
            target = target.astype(np.float64)
            if not np.isfinite(target).all():
                raise DataError("y holds NaN or infinity; leave those rows out")
        weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        classes = len(self.classes_) if self.by_class_ else 0
        self.pipeline_ = Pipeline(names, self.knobs, classes).fit(
            found, target, weight=None if weight is None else weight / weight.mean(),
            groups=None if groups is None else np.asarray(groups), ordered=ordered,
            seed=self.random_state, few_is_fine=few_is_fine, seconds=seconds,
        )  # fmt: skip
        return self

    def predict(self, predictions: Predictions) -> np.ndarray:
        """(n,) numbers, or labels: the most probable class."""
        joined = self._joined(predictions)
        return self.classes_[joined.argmax(1)] if self.by_class_ else joined

    def predict_proba(self, predictions: Predictions) -> np.ndarray:
        """(n, C) probabilities, in the order of `classes_`."""
        if not self.by_class_:
            raise DataError("the stack predicts a number, which has no probabilities; use predict")
        return self._joined(predictions)

    @property
    def kept_(self) -> list[str]:
        """The models whose predictions are needed."""
        return self.pipeline_.kept_

    def as_dict(self) -> dict[str, Any]:
        """The fitted stack as plain JSON.

        Raises:
            ModelError: a meta-model is an estimator of the user's own.
        """
        return {
            "problem": "classification" if self.by_class_ else "regression",
            "classes": self.classes_.tolist() if self.by_class_ else None,
            "random_state": self.random_state,
            "pipeline": self.pipeline_.as_dict(),
        }

    def save(self, path: Path | str) -> None:
        """Write the fitted stack as one JSON file."""
        write_json(Path(path), sealed(self.as_dict()))

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote; predictions are the same to the bit.

        Raises:
            RunError: the file is missing, damaged, or no stack.
        """
        record = read_json(Path(path))
        if not isinstance(record, dict) or "pipeline" not in record:
            raise RunError(f"{path} holds no stack of predictions")
        with believing(Path(path)):
            made = cls(
                problem=record["problem"], classes=record["classes"],
                random_state=record["random_state"],
            )  # fmt: skip
            made.by_class_ = record["problem"] == "classification"
            if made.by_class_:
                made.classes_ = np.asarray(record["classes"])
            made.pipeline_ = Pipeline.from_dict(record["pipeline"])
            made.names_ = made.pipeline_.names
        check_seal(Path(path), record)
        return made

    def _joined(self, predictions: Predictions) -> np.ndarray:
        if not hasattr(self, "pipeline_"):
            raise RunError("this stack is not fitted yet; call fit first")
        _, found = _stacked(predictions, self.names_, self.kept_)
        return self.pipeline_.predict(self._probabilities(found) if self.by_class_ else found)

    def _is_by_class(self, found: np.ndarray, target: np.ndarray) -> bool:
        if self.problem != "auto":
            return self.problem == "classification"
        if found.ndim == 3 or target.dtype.kind not in "fiu" or self.classes is not None:
            return True
        known = found[np.isfinite(found)]
        within = bool(len(known)) and known.min() >= 0 and known.max() <= 1
        return within and type_of_target(target) == "binary"

    def _probabilities(self, found: np.ndarray) -> np.ndarray:
        """(n, M, C), from (n, M) probabilities of the second class where there are two."""
        classes = len(self.classes_)
        if found.ndim == 2 and classes == 2:
            found = np.stack([1 - found, found], axis=-1)
        if found.ndim == 2 or found.shape[-1] != classes:
            shape = "(n,)" if found.ndim == 2 else f"(n, {found.shape[-1]})"
            raise DataError(
                f"y has {classes} classes: each model needs (n, {classes}) probabilities, "
                f"not {shape}"
            )
        return found


@dataclass(frozen=True)
class StackResult:
    """What `stack_predictions` gives.

    Attributes:
        prediction: (n',) numbers or (n', C) probabilities of the new rows; None without them.
        oof: the same of the given rows, each by meta-models that did not learn from it.
        score: RMSE or log loss of `oof`.
        stack: what joins further rows.
    """

    prediction: np.ndarray | None
    oof: np.ndarray
    score: float
    stack: StackedPredictions


def stack_predictions(
    oof: Predictions, y: Any, new: Predictions | None = None, **knobs: Any
) -> StackResult:
    """Join out-of-fold predictions that you already hold.

    Args:
        oof: (n, M) numbers or (n, M, C) probabilities, as an array, a frame or by name; no model
            may have seen the target of a row that it predicts.
        y: (n,) targets.
        new: the same models' predictions of new rows.
        knobs: of `StackedPredictions`: those of the four stages, `groups`, `sample_weight`,
            `ordered`, `problem`, `classes` and `random_state`.

    Raises:
        DataError: a column cannot be used, or the new predictions are of other models.
    """
    of_fit = {
        name: knobs.pop(name) for name in ("groups", "sample_weight", "ordered") if name in knobs
    }
    stack = StackedPredictions(**knobs).fit(oof, y, **of_fit)
    prediction = None if new is None else stack._joined(new)
    return StackResult(prediction, stack.pipeline_.oof_, stack.pipeline_.score_, stack)


def _stacked(
    predictions: Predictions, known: list[str] | None, needed: Sequence[str] = ()
) -> tuple[list[str], np.ndarray]:
    """Names, and predictions as (n, M) or (n, M, C); by name in the order of `known`."""
    if isinstance(predictions, np.ndarray):
        if predictions.ndim not in (2, 3):
            raise DataError(
                f"predictions must be (n, M) or (n, M, C), not of {predictions.ndim} dimensions"
            )
        return known or [f"model {j}" for j in range(predictions.shape[1])], predictions
    by_name = {str(name): np.asarray(predictions[name]) for name in predictions}
    names = known or list(by_name)
    missing = [name for name in needed if name not in by_name]
    strange = [name for name in by_name if name not in names]
    if not by_name:
        raise DataError("there are no predictions to join")
    if missing:
        raise DataError(
            f"the predictions of {missing[0]!r} are missing.{nearest(missing[0], by_name)}"
        )
    if strange:
        raise DataError(f"the stack was not fitted on {strange[0]!r}.{nearest(strange[0], names)}")
    (first, shape), *others = ((name, values.shape) for name, values in by_name.items())
    for name, other in others:
        if other != shape:
            raise DataError(
                f"the predictions of {name!r} have shape {other}, those of {first!r} {shape}; they "
                "must be of the same rows"
            )
    empty = np.zeros(shape)  # a dropped model's place, which is not looked at
    return names, np.stack([by_name.get(name, empty) for name in names], axis=1).astype(np.float64)
