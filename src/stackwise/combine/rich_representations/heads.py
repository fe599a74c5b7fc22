"""Heads on a representation, and networks of both.

    W ((z - mean) / scale) + b                  one head on all features, (B, C)
    the same on each member's features          (B, n, C): their probabilities are averaged
    W = [W_1 ... W_n] / n,  b = mean b_i        fine-tuned heads, joined           (`joined_head`)

The joined head gives the mean of the members' logits. The division by n is not for the argmax but
for the loss, and for the steps that follow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.combine.rich_representations.features import Concatenated
from stackwise.errors import ModelError


class Head(nn.Module):
    """A linear layer on standardised features: (B, d) -> (B, C).

    Args:
        features: d. n_outputs: C.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int, n_outputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.linear = nn.Linear(features, n_outputs)

    def forward(self, features: Tensor) -> Tensor:
        """(B, d) -> (B, C) logits."""
        logits: Tensor = self.linear((features - self.mean) / self.scale)
        return logits


class SlicedHead(nn.Module):
    """A head for each member on its own features: (B, sum d) -> (B, n, C).

    Args:
        sizes: d_i of each member. n_outputs: C.
    """

    def __init__(self, sizes: Sequence[int], n_outputs: int) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.heads = nn.ModuleList(Head(size, n_outputs) for size in sizes)

    def forward(self, features: Tensor) -> Tensor:
        """(B, sum d) -> (B, n, C) logits."""
        parts = features.split(self.sizes, 1)
        return torch.stack([head(z) for head, z in zip(self.heads, parts, strict=True)], 1)


@torch.no_grad()
def joined_head(heads: Sequence[nn.Linear]) -> Head:
    """One head on all features that gives the mean of the heads' logits.

    Raises:
        ModelError: they have different classes.
    """
    outputs = {head.out_features for head in heads}
    if len(outputs) != 1:
        raise ModelError(
            f"heads of {' and '.join(map(str, sorted(outputs)))} classes cannot be joined"
        )
    made = Head(sum(head.in_features for head in heads), outputs.pop())
    made.linear.weight.copy_(torch.cat([head.weight for head in heads], 1) / len(heads))
    zero = torch.zeros_like(made.linear.bias)
    biases = [zero if head.bias is None else head.bias.to(zero) for head in heads]
    made.linear.bias.copy_(torch.stack(biases).mean(0))
    return made


@dataclass
class Answer:
    """What a joined module answers where its batch holds `labels`, as models of transformers do."""

    loss: Tensor
    logits: Tensor


class Joined(nn.Module):
    """A representation and a head on it; called as each member is."""

    def __init__(self, representation: Concatenated, head: nn.Module) -> None:
        super().__init__()
        self.representation, self.head = representation, head

    def forward(self, *args: Any, **named: Any) -> Any:
        """(B, ...) -> (B, C) or (B, n, C) logits; with `labels=` an `Answer`, their cross-entropy
        in it.
        """
        logits = self.head(self.representation(*args, **named))
        if "labels" not in named:
            return logits
        return Answer(functional.cross_entropy(logits.float(), named["labels"]), logits)
