"""Encoders with nested heads: z = F(x), logits of its prefixes.

    pixels -> residual CNN -> linear to d = z -> heads           NestedPictures
    columns -> MLP -> linear to d = z -> heads                   NestedRows

z comes from a linear layer: a ReLU in its place would leave small prefixes with dead numbers.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from stackwise.layers.arguments import keeps_arguments
from stackwise.tasks.images.baselines.residual_cnn import ResidualCNN
from stackwise.tasks.table.baselines.mlp import MLP
from stackwise.train.matryoshka.heads import MatryoshkaHead


class Nested(nn.Module):
    """An encoder and nested heads.

    Args:
        encoder: what the network is called with -> (B, d). head: on these.
    """

    def __init__(self, encoder: nn.Module, head: MatryoshkaHead) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """What the encoder takes -> (B, C) logits of the whole embedding."""
        logits: Tensor = self.head(self.embed(*inputs, **named))
        return logits

    def embed(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """What the encoder takes -> (B, d) embeddings."""
        embedding: Tensor = self.encoder(*inputs, **named)
        return embedding


@keeps_arguments
class NestedPictures(Nested):
    """A residual CNN with nested heads.

    Args:
        channels: of the pictures. n_outputs: classes. width, n_blocks, dropout: of the CNN.
        embed_dim: d. dims, tied: of the heads.
    """

    arguments: dict[str, Any]

    def __init__(
        self, *, channels: int, n_outputs: int, width: int = 32, n_blocks: int = 2,
        dropout: float = 0.0, embed_dim: int = 128, dims: Sequence[int] | None = None,
        tied: bool = False,
    ) -> None:  # fmt: skip
        encoder = ResidualCNN(
            channels=channels, n_outputs=embed_dim, width=width, n_blocks=n_blocks, dropout=dropout
        )
        super().__init__(encoder, MatryoshkaHead(embed_dim, n_outputs, dims=dims, tied=tied))


@keeps_arguments
class NestedRows(Nested):
    """An MLP on the columns of a table with nested heads.

    Args:
        n_numeric, cardinalities: of the columns. n_outputs: classes. width, n_blocks, dropout: of
            the MLP. embed_dim: d. dims, tied: of the heads.
    """

    arguments: dict[str, Any]

    def __init__(
        self, *, n_numeric: int, cardinalities: list[int], n_outputs: int, width: int = 256,
        n_blocks: int = 3, dropout: float = 0.1, embed_dim: int = 128,
        dims: Sequence[int] | None = None, tied: bool = False,
    ) -> None:  # fmt: skip
        encoder = MLP(
            n_numeric=n_numeric, cardinalities=cardinalities, n_outputs=embed_dim, width=width,
            n_blocks=n_blocks, dropout=dropout,
        )  # fmt: skip
        super().__init__(encoder, MatryoshkaHead(embed_dim, n_outputs, dims=dims, tied=tied))
