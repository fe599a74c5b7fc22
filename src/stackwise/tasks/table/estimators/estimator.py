"""What every estimator on a table shares: how columns come in, and what is learned about them.

An estimator takes pandas or polars frames and arrays, learns from the training rows a
`FeatureContract` that says what the columns hold, and keeps it. Subclasses say what to do with the
features (`_fit_parts`) and how their own state is kept (`_write`, `_read`).
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted, validate_data

from stackwise.catalog import Knob
from stackwise.errors import DataError
from stackwise.files import read_tensors, write_tensors
from stackwise.learning.labelled_estimator import LabelledEstimator
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.tasks.labelled.counted import UnseenCategories
from stackwise.tasks.table.features.contract import FeatureContract, TableArrays
from stackwise.tasks.table.reading.columns import Column
from stackwise.tasks.table.source import as_frame

if TYPE_CHECKING:
    from stackwise.learning.metrics import Metric


def table_knobs(
    *,
    preprocess: Annotated[
        Literal["quantile", "standard"] | None, Knob("how numbers are scaled")
    ] = "quantile",
) -> None:
    """The knobs of every neural learner on tables."""


class TableEstimator(LabelledEstimator):
    """An estimator on the columns of a table.

    Fitted attributes: `contract_` (what was learned about the columns), `n_features_in_`,
    `feature_names_in_` where the columns have names, `seed_`, `notes_` (what a reader of the result
    should know).
    """

    tasks: ClassVar[tuple[str, ...]] = ("table",)
    fitted: ClassVar[str] = "contract_"

    if TYPE_CHECKING:
        preprocess: Any

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        validation: tuple[Any, Any] | None = None,
        metric: "Metric | None" = None,
        columns: Sequence[Column] | None = None,
        keep: Iterable[str] = (),
    ) -> Self:
        """Learn from the rows of `X`.

        Args:
            X: (n, d) pandas or polars frame, or array; or a loaded task, and nothing else.
            y: (n,) target.
            sample_weight: (n,) how much each row counts; rows of weight 0 are left out.
            validation: (X, y) that decide when to stop, in place of a part of the rows.
            metric: the score that a network's early stopping watches; by default its loss, which is
                smoother. Trees and linear models stop by their loss.
            columns: what the columns of these rows hold, where a task has found it out.
            keep: columns that are used although they look like identifiers.

        Raises:
            DataError: nothing can be learned from this input; the sentence says why.
            KnobError: a knob is out of range.
        """
        return self._fit_samples(
            X, y, sample_weight, validation=validation, metric=metric, columns=columns, keep=keep
        )

    def transform_columns(self, X: Any) -> TableArrays:
        """Read a table as it was read in training."""
        check_is_fitted(self, "contract_")
        return self.contract_.transform(self._read_samples(X, fit=False))

    def _read_samples(self, X: Any, *, fit: bool) -> pd.DataFrame | np.ndarray:
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

    def _learn_features(
        self,
        train: LabelledRows,
        *,
        whole: bool,
        columns: Sequence[Column] | None = None,
        keep: Iterable[str] = (),
        **told: Any,
    ) -> None:
        self.contract_ = FeatureContract().fit(
            train.samples, seed=self.seed_, columns=columns if whole else None, keep=keep,
            **self._contract_options(),
        )  # fmt: skip

    def _contract_options(self) -> dict[str, Any]:
        return {"numeric": self.preprocess}

    def _quietly(self, frame: pd.DataFrame | np.ndarray) -> TableArrays:
        """Read validation rows; values that the training part lacks are expected there."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnseenCategories)
            return self.contract_.transform(frame)

    def _write(self, folder: Path) -> dict[str, Any]:
        contract, tensors = self.contract_.to_json()
        write_tensors(folder / "features.safetensors", tensors)
        return super()._write(folder) | {
            "features_in": self.n_features_in_,
            "names_in": list(getattr(self, "feature_names_in_", [])) or None,
            "contract": contract,
        }

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        self.n_features_in_ = record["features_in"]
        if record["names_in"] is not None:
            self.feature_names_in_ = np.array(record["names_in"], dtype=object)
        self.contract_ = FeatureContract.from_json(
            record["contract"], read_tensors(folder / "features.safetensors")
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags
