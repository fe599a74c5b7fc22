"""What the target of a table is: a number, or a class. Mixed into the estimators.

A target is read once, where it enters: a missing, infinite or complex value is an error there. The
estimator then sees numbers, or the places of the classes in `classes_`.
"""

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, column_or_1d

from stackwise.catalog import Knob
from stackwise.errors import DataError, RunError, nearest


def class_knobs(
    *,
    class_weight: Annotated[
        Literal["balanced"] | dict[Any, float] | None,
        Knob("weights of the classes: balanced, or a mapping from class to weight"),
    ] = None,
) -> None:
    """The knobs of every classifier on tables."""


LARGEST, LEAST = 1e151, 1e-150
"""Of targets, and of what they vary by: the sum of their squares is a number up to a million rows.
"""
ORDINARY = (2.0**-20, 2.0**40)
"""Spreads of a target that trees and linear models take as they are."""
FAR = 2.0**20
"""A target whose mean is this many spreads away from 0 loses its digits in float32."""


def unit_of(mean: float, spread: float) -> tuple[float, float]:
    """What trees and linear models take off a target, and what they divide it by: 0 and 1, or for
    a target of unusual size its mean and a power of two. They have thresholds of absolute size, and
    some hold labels in float32.
    """
    if not spread > 0 or not np.isfinite(spread):
        return 0.0, 1.0
    shift = mean if abs(mean) > FAR * spread else 0.0
    ordinary = ORDINARY[0] <= spread <= ORDINARY[1]
    return shift, 1.0 if ordinary else 2.0 ** np.floor(np.log2(spread))


class NumberTarget(RegressorMixin):
    """The target is a number. Fitted: `target_mean_` and `target_scale_` of the training rows."""

    problem: ClassVar[str] = "regression"
    _by_class: ClassVar[bool] = False
    target_shift_: float = 0.0
    target_unit_: float = 1.0
    n_outputs_: ClassVar[int] = 1

    def _read_target(self, y: Any) -> np.ndarray:
        try:
            read = check_array(_flat_target(y), ensure_2d=False, dtype=np.float64, input_name="y")
        except (TypeError, ValueError) as error:
            raise DataError(f"the target must be finite numbers: {error}") from error
        return np.asarray(read)

    def _learn_target(self, values: np.ndarray) -> None:
        """Refuse numbers whose squares no float holds: every score of them would be 0 or none.

        Raises:
            DataError: they are too large, or vary too little.
        """
        largest, spread = float(np.abs(values).max()), float(np.ptp(values / 2))
        if largest > LARGEST:
            raise DataError(
                f"the target reaches {largest:.3g}, and its squares, by which fits are judged, are "
                "more than a computer holds; give it in a larger unit"
            )
        if 0 < spread < LEAST:
            raise DataError(
                f"the target varies by {2 * spread:.3g} alone, and squares of that are 0 to a "
                "computer; give it in a smaller unit"
            )

    def _settle_scale(self, values: np.ndarray) -> None:
        """Take mean and population standard deviation from the training rows alone."""
        spread = float(values.std())
        self.target_mean_ = float(values.mean())
        self.target_scale_ = spread if spread > 0 and np.isfinite(spread) else 1.0
        self.target_shift_, self.target_unit_ = unit_of(self.target_mean_, spread)

    def _in_unit(self, values: np.ndarray) -> np.ndarray:
        """The target as learners take it that do not standardise it themselves; see `unit_of`."""
        if (self.target_shift_, self.target_unit_) == (0.0, 1.0):
            return values
        return (values - self.target_shift_) / self.target_unit_

    def _in_own_unit(self, values: np.ndarray) -> np.ndarray:
        """The inverse of `_in_unit`, (n,) float64."""
        if (self.target_shift_, self.target_unit_) == (0.0, 1.0):
            return values
        return values * self.target_unit_ + self.target_shift_

    def _known(self, values: np.ndarray) -> np.ndarray:
        return np.ones(len(values), dtype=bool)

    def _encode(self, values: np.ndarray) -> np.ndarray:
        return values

    def _class_weights(self, values: np.ndarray) -> np.ndarray:
        return np.ones(len(values))

    def _target_json(self) -> dict[str, Any]:
        kept = {"mean": self.target_mean_, "scale": self.target_scale_}
        unit = (self.target_shift_, self.target_unit_)
        return kept if unit == (0.0, 1.0) else kept | {"shift": unit[0], "unit": unit[1]}

    def _read_target_json(self, record: dict[str, Any]) -> None:
        self.target_mean_, self.target_scale_ = record["mean"], record["scale"]
        self.target_shift_ = float(record.get("shift", 0.0))
        self.target_unit_ = float(record.get("unit", 1.0))


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

    def _in_unit(self, codes: np.ndarray) -> np.ndarray:
        return codes

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
        weights = self.class_weight
        if isinstance(weights, dict):
            weights = self._by_own_name(weights)
        weight = np.asarray(compute_sample_weight(weights, labels), dtype=np.float64)
        if not np.isfinite(weight).all() or (weight < 0).any():
            raise DataError("class_weight must be finite and not negative")
        return weight

    def _by_own_name(self, weights: dict[Any, float]) -> dict[Any, float]:
        """Weights by the classes themselves; a name from JSON or a command line is a text.

        Raises:
            DataError: a name is no class.
        """
        by_text = {str(known): known for known in self.classes_.tolist()}
        named = {}
        for name, weight in weights.items():
            if str(name) not in by_text:
                raise DataError(
                    f"class_weight names {name!r}, which is no class.{nearest(str(name), by_text)}"
                )
            named[by_text[str(name)]] = weight
        return named

    def _target_json(self) -> dict[str, Any]:
        return {"dtype": self.classes_.dtype.str, "classes": self.classes_.tolist()}

    def _read_target_json(self, record: dict[str, Any]) -> None:
        self.classes_ = classes_of_json(record["classes"], record["dtype"])


def classes_of_json(classes: Any, dtype: Any) -> np.ndarray:
    """(C,) the classes that a record lists, in the type that it names.

    Raises:
        RunError: they are no list of plain values, or the type does not fit them.
    """
    plain = (str, int, float, bool, type(None))
    if not isinstance(classes, list) or not all(isinstance(one, plain) for one in classes):
        raise RunError("the classes in the record are no list of texts and numbers")
    kind = re.fullmatch(r"\|O|[<>|=]?[biuf][1248]|\|b1|<U(\d+)|<M8\[\w+\]", str(dtype))
    longest = max((len(str(one)) for one in classes), default=0)
    if kind is None or (kind[1] and (len(kind[1]) > 9 or int(kind[1]) > max(longest, 1))):
        raise RunError(f"the record names the type {str(dtype)[:40]!r} for its classes")
    return np.array(classes, dtype=object if dtype == "|O" else np.dtype(dtype))


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
