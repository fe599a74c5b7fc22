"""The base of detectors: learn what is normal, score moments, flag those above a threshold.

    detector.fit(X)                   (T, n) normal moments, a frame, or a loaded task
    detector.score_samples(X)         (T,) higher is stranger; NaN before the first window is full
    detector.channel_scores(X)        (T, n) what each channel adds
    detector.predict(X)               (T,) 1 at an alarm
    detector.update(row)              the same of a stream, a row at a time

A detector is a function of a window: the score of a moment depends on it and the `window` - 1
moments before it. All that a method brings is `learn` and `errors`.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from stackwise.errors import DataError, KnobError, ModelError
from stackwise.files import read_tensors, write_tensors
from stackwise.learning.learner import Learner
from stackwise.tasks.anomalies.detectors.knobs import detector_knobs
from stackwise.tasks.anomalies.detectors.normal import Normal, normal_of, values_of
from stackwise.tasks.anomalies.detectors.scaling import Scaling
from stackwise.tasks.anomalies.detectors.thresholds import threshold_of
from stackwise.tasks.anomalies.reading.choices import Reading

BLOCK = 1 << 14
"""Moments that are scored at once."""


@dataclass(frozen=True)
class Moment:
    """What is said of one moment of a stream.

    Attributes:
        score: NaN as long as the first window is not full.
        alarm: whether it is above the threshold.
        channel: the one that adds most to the score; None where no channel is told from others.
        errors: (n,) what each channel adds.
    """

    score: float
    alarm: bool
    channel: str | None
    errors: np.ndarray


class Detector(Learner):
    """The base of detectors.

    Fitted attributes: `channels_` (names), `threshold_`, `channel_thresholds_` (n,), `scaling_`,
    `reading_` (how new sources are read), `source_` (where what it learned from lies, or None).
    """

    tasks: ClassVar[tuple[str, ...]] = ("anomalies",)
    shared_knobs: ClassVar[tuple[Any, ...]] = (detector_knobs,)
    fitted: ClassVar[str] = "threshold_"
    tells_channels: ClassVar[bool] = True
    """Whether the errors are of single channels."""

    channels_: list[str]
    threshold_: float
    channel_thresholds_: np.ndarray
    scaling_: Scaling
    reading_: Reading
    source_: str | None

    @property
    def reach(self) -> int:
        """The moments that a score depends on, its own among them."""
        return int(getattr(self, "window", 1))

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from normal moments.

        Args:
            X: (T, n) an array or a frame, a list of such stretches, or a loaded task.
            y: not used; labels are for scoring alone.

        Raises:
            DataError: a value is missing, or no stretch is as long as a window.
        """
        normal = normal_of(X)
        self._begin()
        self._check(normal)
        self.channels_, self.reading_ = normal.channels, normal.reading
        self.source_ = normal.source
        self.scaling_, constant = Scaling.of(np.concatenate(normal.stretches), self.scale)
        if len(constant):
            names = ", ".join(repr(normal.channels[place]) for place in constant[:8])
            self.notes_.append(f"constant among the normal moments, and left unscaled: {names}")
        stretches = [self.scaling_(one) for one in normal.stretches]
        self.learn(stretches)
        self._set_thresholds(stretches)
        return self

    def learn(self, stretches: list[np.ndarray]) -> None:
        """Learn from scaled stretches, each (T, n) float32."""
        raise NotImplementedError

    def errors(self, values: np.ndarray) -> np.ndarray:
        """(T, n) scaled float32 of one stretch -> (T - window + 1, n) what each channel adds to the
        score of the moments from the first full window on; (.., 1) where channels are not told
        apart.
        """
        raise NotImplementedError

    def first_errors(self, window: np.ndarray) -> np.ndarray:
        """(window, n) the first window -> (window - 1, n) errors within it, of all but its last
        moment, for `pad=first`. By default those of its last one.
        """
        return np.repeat(self.errors(window), len(window) - 1, axis=0)

    def total(self, errors: np.ndarray) -> np.ndarray:
        """(L, n) errors of channels -> (L,) the score."""
        if self.combine == "sum" or errors.shape[1] == 1:
            return errors.sum(axis=1)
        if self.combine == "max":
            return errors.max(axis=1)
        most = min(int(self.combine), errors.shape[1])
        return np.sort(errors, axis=1)[:, -most:].sum(axis=1)

    def stretch_errors(self, values: np.ndarray, *, padded: bool = False) -> np.ndarray:
        """(L, n) unscaled values of one stretch -> (L, n) errors; NaN before its first full window.

        Args:
            padded: whether the stretch is the beginning of a series, which `pad` speaks of.
        """
        check_is_fitted(self, self.fitted)
        before = self.reach - 1
        width = len(self.channels_) if self.tells_channels else 1
        found = np.full((len(values), width), np.nan)
        for start in range(before, len(values), BLOCK):
            stop = min(start + BLOCK, len(values))
            scaled = self.scaling_(np.asarray(values[start - before : stop]))
            found[start:stop] = self.errors(scaled)
        if padded and self.pad == "first" and len(values) > before:
            found[:before] = self.first_errors(self.scaling_(np.asarray(values[: before + 1])))
        return found

    def channel_scores(self, X: Any) -> np.ndarray:
        """(T, n) what each channel adds to the score.

        Raises:
            ModelError: this detector does not tell channels apart.
        """
        if not self.tells_channels:
            raise ModelError(
                f"a {type(self).__name__} scores moments and does not tell channels apart"
            )
        return self._errors_of(X)

    def score_samples(self, X: Any) -> np.ndarray:
        """(T,) how strange each moment is; higher is stranger."""
        return self.total(self._errors_of(X))

    def predict(self, X: Any) -> np.ndarray:
        """(T,) 1 at an alarm, else 0; 0 where there is no score."""
        with np.errstate(invalid="ignore"):
            return (self.score_samples(X) > self.threshold_).astype(np.int64)

    def fit_predict(self, X: Any, y: Any = None) -> np.ndarray:
        """Fit, and flag the same moments."""
        return self.fit(X, y).predict(X)

    def _errors_of(self, X: Any) -> np.ndarray:
        check_is_fitted(self, self.fitted)
        values = values_of(X, self.channels_)
        if len(values) < self.reach:
            raise DataError(f"the series has {len(values)} moments, window is {self.reach}")
        return self.stretch_errors(values, padded=True)

    def update(self, row: Sequence[float] | Mapping[str, float] | np.ndarray) -> Moment:
        """Score the next moment of a stream; what `score_samples` says of it in a whole series.

        Args:
            row: (n,) the values of the channels, or by their names.

        Raises:
            DataError: a channel is missing, or a value is no number.
        """
        check_is_fitted(self, self.fitted)
        if isinstance(row, Mapping):
            lacking = [name for name in self.channels_ if name not in row]
            if lacking:
                raise DataError(f"the channel {lacking[0]!r} is missing from the row")
            row = [row[name] for name in self.channels_]
        values = values_of(np.asarray(row, dtype=np.float64)[None], self.channels_)
        held: deque[np.ndarray] = self.__dict__.setdefault("_stream", deque(maxlen=self.reach))
        held.append(self.scaling_(values)[0])
        if len(held) < self.reach:
            width = len(self.channels_) if self.tells_channels else 1
            return Moment(float("nan"), False, None, np.full(width, np.nan))
        errors = self.errors(np.stack(held))[-1]
        score = float(self.total(errors[None])[0])
        first = self.channels_[int(errors.argmax())] if self.tells_channels else None
        return Moment(score, bool(score > self.threshold_), first, errors)

    def restart(self) -> Self:
        """Forget the rows of a stream, behind a gap in time or before another stream."""
        self.__dict__.pop("_stream", None)
        return self

    def _check(self, normal: Normal) -> None:
        """Refuse what no window can be made of."""
        if normal.longest < self.reach:
            raise DataError(
                f"the series has {normal.longest} normal moments in a row, window is {self.reach}: "
                "give a longer normal span, or a smaller window"
            )
        if isinstance(self.combine, int) and self.combine > len(normal.channels):
            raise KnobError(
                f"combine={self.combine} channels is more than the {len(normal.channels)}"
            )

    def _set_thresholds(self, stretches: list[np.ndarray]) -> None:
        """From the errors of the normal moments."""
        found = [
            self.errors(one[start : start + BLOCK + self.reach - 1])
            for one in stretches
            for start in range(0, len(one) - self.reach + 1, BLOCK)
        ]
        errors = np.concatenate(found)
        how = {"level": self.level, "risk": self.risk}
        self.threshold_ = threshold_of(self.total(errors), self.threshold, **how)
        of_one = self.threshold if isinstance(self.threshold, str) else "pot"
        self.channel_thresholds_ = np.array(
            [threshold_of(errors[:, place], of_one, **how) for place in range(errors.shape[1])]
        )

    def _write(self, folder: Path) -> dict[str, Any]:
        tensors = {
            "scaling.shift": self.scaling_.shift, "scaling.scale": self.scaling_.scale,
            "channel_thresholds": self.channel_thresholds_, **self.kept(),
        }  # fmt: skip
        write_tensors(
            folder / "model.safetensors",
            {name: torch.as_tensor(array) for name, array in tensors.items()},
        )
        return {
            "channels": self.channels_, "threshold": self.threshold_, "source": self.source_,
            "reading": self.reading_.as_json(),
        }  # fmt: skip

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        tensors = read_tensors(folder / "model.safetensors")
        own = {name: tensor.numpy() for name, tensor in tensors.items()}
        self.scaling_ = Scaling(own.pop("scaling.shift"), own.pop("scaling.scale"))
        self.channel_thresholds_ = own.pop("channel_thresholds")
        self.channels_, self.threshold_ = list(record["channels"]), float(record["threshold"])
        self.source_, self.reading_ = record["source"], Reading.from_json(record["reading"])
        self.take_back(own)

    def kept(self) -> dict[str, Any]:
        """What was learned, as arrays by name."""
        return {}

    def take_back(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of `kept`."""
