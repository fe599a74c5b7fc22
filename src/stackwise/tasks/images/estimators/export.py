"""Write a fitted network on pictures as ONNX, with its preprocessing.

    input     pixels (rows, C, H, W) float32, in the unit of training: 0 to 255 for bytes
    output    probability (rows, classes) float64, or margin where the network gives margins

Scaling, enlarging, normalising, the network and the softmax are in the graph. What is left to the
caller is to bring a picture to (C, H, W); `<name>.json`, which is written beside, says how.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.errors import ModelError
from stackwise.learning.outputs import margin_head
from stackwise.tasks.images.estimators.learner import ImageLearner
from stackwise.tasks.labelled.onnx_file import WrittenWhole, answered, export_whole


def export(reference: Any, path: Path | str) -> list[Path]:
    """Write a fitted network on pictures (or a run that holds one) as an ONNX file.

    Args:
        path: the file to write, such as `model.onnx`; `model.json` is written beside it.

    Returns:
        The two files.

    Raises:
        ModelError: the model is none that can be written; it is named.
    """
    return export_whole(reference, path, _whole)


def _whole(learner: Any) -> WrittenWhole:
    if not isinstance(learner, ImageLearner):
        raise ModelError(f"a {type(learner).__name__} cannot be written as ONNX here")
    whole = WholePictures(learner)
    channels, height, width = learner.image_shape_
    example = {"pixels": torch.zeros(2, channels, height, width)}
    output = "probability" if whole.logits else "margin"
    about = {
        "input": {"pixels": ["rows", channels, height, width]},
        "unit": "0 to 255" if learner.bytes_ else "as in training",
        "pictures": f"the middle of each, brought to {height} x {width}, "
        + ("grey" if channels == 1 else "red, green, blue"),
        "output": output,
        "classes": learner.classes_.tolist(),
    }
    return WrittenWhole(whole, example, output, about)


class WholePictures(nn.Module):
    """Pixels in, probabilities or margins out: normalisation, network and softmax in one module."""

    mean: Tensor
    std: Tensor

    def __init__(self, learner: ImageLearner) -> None:
        super().__init__()
        self.network = copy.deepcopy(learner.network_).cpu()
        self.logits = margin_head(self.network) is None
        self.largest = 255.0 if learner.bytes_ else 1.0
        self.size = learner.network_size_
        self.enlarged = tuple(learner.image_shape_[1:]) != learner.network_size_
        for name, values in (("mean", learner.pixel_mean_), ("std", learner.pixel_std_)):
            tensor = torch.as_tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
            self.register_buffer(name, tensor)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, classes) float64."""
        scaled = pixels / self.largest
        if self.enlarged:
            scaled = functional.interpolate(scaled, size=self.size, mode="nearest")
        output: Tensor = self.network((scaled - self.mean) / self.std)
        return answered(output.double(), classes=self.logits)
