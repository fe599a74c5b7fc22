"""The loss of a batch, a mean over its words, whatever is padded and however words are weighed.

    loss = 1/n sum over the n words of  weight[y] * (-log softmax(logits)[y])

so that of a batch it is the mean of its sentences' losses, by their words. With a chain over the
classes it is -1/n sum over sentences of log p(y), and words are not weighed.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.build.drug_ner.batches import NONE

ClassWeight = Literal["sqrt", "inverse", "none"]


def class_weights(codes: Sequence[np.ndarray], classes: int, how: ClassWeight) -> Tensor | None:
    """(C,) by how rare a class is, with a mean of 1 over all words; None where all are alike.

    Args:
        codes: the classes of training words. how: the inverse of a class's share, or its root.
    """
    if how == "none":
        return None
    counts = np.bincount(np.concatenate(list(codes)), minlength=classes).astype(np.float64)
    weight = counts.sum() / np.maximum(counts, 1)
    weight = np.sqrt(weight) if how == "sqrt" else weight
    weight[counts == 0] = 0.0
    return torch.from_numpy(weight / ((weight * counts).sum() / counts.sum())).float()


class TagLoss:
    """Called as `loss(network, batch)`.

    Args:
        weight: (C,) of classes, or None.
    """

    def __init__(self, weight: Tensor | None = None) -> None:
        self.weight = weight

    def __call__(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The mean loss of the words of a batch of sentences, each of which brings its `scale`, or
        of windows.
        """
        logits = network(vectors=batch["vectors"], mask=batch["mask"]).float()
        chain: Any = getattr(network, "chain", None)
        if chain is not None:
            found = -chain.log_likelihood(logits, batch["target"], batch["mask"])
        else:
            target = batch["target"]
            weight = None if self.weight is None else self.weight.to(logits.device)
            words = functional.cross_entropy(
                logits.flatten(0, -2), target.flatten(), weight=weight, ignore_index=NONE,
                reduction="none",
            )  # fmt: skip
            found = words.view(len(target), -1).sum(1)
        return (found * batch["scale"]).mean() if "scale" in batch else found.mean()
