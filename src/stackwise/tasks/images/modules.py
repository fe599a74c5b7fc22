"""A bare module that answers as a fitted learner does, so that it is judged like one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from stackwise.learning.teacher import Teacher
from stackwise.tasks.images.estimators.pixels import Pixels, for_transformers


class ModuleOnPictures:
    """A module and the classes of its outputs, in their order.

    Args:
        pixels: pictures -> what a module is called with that is none of transformers.
    """

    def __init__(self, module: nn.Module, classes: np.ndarray, pixels: Any) -> None:
        self.classes_ = classes
        self.pixels = pixels
        self.asked = Teacher(module, classes, self.inputs_of)

    def inputs_of(self, module: nn.Module, pictures: Any) -> Mapping[str, Pixels]:
        """`pixel_values` as the module's configuration wants them, or `pixels`."""
        if "pixel_values" in str(getattr(module, "main_input_name", "")):
            return {"pixel_values": for_transformers(pictures, module.config)}
        return {"pixels": self.pixels(pictures)}

    def predict_proba(self, pictures: Any) -> np.ndarray:
        """(n, C) probabilities."""
        return np.asarray(self.asked.answers(pictures).double().softmax(-1))

    def predict(self, pictures: Any) -> np.ndarray:
        """(n,) classes."""
        return np.asarray(self.classes_[self.predict_proba(pictures).argmax(1)])
