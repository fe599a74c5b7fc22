"""The estimators that all networks on pictures share.

A subclass says which network it builds from `pixels` (B, C, H, W); pictures are augmented and
normalised here, and everything else is in `stackwise.learning`.

    class Plain(ImageClassifier):
        def __init__(self, *, width: Annotated[int, Knob("channels", ge=1)] = 32) -> None:
            "A network of one layer."

        def build_network(self, rows):
            return Net(channels=rows.channels, image_size=rows.size, n_outputs=rows.n_outputs, ...)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import nn

from stackwise.catalog import Knob
from stackwise.errors import ModelError
from stackwise.learning.labelled_estimator import held_out_knobs
from stackwise.learning.labelled_network import LabelledNetwork, PredictsClasses
from stackwise.learning.targets import class_knobs
from stackwise.tasks.images.estimators.augmentation import AugmentedBatches, Recipe, recipe
from stackwise.tasks.images.estimators.estimator import ImageEstimator, image_knobs
from stackwise.tasks.images.estimators.pixels import Pixels, Size, for_transformers
from stackwise.training.batches import ArrayBatches
from stackwise.training.knobs import distillation_knobs, temperature_knobs, training_knobs


def augmentation_knobs(
    *,
    augment: Annotated[
        Literal["none", "shift", "photo", "mixed", "strong"],
        Knob("how training pictures are varied: shift moves them, photo mirrors too, mixed hides "
             "no part of them"),
    ] = "shift",
) -> None:  # fmt: skip
    """How pictures are varied in training; each network has its own default."""


class ImageNetwork(Protocol):
    """What a network on pictures offers. It is decorated by `keeps_arguments`."""

    arguments: dict[str, Any]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float32 -> (B, n_outputs)."""
        ...


@dataclass(frozen=True)
class ImageRows:
    """The training pictures, as a network is made for them.

    Attributes:
        pixels: the pictures. target: (n,) class codes. n_outputs: of the network.
    """

    pixels: Pixels
    target: np.ndarray
    n_outputs: int

    def __len__(self) -> int:
        return len(self.target)

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return self.pixels.shape[1]

    @property
    def size(self) -> Size:
        """(H, W)."""
        return self.pixels.size


class ImageLearner(LabelledNetwork, ImageEstimator):
    """A neural network on pictures.

    Fitted attributes are those of `ImageEstimator` and of `NetworkLearner`.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (
        held_out_knobs, image_knobs, augmentation_knobs, training_knobs, distillation_knobs,
    )  # fmt: skip
    floor: ClassVar[dict[str, Any]] = {"min_steps": 300}
    exporter: ClassVar[str | None] = "stackwise.tasks.images.estimators.export:export"

    def build_network(self, rows: ImageRows) -> nn.Module:
        """Make the network, an `ImageNetwork`; torch's random state is that of the seed. Subclasses
        define this.
        """
        raise ModelError(f"{type(self).__name__} does not say which network it builds")

    def build_batches(self, tensors: dict[str, Any], batch_size: int, seed: int) -> ArrayBatches:
        """Batches of `pixels`, `target` and `weight`, varied as `augment` says."""
        return AugmentedBatches(tensors, batch_size, seed=seed, recipe=self.recipe())

    def varies_samples(self) -> bool:
        """Whether training pictures are varied."""
        return self.recipe() != Recipe()

    def samples_of(self, inputs: dict[str, torch.Tensor]) -> np.ndarray:
        """Varied pictures as they would have come in: in the unit and of the size of `fit`."""
        pixels = self.pixels(np.empty((0, *self.image_shape_), np.float32))
        scaled = pixels.scaled_again(inputs["pixels"], self.image_shape_[1:])
        if not self.bytes_:
            return scaled.numpy()
        return scaled.mul(255).round().clamp(0, 255).byte().numpy()

    def inputs_of_module(self, module: nn.Module, samples: Any) -> Mapping[str, Any]:
        """What a bare module is called with: `pixels`, or `pixel_values` as transformers has it."""
        if "pixel_values" in str(getattr(module, "main_input_name", "")):
            return {"pixel_values": for_transformers(samples, module.config)}
        return super().inputs_of_module(module, samples)

    def recipe(self) -> Recipe:
        """How training pictures are varied."""
        return recipe(self.augment)

    def _network(self, features: Pixels, target: np.ndarray) -> nn.Module:
        return self.build_network(ImageRows(features, target, self.n_outputs_))

    def _features(self, samples: Any, *, quietly: bool = False) -> Pixels:
        return self.pixels(samples)

    def _inputs(self, features: Pixels) -> Mapping[str, Any]:
        return {"pixels": features}


class ImageClassifier(PredictsClasses, ImageLearner):
    """A neural network that predicts the class of a picture."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (
        held_out_knobs, image_knobs, augmentation_knobs, class_knobs, training_knobs,
        distillation_knobs, temperature_knobs,
    )  # fmt: skip
