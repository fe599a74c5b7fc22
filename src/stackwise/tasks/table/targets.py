"""What the target of a table is: a number, or a class. Mixed into the estimators.

A target is read once, where it enters: a missing, infinite or complex value is an error there. The
estimator then sees numbers, or the places of the classes in `classes_`.
"""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, column_or_1d

from stackwise.catalog import Knob
from stackwise.errors import DataError


def class_knobs(
    *,
    class_weight: Annotated[
        Literal["balanced"] | dict[Any, float] | None,
        Knob("weights of the classes: balanced, or a mapping from class to weight"),
    ] = None,
) -> None:
    """The knobs of every classifier on tables."""


class NumberTarget(RegressorMixin):
    """The target is a number. Fitted: `target_mean_` and `target_scale_` of the training rows."""

    problem: ClassVar[str] = "regression"
    _by_class: ClassVar[bool] = False
    n_outputs_: ClassVar[int] = 1

    def _read_target(self, y: Any) -> np.ndarray:
        try:
            read = check_array(_flat_target(y), ensure_2d=False, dtype=np.float64, input_name="y")
        except (TypeError, ValueError) as error:
            raise DataError(f"the target must be finite numbers: {error}") from error
        return np.asarray(read)

    def _learn_target(self, values: np.ndarray) -> None:
        """A number needs nothing before the rows are split."""

    def _settle_scale(self, values: np.ndarray) -> None:
        """Take mean and population standard deviation from the training rows alone."""
        spread = float(values.std())
        self.target_mean_ = float(values.mean())
        self.target_scale_ = spread if spread > 0 and np.isfinite(spread) else 1.0

    def _known(self, values: np.ndarray) -> np.ndarray:
        return np.ones(len(values), dtype=bool)

    def _encode(self, values: np.ndarray) -> np.ndarray:
        return values

    def _class_weights(self, values: np.ndarray) -> np.ndarray:
        return np.ones(len(values))

    def _target_json(self) -> dict[str, Any]:
        return {"mean": self.target_mean_, "scale": self.target_scale_}

    def _read_target_json(self, record: dict[str, Any]) -> None:
        self.target_mean_, self.target_scale_ = record["mean"], record["scale"]


class ClassTarget(ClassifierMixin):
    """The target is a class. Fitted: `classes_`, sorted."""

    if TYPE_CHECKING:  # what the estimator has that this is mixed into

        def __getattr__(self, name: str) -> Any: ...

    problem: ClassVar[str] = "classification"
    _by_class: ClassVar[bool] = True

    @property
    def n_outputs_(self) -> int:
        """Logits of the network: one a class, also for two."""
        return len(self.classes_)

    def predict(self, X: Any) -> np.ndarray:
        """(n,) the most probable class of each row."""
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(1)])

    def _read_target(self, y: Any) -> np.ndarray:
        labels = _flat_target(y)
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            raise DataError("Input y contains NaN or infinity; leave those rows out")
        if labels.dtype == object and pd.isna(labels).any():
            raise DataError(
                "Input y contains NaN or None: a class is missing; leave those rows out"
            )
        check_classification_targets(labels)
        return np.asarray(labels)

    def _learn_target(self, labels: np.ndarray) -> None:
        self.classes_ = np.unique(labels)
        if len(self.classes_) < 2:
            raise DataError(
                f"y holds one class ({self.classes_[0]!r}); a classifier needs at least two classes"
            )

    def _settle_scale(self, codes: np.ndarray) -> None:
        """Classes have no scale."""

    def _known(self, labels: np.ndarray) -> np.ndarray:
        return pd.Index(self.classes_).get_indexer(pd.Index(labels)) >= 0

    def _encode(self, labels: np.ndarray) -> np.ndarray:
        codes = pd.Index(self.classes_).get_indexer(pd.Index(labels))
        if (codes < 0).any():
            strange = labels[codes < 0][0]
            raise DataError(
                f"y holds the class {strange!r}, which is none of the {len(self.classes_)} of the "
                f"training rows (such as {self.classes_[0]!r})"
            )
        return codes.astype(np.int64)

    def _class_weights(self, labels: np.ndarray) -> np.ndarray:
        if self.class_weight is None:
            return np.ones(len(labels))
        return np.asarray(compute_sample_weight(self.class_weight, labels), dtype=np.float64)

    def _target_json(self) -> dict[str, Any]:
        return {"dtype": self.classes_.dtype.str, "classes": self.classes_.tolist()}

    def _read_target_json(self, record: dict[str, Any]) -> None:
        dtype = object if record["dtype"] == "|O" else np.dtype(record["dtype"])
        self.classes_ = np.array(record["classes"], dtype=dtype)


def _flat_target(y: Any) -> np.ndarray:
    """A column of any frame library, a list or an array as an (n,) array."""
    if hasattr(y, "to_pandas"):
        y = y.to_pandas()
    if isinstance(y, pd.Series | pd.DataFrame):
        y = y.to_numpy()
    flat = np.asarray(column_or_1d(y, warn=True))
    if flat.dtype.kind == "c":
        raise DataError("Complex data not supported: y holds complex numbers")
    return flat
