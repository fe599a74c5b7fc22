"""A transformer block of N parallel branches whose inner signals can be pulled together.

Tokens X (T, D) are normalised once for all branches, Z = (X - mean) / sqrt(var + eps); a scale and
a shift of a branch's own would be part of its first matrix anyway. With lambda in [0, 1]:

    FFN         u_i = Z W1_i + b1_i
                u~_i = (1 - lambda) u_i + lambda mean_j u_j                                (eq. 1)
                Y = X + sum_i phi(u~_i) W2_i + b2

    attention   Q_ih = Z WQ_ih + bQ_ih, K and V likewise, joined head by head as in eq. 1
                Y = X + sum_i sum_h softmax(Q~_ih K~_ih^T / sqrt(e)) V_ih WO_ih + bO       (eq. 2)

The mean may be a weighted one whose weights w_i are learned (`mixing="learned"`), and pairs of
branches may be joined before pairs of pairs are (`pairwise`): from 4 to 2 to 1.

Joining happens where a nonlinear function takes its input, never after it: the average of outputs
is an ensemble, which does not merge. At lambda = 0 the block is N plain ones side by side, at
lambda = 1 all branches see the same, and `merging` makes one of them. Of the branches' output
biases only the sum is ever seen, so that one is kept.

Branches lie side by side in wide matrices: at lambda = 0 the FFN simply is one of N H units, and
the attention one of N h heads.

Source: arXiv 2511.19718. The equations were derived from its abstract; see the package.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.errors import ModelError
from stackwise.layers.drop_path import DropPath

Values = Literal["join", "wide"]
Mixing = Literal["mean", "learned"]


class Joined(nn.Module):
    """What both sublayers share: N branches, and lambda as a buffer that checkpoints keep.

    Args:
        mixing: `mean`, or `learned`: mean_j u_j is sum_j w_j u_j, w = softmax of parameters.
        pairwise: with N = 2^k, pairs are joined while lambda goes from 0 to 1 / k, pairs of pairs
            while it goes on to 2 / k, and so forth.
    """

    lam: Tensor

    def __init__(self, branches: int, mixing: Mixing = "mean", pairwise: bool = False) -> None:
        super().__init__()
        if branches < 1:
            raise ModelError(f"branches must be at least 1, got {branches}")
        if pairwise and branches & (branches - 1):
            raise ModelError(f"pairwise joining takes 2, 4, 8, ... branches, got {branches}")
        self.branches = branches
        self.sizes = [branches]
        if pairwise and branches > 1:
            self.sizes = [2**level for level in range(1, branches.bit_length())]
        learned = mixing == "learned" and branches > 1
        self.mix = nn.Parameter(torch.zeros(branches)) if learned else None
        self.register_buffer("lam", torch.zeros(()))

    def shares(self, dtype: torch.dtype) -> Tensor:
        """(N,) the weight of each branch in the mean; they sum to 1."""
        if self.mix is None:
            return torch.full((self.branches,), 1 / self.branches, dtype=dtype)
        return self.mix.to(dtype).softmax(0)

    def join(self, u: Tensor, dim: int) -> Tensor:
        """Equation 1 over the branches, which lie along `dim`."""
        if self.branches == 1:
            return u
        count = len(self.sizes)
        for level, size in enumerate(self.sizes):
            lam = self.lam if count == 1 else (self.lam * count - level).clamp(0, 1)
            # lerp returns its end exactly at 1
            u = u.lerp(self.mean_of(u, dim, size).expand_as(u), lam.to(u.dtype))
        return u

    def mean_of(self, u: Tensor, dim: int, size: int | None = None) -> Tensor:
        """The mean over groups of so many neighbouring branches, of the shape of `u`; over all of
        them it has length 1 along `dim`.
        """
        size = size or self.branches
        if size == self.branches and self.mix is None:
            return u.mean(dim, keepdim=True)
        dim = dim % u.ndim
        groups = u.unflatten(dim, (-1, size))
        if self.mix is None:
            mean = groups.mean(dim + 1, keepdim=True)
        else:
            weights = self.shares(u.dtype).view(-1, size)
            weights = weights / weights.sum(1, keepdim=True)
            weights = weights[(...,) + (None,) * (u.ndim - dim - 1)]
            mean = (groups * weights).sum(dim + 1, keepdim=True)
        if size == self.branches:
            return mean.squeeze(dim)
        return mean.expand_as(groups).flatten(dim, dim + 1)


class BranchedFFN(Joined):
    """N joined feed-forward branches on normalised tokens, (B, T, D) -> (B, T, D).

    Args:
        dim: D. hidden: H, units of a branch.
        activation: phi, elementwise; the exact GELU by default.
        mixing, pairwise: see `Joined`.
    """

    def __init__(
        self, dim: int, hidden: int, branches: int = 1, *, activation: nn.Module | None = None,
        mixing: Mixing = "mean", pairwise: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(branches, mixing, pairwise)
        self.hidden = hidden
        self.first = nn.Linear(dim, branches * hidden)
        self.activation = activation or nn.GELU()
        self.second = nn.Linear(branches * hidden, dim)

    def forward(self, z: Tensor) -> Tensor:
        u = self.first(z).unflatten(-1, (self.branches, self.hidden))
        inner = self.activation(self.join(u, -2)).flatten(-2)
        output: Tensor = self.second(inner)
        return output


class Projection(nn.Linear):
    """What the heads saw, (B, N h, T, e_v), side by side and through W_O: (B, T, D)."""

    def forward(self, seen: Tensor) -> Tensor:
        return super().forward(seen.transpose(1, 2).flatten(2))


class HeadSum(nn.Module):
    """sum_h P_h Z M_h + b_O, where W_O is part of M_h already: (B, h, T, D) -> (B, T, D)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, seen: Tensor) -> Tensor:
        return seen.sum(1) + self.bias


class BranchedAttention(Joined):
    """N joined self-attentions on normalised tokens, (B, T, D) -> (B, T, D).

    Args:
        dim: D. heads: h of a branch, each e = D / h wide.
        values: `join` joins V as Q and K, and merges to attention of the same size; `wide` leaves V
            alone, and merges to heads whose values stand side by side.
        wide: of how many branches the values stand side by side, in a merged attention. Where
            they would be wider than the stream, W_V and W_O are kept as their product M_h (D, D).
        mixing, pairwise: see `Joined`.
    """

    def __init__(
        self, dim: int, heads: int, branches: int = 1, *, values: Values = "join", wide: int = 1,
        mixing: Mixing = "mean", pairwise: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(branches, mixing, pairwise)
        if dim % heads:
            raise ModelError(f"a width of {dim} cannot be split into {heads} heads")
        if values not in ("join", "wide"):
            raise ModelError(f"values must be join or wide, got {values!r}")
        if branches > 1 and wide > 1:
            raise ModelError(f"attention is wide={wide} after its branches merge, not before")
        self.dim, self.heads, self.head_dim, self.values = dim, heads, dim // heads, values
        self.wide = wide
        self.product = wide * self.head_dim > dim
        self.value_dim = dim if self.product else wide * self.head_dim
        self.widths = [branches * heads * n for n in (self.head_dim, self.head_dim, self.value_dim)]
        self.qkv = nn.Linear(dim, sum(self.widths))
        self.out = HeadSum(dim) if self.product else Projection(self.widths[2], dim)

    def signals(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Q, K (B, T, N, h, e) and V (B, T, N, h, e_v) of every branch, before they are joined."""
        q, k, v = (
            part.unflatten(-1, (self.branches, self.heads, -1))
            for part in self.qkv(z).split(self.widths, dim=-1)
        )
        return q, k, v

    def forward(self, z: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """With a mask as `scaled_dot_product_attention` takes it, (B, 1, T, T)."""
        q, k, v = self.signals(z)
        q, k = self.join(q, 2), self.join(k, 2)
        v = self.join(v, 2) if self.values == "join" else v
        q, k, v = (part.flatten(2, 3).transpose(1, 2) for part in (q, k, v))
        seen = functional.scaled_dot_product_attention(q, k, v, attention_mask)
        output: Tensor = self.out(seen)
        return output


class BranchedBlock(nn.Module):
    """A pre-norm transformer block of N branches, (B, T, D) -> (B, T, D).

        X = X + attention(normalize(X));    X = X + ffn(normalize(X))

    Args:
        mlp_ratio: units of a feed-forward branch, as a multiple of D.
        eps: added to the variance of the normalisation.
        dropout: of each element of a sublayer's sum. drop_path: of the whole sum, for a row.
        activation, values, wide, mixing, pairwise: see `BranchedFFN`, `BranchedAttention` and
            `Joined`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        branches: int = 1,
        mlp_ratio: float = 4.0,
        *,
        values: Values = "join",
        wide: int = 1,
        eps: float = 1e-6,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        activation: nn.Module | None = None,
        mixing: Mixing = "mean",
        pairwise: bool = False,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=eps, elementwise_affine=False)
        how: dict[str, Any] = {"mixing": mixing, "pairwise": pairwise}
        self.attention = BranchedAttention(dim, heads, branches, values=values, wide=wide, **how)
        self.ffn = BranchedFFN(dim, round(dim * mlp_ratio), branches, activation=activation, **how)
        self.drop = nn.Sequential(nn.Dropout(dropout), DropPath(drop_path))

    @property
    def branches(self) -> int:
        """N."""
        return self.ffn.branches

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **_: object
    ) -> Tensor:
        """As a layer of transformers is called; further arguments of such calls mean nothing."""
        h = hidden_states
        h = h + self.drop(self.attention(self.norm(h), attention_mask))
        output: Tensor = h + self.drop(self.ffn(self.norm(h)))
        return output


def branched_blocks(model: nn.Module) -> list[BranchedBlock]:
    """The branched blocks of a model, in its order.

    Raises:
        ModelError: it has none.
    """
    found = [module for module in model.modules() if isinstance(module, BranchedBlock)]
    if not found:
        raise ModelError(f"{type(model).__name__} has no branched blocks; make them with `grouped`")
    return found


@torch.no_grad()
def branch_gap(model: nn.Module, *inputs: Tensor, **named: Tensor) -> list[dict[str, float]]:
    """How far the branches of each layer are apart where they are joined, on one batch.

        gap = max_i |u_i - mean_j u_j| / |mean_j u_j|         Frobenius norms over the batch

    Returns:
        For each layer {"attention": gap, "ffn": gap}; 0 = the branches agree. Of attention the
        largest of Q, K and, with `values="join"`, V.
    """
    gaps: list[dict[str, float]] = []
    seen: dict[nn.Module, Tensor] = {}
    blocks = branched_blocks(model)
    watched = [sublayer for block in blocks for sublayer in (block.attention, block.ffn)]

    def keep(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen[module] = args[0]

    hooks = [sublayer.register_forward_pre_hook(keep) for sublayer in watched]
    try:
        model(*inputs, **named)
    finally:
        for hook in hooks:
            hook.remove()
    for block in blocks:
        attention, ffn = block.attention, block.ffn
        signals = attention.signals(seen[attention])[: 3 if attention.values == "join" else 2]
        u = ffn.first(seen[ffn]).unflatten(-1, (ffn.branches, ffn.hidden))
        gaps.append({
            "attention": max(_gap(attention, signal, 2) for signal in signals),
            "ffn": _gap(ffn, u, -2),
        })  # fmt: skip
    return gaps


def _gap(joined: Joined, u: Tensor, dim: int) -> float:
    mean = joined.mean_of(u, dim)
    apart = torch.stack([(one - mean).norm() for one in u.split(1, dim)])
    return float(apart.max() / mean.norm().clamp_min(1e-12))
