"""The network: a square map on the mean of a text's tokens.

    z = W m,    m = mean over tokens / its length,    W = 1 where training begins

A text's vector begins as the encoder's own, and what is learned is which of its directions come
first. Where the encoder is frozen, m is all that is known of a text, and it is read once.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from stackwise.layers.arguments import keeps_arguments
from stackwise.tasks.labels.baselines.frozen_encoder import MeanState


@keeps_arguments
class SquareMap(nn.Module):
    """(B, width) -> (B, width), the identity where training begins."""

    arguments: dict[str, Any]

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False)
        self.reset()

    def reset(self) -> None:
        """Begin again: the identity."""
        nn.init.eye_(self.linear.weight)

    def forward(self, means: Tensor) -> Tensor:
        """W m."""
        turned: Tensor = self.linear(means)
        return turned


class MappedMeans(nn.Module):
    """Texts to vectors.

    Args:
        width: of the encoder. encoder: that learns too; None where it is frozen.
    """

    def __init__(self, map: SquareMap, encoder: nn.Module | None = None) -> None:
        super().__init__()
        self.map = map
        self.encoder = None if encoder is None else MeanState(encoder)

    def forward(
        self,
        means: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, width) means, or (B, T) tokens and their mask -> (B, width)."""
        if means is None:
            assert self.encoder is not None
            means = self.encoder(input_ids, attention_mask)
        vectors: Tensor = self.map(means)
        return vectors

    def queries(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Queries and documents are read alike."""
        vectors: Tensor = self(**inputs)
        return vectors

    documents = queries
