"""A bare module that answers as a fitted learner does, so that it is judged like one."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from stackwise.learning.outputs import mean_values
from stackwise.learning.row_blocks import output_of
from stackwise.tasks.labels.estimators.tokens import Tokens, through
from stackwise.tasks.labels.heads import check_head


class ModuleOnTexts:
    """A module and the classes of its outputs, in their order.

    Args:
        tokens: texts -> what the module reads.
    """

    def __init__(self, module: nn.Module, classes: np.ndarray, tokens: Any) -> None:
        self.module, self.classes_, self.tokens = module, classes, tokens

    def predict_proba(self, texts: Any) -> np.ndarray:
        """(n, C) probabilities."""
        read: Tokens = self.tokens(texts)
        device = next(self.module.parameters()).device
        first = read.padded([0], len(read.rows[0]))
        with torch.no_grad():
            output = output_of(self.module, {k: one.to(device) for k, one in first.items()})
        check_head(output, len(self.classes_), self.module)
        return through(self.module, read, partial(mean_values, classes=True))

    def predict(self, texts: Any) -> np.ndarray:
        """(n,) classes."""
        return np.asarray(self.classes_[self.predict_proba(texts).argmax(1)])
