"""What every estimator on series shares: how series come in, and on which scale they are.

SeriesEstimator().fit(X, y)         X (n, channels, length), (n, length), or a list of arrays
                                    (channels, length) of different lengths; NaN is a gap
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from stackwise.catalog import Knob
from stackwise.errors import DataError
from stackwise.learning.labelled_estimator import LabelledEstimator
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.tasks.labelled.found import count
from stackwise.tasks.series.estimators.values import PaddedSeries, statistics
from stackwise.tasks.series.series import Series, as_values, check_channels

if TYPE_CHECKING:
    from stackwise.learning.metrics import Metric


def series_knobs(
    *,
    scaling: Annotated[
        Literal["channel", "series"],
        Knob("channel: the scale of the training series; series: each series on its own"),
    ] = "channel",
) -> None:
    """How estimators take series."""


class SeriesEstimator(LabelledEstimator):
    """An estimator on series.

    Fitted attributes: `channels_` (their names), `longest_` (of the training series), `mean_` and
    `std_` (C,), `reading_` (how the training source was read), `n_features_in_` (moments of rows
    of numbers, else channels), `seed_`, `notes_`.
    """

    tasks: ClassVar[tuple[str, ...]] = ("series",)
    fitted: ClassVar[str] = "mean_"
    scaling: str = "channel"

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        validation: tuple[Any, Any] | None = None,
        metric: "Metric | None" = None,
    ) -> Self:
        """Learn from series.

        Args:
            X: (n, channels, length) or (n, length) array, a list of arrays (channels, length),
                `Series`; or a loaded task, and nothing else. NaN is a gap.
            y: (n,) target.
            sample_weight: (n,) how much each series counts; those of weight 0 are left out.
            validation: (X, y) that decide when to stop, in place of a part of the series.
            metric: the score that early stopping watches; by default the loss, which is smoother.

        Raises:
            DataError: nothing can be learned from this input; the sentence says why.
            KnobError: a knob is out of range.
        """
        return self._fit_samples(X, y, sample_weight, validation=validation, metric=metric)

    def padded(self, series: Series) -> PaddedSeries:
        """Series as the fitted estimator puts them through a network."""
        return PaddedSeries(series, self.mean_, self.std_, self.longest_, self.scaling == "series")

    def _read_samples(self, X: Any, *, fit: bool) -> Series:
        series = X if isinstance(X, Series) else self._from_memory(X, fit=fit)
        if not len(series):
            raise DataError("there are no series (0 sample(s)); at least 1 is needed")
        if fit:
            self.channels_, self.reading_ = series.channels, series.reading
            if isinstance(X, Series):
                self.n_features_in_ = len(series.channels)
            return series
        check_is_fitted(self, "channels_")
        if len(series.channels) != len(self.channels_):
            raise DataError(
                f"X has series of {count(len(series.channels), 'channel')}, but "
                f"{type(self).__name__} was fitted on {count(len(self.channels_), 'channel')}"
            )
        return series

    def _from_memory(self, X: Any, *, fit: bool) -> Series:
        listed = isinstance(X, (list, tuple)) and len(X) > 0 and np.ndim(X[0]) > 0
        if listed and not all(np.shape(one) == np.shape(X[0]) for one in X):
            found = as_values(X)  # of different lengths, or it says in which series they differ
            self.n_features_in_ = len(found[0]) if fit else self.n_features_in_
            return _whole(found)
        kinds: Any = [np.float64, np.float32]
        if (np.ndim(X) if isinstance(X, list) else getattr(X, "ndim", 2)) > 2:
            # the first axis after n is no number of features
            array = check_array(X, dtype=kinds, allow_nd=True, ensure_all_finite="allow-nan")
            self.n_features_in_ = array.shape[1] if fit else self.n_features_in_
        else:
            array = validate_data(self, X, dtype=kinds, ensure_all_finite="allow-nan", reset=fit)
        return _whole(as_values(np.asarray(array)))

    def _learn_features(self, train: LabelledRows, *, whole: bool, **told: Any) -> None:
        series: Series = train.samples
        self.longest_ = int(series.lengths.max())
        self.mean_, self.std_, measured = statistics(series)
        empty = [name for name, one in zip(series.channels, measured, strict=True) if not one]
        if empty:
            raise DataError(
                f"the channel {empty[0]!r} is missing throughout the training series; leave it out"
            )

    def _write(self, folder: Path) -> dict[str, Any]:
        return super()._write(folder) | {
            "features_in": self.n_features_in_,
            "series": {
                "channels": self.channels_, "longest": self.longest_, "reading": self.reading_,
                "mean": self.mean_.tolist(), "std": self.std_.tolist(),
            },
        }  # fmt: skip

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        self.n_features_in_ = record["features_in"]
        series = record["series"]
        self.channels_ = [str(name) for name in series["channels"]]
        self.longest_, self.reading_ = int(series["longest"]), dict(series["reading"])
        self.mean_, self.std_ = (np.array(series[name], dtype=float) for name in ("mean", "std"))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        return tags


def _whole(values: list[np.ndarray]) -> Series:
    """Series from memory, in which no channel lacks throughout."""
    series = Series(values)
    check_channels(values, series.channels, range(len(values)))
    return series
