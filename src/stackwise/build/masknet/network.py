"""The serial and the parallel MaskNet on the fields of a table."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

from torch import Tensor, nn

from stackwise.build.masknet.blocks import MaskBlock, ParallelMaskBlocks
from stackwise.build.masknet.fields import FieldEmbedding, FieldNorm, NumberEmbedding
from stackwise.errors import ModelError
from stackwise.layers.arguments import keeps_arguments
from stackwise.layers.relu_dropout import ReLUDropout

Variant = Literal["serial", "parallel"]


@keeps_arguments
class MaskNet(nn.Module):
    """(B, n_numeric) and (B, n_categorical) -> (B, n_outputs).

        serial     h = block_1(V, LN_EMB(V));  h = block_b(V, h) for b = 2 .. u;  w h + w_0
        parallel   h = [block_1(V, LN_EMB(V)), ..., block_u(V, LN_EMB(V))];  MLP(h)

    Args:
        cardinalities, slots, number_embedding, bins: see `FieldEmbedding`.
        variant: `serial` or `parallel`.
        blocks: u. width: units of a block.
        reduction: r, the hidden units of a mask over its outputs.
        embedding_dim: k, numbers of an embedding.
        embedding_norm: False gives the blocks the raw embedding.
        hidden_norm: False leaves out the norm of each block.
        mask: False multiplies nothing: an MLP, or MLPs side by side.
        dropout: probability that a unit of a block or of the head is dropped.
        head: widths of the parallel net's MLP; the serial net has none.
    """

    arguments: dict[str, Any]

    def __init__(
        self,
        *,
        n_numeric: int,
        cardinalities: Sequence[int] = (),
        n_outputs: int = 1,
        variant: Variant = "serial",
        blocks: int = 3,
        width: int = 128,
        reduction: float = 2.0,
        embedding_dim: int = 10,
        embedding_norm: bool = True,
        hidden_norm: bool = True,
        mask: bool = True,
        dropout: float = 0.0,
        head: Sequence[int] = (128,),
        slots: Sequence[int] | None = None,
        number_embedding: NumberEmbedding = "linear",
        bins: list[list[float]] | None = None,
    ) -> None:
        super().__init__()
        if blocks < 1:
            raise ModelError(f"blocks must be at least 1, got {blocks}")
        if any(units < 1 for units in head):
            raise ModelError(f"a layer of the head needs at least 1 unit, got {list(head)}")
        self.embedding = FieldEmbedding(
            n_numeric, cardinalities, embedding_dim, slots=slots,
            number_embedding=number_embedding, bins=bins,
        )  # fmt: skip
        fields = self.embedding.fields
        self.norm = FieldNorm(fields, embedding_dim) if embedding_norm else None
        d = fields * embedding_dim
        given: dict[str, Any] = {
            "reduction": reduction, "norm": hidden_norm, "mask": mask, "dropout": dropout
        }  # fmt: skip
        self.blocks: nn.ModuleList | ParallelMaskBlocks
        if variant == "serial":
            widths = [d, *[width] * blocks]
            self.blocks = nn.ModuleList(MaskBlock(d, a, b, **given) for a, b in pairwise(widths))
            self.head = nn.Sequential(nn.Linear(width, n_outputs))
        elif variant == "parallel":
            self.blocks = ParallelMaskBlocks(d, width, blocks, **given)
            self.head = mlp([blocks * width, *head], n_outputs, dropout)
        else:
            raise ModelError(f"variant must be serial or parallel, got {variant!r}")

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """(B, n_numeric) float32 and (B, n_categorical) int64 codes -> (B, n_outputs)."""
        fields = self.embedding(numeric, categorical)
        raw = fields.flatten(1)
        h = raw if self.norm is None else self.norm(fields).flatten(1)
        if isinstance(self.blocks, ParallelMaskBlocks):
            h = self.blocks(raw, h)
        else:
            for block in self.blocks:
                h = block(raw, h)
        output: Tensor = self.head(h)
        return output


def mlp(widths: Sequence[int], n_outputs: int, dropout: float) -> nn.Sequential:
    """Linear layers of these widths, each with ReLU and dropout, and a linear one at the end."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), ReLUDropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], n_outputs))
