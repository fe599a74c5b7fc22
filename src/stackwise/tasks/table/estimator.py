"""What every estimator on a table shares: its input, its target, its validation rows, its files.

An estimator takes pandas or polars frames and arrays, learns from the training rows a
`FeatureContract` that says what the columns hold, and keeps it. Subclasses say what to do with the
features (`_fit_parts`, `_predict_arrays`) and how their own state is kept (`_write`, `_read`);
`NumberTarget` and `ClassTarget` (targets.py) say what the target is.
"""

import numbers
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import (
    check_is_fitted,
    validate_data,
)

from stackwise.catalog import Knob, check_knobs
from stackwise.errors import DataError, RunError
from stackwise.files import read_json, read_tensors, write_json, write_tensors
from stackwise.tasks.table.contract import (
    FeatureContract,
    TableArrays,
    UnseenCategories,
)
from stackwise.tasks.table.source import as_frame

if TYPE_CHECKING:
    from stackwise.tasks.table.metrics import Metric

FORMAT = 1


def table_knobs(
    *,
    validation: Annotated[
        float, Knob("part of the rows that decides when to stop; 0 = none", ge=0, lt=1)
    ] = 0.2,
    preprocess: Annotated[
        Literal["quantile", "standard"] | None, Knob("how numbers are scaled")
    ] = "quantile",
) -> None:
    """The knobs of every neural learner on tables."""


@dataclass
class Part:
    """Rows of a table, ready to learn from.

    Attributes:
        frame: the rows as they came in.
        target: (n,) float64 values, or int64 places in `classes_`.
        weight: (n,) float64, how much each row counts.
    """

    frame: pd.DataFrame | np.ndarray
    target: np.ndarray
    weight: np.ndarray

    def take(self, rows: np.ndarray) -> "Part":
        """These rows."""
        frame = self.frame
        taken = frame[rows] if isinstance(frame, np.ndarray) else frame.iloc[rows]
        return Part(taken, self.target[rows], self.weight[rows])


class TableEstimator(BaseEstimator):
    """An estimator on the columns of a table.

    Fitted attributes: `contract_` (what was learned about the columns), `n_features_in_`,
    `feature_names_in_` where the columns have names, `seed_`, `notes_` (what a reader of the result
    should know).
    """

    _watched: "Metric | None" = None

    if TYPE_CHECKING:  # knobs are written by the catalog, targets are mixed in

        def __getattr__(self, name: str) -> Any: ...

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        validation: tuple[Any, Any] | None = None,
        metric: "Metric | None" = None,
    ) -> Self:
        """Learn from the rows of `X`.

        Args:
            X: (n, d) pandas or polars frame, or array.
            y: (n,) target.
            sample_weight: (n,) how much each row counts; rows of weight 0 are left out.
            validation: (X, y) that decide when to stop, in place of a part of the rows.
            metric: the score that a network's early stopping watches; by default its loss, which is
                smoother. Trees and linear models stop by their loss.

        Raises:
            DataError: nothing can be learned from this input; the sentence says why.
            KnobError: a knob is out of range.
        """
        check_knobs(self, self.get_params(deep=False))
        self.seed_ = seed_of(self.random_state)
        self._watched = metric
        frame = self._read_table(X, fit=True)
        labels = read_labels(self, y, len(frame))
        weight = read_weight(sample_weight, len(labels))
        self.notes_: list[str] = []
        self._learn_target(labels[weight > 0])
        rows = np.flatnonzero(weight > 0)
        known = Part(frame, np.empty(len(labels)), weight).take(rows)
        known.target = self._encode(labels[rows])
        known.weight = known.weight * self._class_weights(labels[rows])
        train, held = self._split(known, validation)
        self._settle_scale(train.target)
        self.contract_ = FeatureContract().fit(
            train.frame, seed=self.seed_, **self._contract_options()
        )
        self._fit_parts(train, held)
        return self

    def transform_columns(self, X: Any) -> TableArrays:
        """Read a table as it was read in training."""
        check_is_fitted(self, "contract_")
        return self.contract_.transform(self._read_table(X, fit=False))

    def trained_part(self, X: Any, y: Any) -> Part:
        """The rows of `X` and `y`, read as a fitted estimator reads them."""
        check_is_fitted(self, "contract_")
        frame, labels = self._rows(X, y)
        return Part(frame, self._encode(labels), self._class_weights(labels))

    def save(self, folder: Path | str) -> None:
        """Write the fitted estimator into `folder`, as data only (JSON, safetensors, skops)."""
        check_is_fitted(self, "contract_")
        folder = Path(folder)
        contract, tensors = self.contract_.to_json()
        write_tensors(folder / "features.safetensors", tensors)
        own = self._write(folder)
        record = {
            "format": FORMAT,
            "class": type(self).__name__,
            "knobs": {name: _knob_json(v) for name, v in self.get_params(deep=False).items()},
            "features_in": self.n_features_in_,
            "names_in": list(getattr(self, "feature_names_in_", [])) or None,
            "seed": self.seed_,
            "notes": self.notes_,
            "target": self._target_json(),
            "contract": contract,
        }
        write_json(folder / "model.json", record | own)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read back what `save` wrote; its predictions are the same to the bit.

        Raises:
            RunError: a file is missing, damaged, of a newer format or of another estimator.
        """
        folder = Path(folder)
        record = read_record(folder, cls.__name__, FORMAT)
        known = cls._get_param_names()  # a knob that this version no longer has changes no result
        knobs = {name: value for name, value in record["knobs"].items() if name in known}
        made = cls(**{name: _knob_back(value) for name, value in knobs.items()})
        made.n_features_in_ = record["features_in"]
        if record["names_in"] is not None:
            made.feature_names_in_ = np.array(record["names_in"], dtype=object)
        made.seed_ = record["seed"]
        made.notes_ = record["notes"]
        made._read_target_json(record["target"])
        made.contract_ = FeatureContract.from_json(
            record["contract"], read_tensors(folder / "features.safetensors")
        )
        made._read(folder, record)
        return made

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.target_tags.required = True
        return tags

    def _read_table(self, X: Any, *, fit: bool) -> pd.DataFrame | np.ndarray:
        """A frame as pandas, anything else as a checked (n, d) array."""
        if hasattr(X, "columns") and not hasattr(X, "tocsr"):
            frame = as_frame(X)
            if not len(frame):
                raise DataError("the table has no rows (0 sample(s)); at least 1 is needed")
            if fit:
                self._remember_columns(frame)
            return frame
        return np.asarray(validate_data(self, X, dtype=None, ensure_all_finite=False, reset=fit))

    def _remember_columns(self, frame: pd.DataFrame) -> None:
        self.n_features_in_ = frame.shape[1]
        if all(isinstance(name, str) for name in frame.columns):
            self.feature_names_in_ = np.array(list(frame.columns), dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _split(self, known: Part, given: tuple[Any, Any] | None) -> tuple[Part, Part | None]:
        """The rows to learn from and those that decide when to stop (None where there are none)."""
        if given is not None:
            held = self._known_rows(given, "validation")
            return known, held if len(held.target) else None
        share = getattr(self, "validation", 0.0)
        out = validation_rows(known.target, share, self._by_class, self.seed_)
        if not out.any():
            if share:
                self.notes_.append("too few rows for a validation part: trained without stopping")
            return known, None
        return known.take(np.flatnonzero(~out)), known.take(np.flatnonzero(out))

    def _known_rows(self, given: tuple[Any, Any], name: str) -> Part:
        """Read rows that come beside the training rows; classes never seen there are left out."""
        frame, labels = self._rows(*given)
        known = self._known(labels)
        if not known.all():
            self.notes_.append(
                f"{int((~known).sum())} {name} rows of a class that training lacks were left out"
            )
            frame = frame[known]
            labels = labels[known]
        return Part(frame, self._encode(labels), self._class_weights(labels))

    def _rows(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        frame = self._read_table(X, fit=False)
        labels = self._read_target(y)
        if len(labels) != len(frame):
            raise DataError(f"X has {len(frame)} rows and y has {len(labels)}; they must agree")
        return frame, labels

    def _quietly(self, frame: pd.DataFrame | np.ndarray) -> TableArrays:
        """Read validation rows; values that the training part lacks are expected there."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnseenCategories)
            return self.contract_.transform(frame)

    def _contract_options(self) -> dict[str, Any]:
        return {"numeric": self.preprocess}


def read_record(folder: Path, name: str, newest: int) -> dict[str, Any]:
    """The content of `model.json`, of a learner of this class and of a format up to `newest`.

    Raises:
        RunError: it is missing, damaged, newer or of another class.
    """
    record = read_json(folder / "model.json")
    if not isinstance(record, dict) or record.get("class") != name:
        found = record.get("class") if isinstance(record, dict) else None
        raise RunError(f"{folder} holds a {found}, not a {name}; try stackwise.load")
    if record["format"] > newest:
        raise RunError(
            f"{folder} was written by a newer stackwise (format {record['format']}, this one "
            f"reads up to {newest})"
        )
    return record


def validation_rows(target: np.ndarray, share: float, by_class: bool, seed: int) -> np.ndarray:
    """Which rows to hold out, (n,) bool: a random `share`, of each class where `by_class`.

    Rounds down within a class, so that every class stays in the training rows; with very few rows
    nothing is held out.
    """
    generator = np.random.default_rng(seed)
    held = np.zeros(len(target), dtype=bool)
    groups = [np.flatnonzero(target == code) for code in np.unique(target)] if by_class else []
    for rows in groups or [np.arange(len(target))]:
        held[generator.permutation(rows)[: int(share * len(rows) + 1e-9)]] = True
    return held


def read_labels(estimator: Any, y: Any, rows: int) -> np.ndarray:
    """(n,) the target that `fit` learns from, read as the estimator reads it.

    Raises:
        DataError: there is none, or not one for each of the rows, or fewer than two.
    """
    if y is None:
        raise DataError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y "
            "is None."
        )
    labels = np.asarray(estimator._read_target(y))
    if len(labels) != rows:
        raise DataError(f"X has {rows} rows and y has {len(labels)}; they must agree")
    if rows < 2:
        raise DataError(f"{rows} sample is too few to learn from; give at least 2 rows")
    return labels


def seed_of(random_state: int | None) -> int:
    """The seed of a fit: `random_state`, or one drawn where that is None."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0] >> 1)
    return int(random_state)


def read_weight(given: Any, rows: int) -> np.ndarray:
    if given is None:
        return np.ones(rows)
    if isinstance(given, numbers.Real):
        given = np.full(rows, float(given))
    weight = np.array(given, dtype=np.float64)
    if weight.shape != (rows,):
        raise DataError(f"sample_weight has shape {weight.shape}; it must be one number a row")
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise DataError("sample_weight must be finite and not negative")
    if not weight.any():
        raise DataError("every sample weight is zero; at least one row must count")
    return weight


def _knob_json(value: Any) -> Any:
    """JSON keys are texts, so a mapping (of class weights) is kept as pairs."""
    if isinstance(value, Mapping):
        return {"pairs": [[_scalar(key), _scalar(item)] for key, item in value.items()]}
    return _scalar(value)


def _scalar(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _knob_back(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"pairs"}:
        return dict(value["pairs"])
    return value
