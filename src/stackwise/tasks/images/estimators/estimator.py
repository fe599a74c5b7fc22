"""What every estimator on pictures shares: how they come in, their size and their normalisation.

    PictureClassifier().fit(X, y)       X (n, H, W), (n, H, W, C) or (n, C, H, W), bytes or floats

Bytes are scaled to 0..1, floats are taken as they are; both are then normalised with mean and
deviation of the training pictures, a channel each. What was learned on bytes answers for bytes
alone, for floats have no range of their own.

Rows of numbers (n, d), as scikit-learn has them, are pictures of one row unless `image_shape` says
otherwise.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from stackwise.catalog import Knob
from stackwise.errors import DataError
from stackwise.learning.labelled_estimator import LabelledEstimator
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.tasks.images.estimators.pixels import Pixels, Size, statistics
from stackwise.tasks.images.reading.arrays import channels_are_first
from stackwise.tasks.images.reading.holding import Pictures
from stackwise.tasks.images.reading.sizes import shown

if TYPE_CHECKING:
    from stackwise.learning.metrics import Metric


def image_knobs(
    *,
    image_shape: Annotated[
        Sequence[int] | None,
        Knob("H,W or C,H,W of pictures that come as rows of numbers; none: one row each"),
    ] = None,
) -> None:
    """The knobs of every estimator on pictures."""


class ImageEstimator(LabelledEstimator):
    """An estimator on pictures.

    Fitted attributes: `image_shape_` (C, H, W) as pictures come in, `network_size_` (H, W) as they
    are put through, `pixel_mean_` and `pixel_std_` (C,), `bytes_` (whether pictures are bytes),
    `n_features_in_`, `seed_`, `notes_`.
    """

    tasks: ClassVar[tuple[str, ...]] = ("images",)
    fitted: ClassVar[str] = "pixel_mean_"
    shared_knobs: ClassVar[tuple[Any, ...]] = (image_knobs,)

    @property
    def least_size(self) -> int:
        """The least side that it takes; smaller pictures are enlarged."""
        return 1

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        validation: tuple[Any, Any] | None = None,
        metric: "Metric | None" = None,
    ) -> Self:
        """Learn from pictures.

        Args:
            X: (n, H, W), (n, H, W, C) or (n, C, H, W) array of bytes or floats; (n, d) rows of
                numbers; `Pictures`; or a loaded task, and nothing else.
            y: (n,) target.
            sample_weight: (n,) how much each picture counts; those of weight 0 are left out.
            validation: (X, y) that decide when to stop, in place of a part of the pictures.
            metric: the score that early stopping watches; by default the loss, which is smoother.

        Raises:
            DataError: nothing can be learned from this input; the sentence says why.
            KnobError: a knob is out of range.
        """
        return self._fit_samples(X, y, sample_weight, validation=validation, metric=metric)

    def pixels(self, pictures: Any) -> Pixels:
        """Pictures as the fitted estimator reads them."""
        return Pixels(pictures, self.pixel_mean_, self.pixel_std_, self.network_size_)

    def _read_samples(self, X: Any, *, fit: bool) -> "Pictures | np.ndarray":
        """`Pictures`, or a (n, C, H, W) array of bytes or floats."""
        if isinstance(X, Pictures):
            if not len(X):
                raise DataError("there are no pictures (0 sample(s)); at least 1 is needed")
            if fit:
                self.n_features_in_ = X.shape[1]
            self._check_form(X.shape, True, fit=fit)
            return X
        wanted = None if _is_bytes(X) else np.float32
        axes = np.ndim(X) if isinstance(X, list) else getattr(X, "ndim", 2)
        if axes > 2:  # of pictures the first axis after n is no number of features
            array = np.asarray(check_array(X, dtype=wanted, allow_nd=True))
            self.n_features_in_ = array.shape[1] if fit else self.n_features_in_
        else:
            array = np.asarray(validate_data(self, X, dtype=wanted, reset=fit))
        array = _shaped(array, self.image_shape) if array.ndim == 2 else _with_channels(array)
        self._check_form(array.shape[1:], array.dtype == np.uint8, fit=fit)
        return array

    def _check_form(self, shape: tuple[int, ...], are_bytes: bool, *, fit: bool) -> None:
        """Remember the form of the training pictures, and hold later ones to it."""
        if fit:
            self.image_shape_, self.bytes_ = tuple(int(side) for side in shape), are_bytes
            return
        check_is_fitted(self, "image_shape_")
        if tuple(shape) != self.image_shape_:
            raise DataError(
                f"X has pictures of {_spelled(shape)}, but {type(self).__name__} was fitted on "
                f"pictures of {_spelled(self.image_shape_)}"
            )
        if are_bytes != self.bytes_:
            had, has = ("bytes", "floats") if self.bytes_ else ("floats", "bytes")
            raise DataError(f"X holds {has} and training held {had}; give {had} of the same range")

    def _learn_features(self, train: LabelledRows, *, whole: bool, **told: Any) -> None:
        self.pixel_mean_, self.pixel_std_ = statistics(train.samples, self.seed_)
        height, width = self.image_shape_[1:]
        self.network_size_: Size = (max(height, self.least_size), max(width, self.least_size))
        if self.network_size_ != (height, width):
            larger = f"{shown((height, width))} are enlarged to {shown(self.network_size_)}"
            self.notes_.append(
                f"pictures of {larger}: {type(self).__name__} takes sides of at least "
                f"{self.least_size}"
            )

    def _write(self, folder: Path) -> dict[str, Any]:
        return super()._write(folder) | {
            "features_in": self.n_features_in_,
            "pictures": {
                "shape": list(self.image_shape_), "bytes": self.bytes_,
                "network_size": list(self.network_size_), "mean": self.pixel_mean_.tolist(),
                "std": self.pixel_std_.tolist(),
            },
        }  # fmt: skip

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        self.n_features_in_ = record["features_in"]
        pictures = record["pictures"]
        self.image_shape_ = tuple(int(side) for side in pictures["shape"])
        height, width = pictures["network_size"]
        self.network_size_ = (int(height), int(width))
        self.bytes_ = bool(pictures["bytes"])
        self.pixel_mean_, self.pixel_std_ = (
            np.array(pictures[name], dtype=np.float64) for name in ("mean", "std")
        )


def _is_bytes(X: Any) -> bool:
    return getattr(X, "dtype", None) == np.uint8


def _with_channels(array: np.ndarray) -> np.ndarray:
    """(n, H, W), (n, H, W, C) or (n, C, H, W) as (n, C, H, W)."""
    if array.ndim == 3:
        return array[:, None]
    if array.ndim != 4:
        raise DataError(f"X is {array.shape}; pictures are (n, H, W), (n, H, W, C) or (n, C, H, W)")
    return array if channels_are_first(array.shape) else np.moveaxis(array, -1, 1)


def _spelled(shape: Sequence[int]) -> str:
    channels, height, width = shape
    return f"{height} x {width} with {channels} channel{'s' if channels > 1 else ''}"


def _shaped(rows: np.ndarray, shape: Sequence[int] | None) -> np.ndarray:
    """(n, d) numbers as (n, C, H, W) pictures.

    Raises:
        DataError: the shape is none of pictures, or holds another number of pixels.
    """
    if shape is None:
        return rows[:, None, None, :]
    sides = tuple(int(side) for side in shape)
    sides = (1, *sides) if len(sides) == 2 else sides
    if len(sides) != 3 or min(sides) < 1:
        raise DataError(f"image_shape {tuple(shape)} is not (H, W) or (C, H, W)")
    if int(np.prod(sides)) != rows.shape[1]:
        raise DataError(
            f"image_shape {tuple(shape)} has {int(np.prod(sides))} pixels, X has {rows.shape[1]} "
            "features"
        )
    return rows.reshape(len(rows), *sides)
