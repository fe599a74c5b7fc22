"""The instance-guided mask, the block that it multiplies, and several such blocks side by side."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.errors import ModelError
from stackwise.layers.ensemble import EnsembleLinear, uniform_
from stackwise.layers.relu_dropout import ReLUDropout


def aggregation_width(d_out: int, reduction: float) -> int:
    """t = r z, the width of a mask's hidden layer."""
    width = int(reduction * d_out)
    if width < 1:
        raise ModelError(
            f"reduction {reduction:g} leaves a mask of {d_out} numbers no hidden unit; it must be "
            f"at least {1 / d_out:g}"
        )
    return width


class InstanceGuidedMask(nn.Module):
    """V_mask = W_2 ReLU(W_1 V + b_1) + b_2: (B, d_in) -> (B, d_out), not bounded.

    Args:
        d_in: numbers of the row's raw embedding, f k.
        d_out: numbers of what is multiplied.
        reduction: r; the hidden layer ("aggregation") has r d_out units.
    """

    def __init__(self, d_in: int, d_out: int, reduction: float = 2.0) -> None:
        super().__init__()
        self.aggregate = nn.Linear(d_in, aggregation_width(d_out, reduction))
        self.project = nn.Linear(self.aggregate.out_features, d_out)
        for layer in (self.aggregate, self.project):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, embedding: Tensor) -> Tensor:
        mask: Tensor = self.project(self.aggregate(embedding).relu())
        return mask


class MaskBlock(nn.Module):
    """ReLU(LN(W (V_mask * h))): the raw embedding (B, d_embedding) and h (B, d_in) -> (B, d_out).

    On the embedding h is LN_EMB(V), on a block it is that block's output.

    Args:
        norm: without it W has a bias and there is no LN.
        mask: without it h is not multiplied, which leaves a layer of an MLP.
    """

    def __init__(
        self,
        d_embedding: int,
        d_in: int,
        d_out: int,
        *,
        reduction: float = 2.0,
        norm: bool = True,
        mask: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.mask = InstanceGuidedMask(d_embedding, d_in, reduction) if mask else None
        self.linear = nn.Linear(d_in, d_out, bias=not norm)
        self.norm = nn.LayerNorm(d_out) if norm else None
        self.activation = ReLUDropout(dropout)

    def forward(self, embedding: Tensor, h: Tensor) -> Tensor:
        if self.mask is not None:
            h = h * self.mask(embedding)
        h = self.linear(h)
        output: Tensor = self.activation(h if self.norm is None else self.norm(h))
        return output


class ParallelMaskBlocks(nn.Module):
    """u blocks on the embedding, side by side: (B, d_in) twice -> (B, u d_out), block by block.

    Every mask reads the same embedding, so the u aggregation layers are one matrix product of
    d_in -> u t; the projections and the W of the blocks are a batched product each.

    Args: as of `MaskBlock`; blocks: u.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        blocks: int,
        *,
        reduction: float = 2.0,
        norm: bool = True,
        mask: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.count = blocks
        self.aggregate: nn.Linear | None = None
        self.project: EnsembleLinear | None = None
        if mask:
            hidden = aggregation_width(d_in, reduction)
            self.aggregate = nn.Linear(d_in, blocks * hidden)
            self.project = EnsembleLinear(hidden, d_in, k=blocks)
            for layer in (self.aggregate, self.project):
                _xavier_(layer.weight, d_in + hidden)
                nn.init.zeros_(layer.bias)
        self.weight = nn.Parameter(uniform_(torch.empty(blocks, d_in, d_out), d_in))
        self.bias = nn.Parameter(torch.zeros(blocks, 1, d_out))
        self.scale = nn.Parameter(torch.ones(blocks, 1, d_out)) if norm else None
        self.activation = ReLUDropout(dropout)

    def forward(self, embedding: Tensor, h: Tensor) -> Tensor:
        """The raw embedding and its norm, both (B, d_in), -> (B, blocks * d_out)."""
        if self.aggregate is None or self.project is None:
            masked = h.expand(self.count, -1, -1)
        else:
            hidden = self.aggregate(embedding).relu().unflatten(-1, (self.count, -1))
            masked = self.project(hidden).transpose(0, 1) * h  # (u, B, d_in)
        if self.scale is None:
            z = torch.baddbmm(self.bias, masked, self.weight)
        else:
            z = torch.bmm(masked, self.weight)
            z = torch.addcmul(self.bias, functional.layer_norm(z, z.shape[-1:]), self.scale)
        return self.activation(z).transpose(0, 1).flatten(1)


def _xavier_(weight: Tensor, fans: int) -> None:
    """Glorot's uniform values for layers of this many inputs and outputs together, in place."""
    bound = (6 / fans) ** 0.5
    nn.init.uniform_(weight, -bound, bound)
