"""Logistic regression on the features of a frozen DINOv2-small: what a user would take instead.

Pictures are brought to 56 pixels a side (4 x 4 patches of 14), normalised as DINOv2 was trained
(arXiv 2304.07193), and go through the encoder once; the penalty is chosen by folds. A kept model
holds the regression and the hash of the encoder, whose 88 MB lie where `stackwise data` has them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from stackwise.catalog import baseline
from stackwise.errors import DataError, ModelError
from stackwise.learning.labelled_rows import LabelledRows, validation_rows
from stackwise.learning.network import computing_with
from stackwise.learning.targets import class_knobs
from stackwise.tasks.images.estimators.estimator import ImageEstimator, image_knobs
from stackwise.tasks.images.estimators.frozen import (
    IMAGENET,
    EncoderPixels,
    FrozenEncoder,
    open_encoder,
)
from stackwise.tasks.images.pretrained import ENCODER, encoder_folder, lacking
from stackwise.tasks.table.baselines.linear import LinearClasses, linear_knobs
from stackwise.training.session import current_session

SIDE = 56
"""Pixels: four patches a side, sixteen in all."""


@baseline(
    "frozen-dinov2",
    title="Frozen DINOv2-small and logistic regression",
    problem="classification",
    requires={"transformers": "llm", "onnx": "onnx"},
    missing=lacking,
    presets={
        "quick": {"folds": 2, "max_steps": 100},
        "standard": {},
        "best": {"folds": 5, "max_steps": 2000},
    },
)
class FrozenDinov2Classifier(LinearClasses, ImageEstimator):
    """Logistic regression on the features of a frozen DINOv2-small, its penalty cross-validated."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (linear_knobs, image_knobs, class_knobs)

    encoder_hash_: str

    def __init__(self) -> None:
        """A linear model on pretrained features."""

    def _learn_features(self, train: LabelledRows, *, whole: bool, **told: Any) -> None:
        super()._learn_features(train, whole=whole, **told)
        channels = self.image_shape_[0]
        if channels not in (1, 3):
            raise DataError(
                f"pictures have {channels} channels; {ENCODER} takes grey ones (1) or colour (3)"
            )
        self.network_size_ = (SIDE, SIDE)
        # of floats nobody knows the range: those that were learned from have mean 0 and deviation 1
        found = IMAGENET if self.bytes_ else (self.pixel_mean_, self.pixel_std_)
        self.pixel_mean_, self.pixel_std_ = (np.broadcast_to(one, 3).copy() for one in found)

    def _fit_parts(self, train_part: LabelledRows, held: LabelledRows | None) -> None:
        encoder = open_encoder(encoder_folder())
        self.encoder_hash_ = encoder.hash
        left = current_session().seconds_left()
        if left is not None:  # half of the time is for the features
            with computing_with(self.threads):
                share = encoder.share_in(self.pixels(train_part.samples), left / 2)
            count = len(train_part.target)
            out = validation_rows(train_part.target, 1 - share, True, self.seed_)
            if out.any():
                train_part = train_part.take(np.flatnonzero(~out))
                self.notes_.append(
                    f"the time limit allowed {len(train_part.target):,} of {count:,} training "
                    "pictures to go through the encoder; more time may help"
                )
        super()._fit_parts(train_part, held)

    def pixels(self, pictures: Any) -> EncoderPixels:
        """Pictures as the encoder reads them."""
        return EncoderPixels(pictures, self.pixel_mean_, self.pixel_std_, self.network_size_)

    def _matrix(self, samples: Any) -> np.ndarray:
        """(n, 2 D) float32 features."""
        with computing_with(self.threads):
            return self._encoder().features(self.pixels(samples))

    def _encoder(self) -> FrozenEncoder:
        """The encoder, which must be the one that the regression was fitted on.

        Raises:
            NotInstalled: it is not here. ModelError: another one is.
        """
        encoder = open_encoder(encoder_folder())
        if encoder.hash != self.encoder_hash_:
            raise ModelError(
                f"the {ENCODER} of {encoder_folder()} is not the one on whose features this model "
                "was fitted (its hash is another); bring that one back, or fit again"
            )
        return encoder

    def _write(self, folder: Path) -> dict[str, Any]:
        return super()._write(folder) | {"encoder": {"name": ENCODER, "hash": self.encoder_hash_}}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        self.encoder_hash_ = str(record["encoder"]["hash"])
