"""Attention inside chunks of fixed length: a linear cost, and nothing passes from chunk to chunk.

    softmax             A = softmax(q k^T / sqrt(z) + bias_{i-j})                   O = A v
    laplace, relu2      A = f(q k^T / visible keys + bias_{i-j}), hidden ones 0     O = A v
        laplace(x) = (1 + erf((x - sqrt(1/2)) / (sqrt(1/(4 pi)) sqrt 2))) / 2
        relu2(x) = relu(x)^2

The bias depends on the offset alone: `simple` is a learned vector of 2 c - 1 numbers, key minus
query; `rotary` is rot_i(a) . rot_j(b) of two learned vectors, which fits chunks of any length. The
values may be wider than queries and keys.

Source: MEGA's attention (arXiv 2209.10655) and its public code, whose numbers are met to 1e-5.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.errors import ModelError

Kind = Literal["softmax", "laplace", "relu2"]
Bias = Literal["simple", "rotary"]
KINDS = ("softmax", "laplace", "relu2")
MEAN, SPREAD = 0.5**0.5, (0.25 / torch.pi) ** 0.5
STD = 0.02


def laplace(x: Tensor) -> Tensor:
    """A bounded stand-in for relu2, from 0 to 1."""
    return 0.5 * (1 + torch.erf((x - MEAN) / (SPREAD * 2**0.5)))


def relu2(x: Tensor) -> Tensor:
    """relu(x)^2."""
    return functional.relu(x).square()


class SimpleBias(nn.Module):
    """(q, k) -> (q, k) numbers that depend on key minus query, from a learned vector.

    Args:
        chunk: the longest chunk.
    """

    def __init__(self, chunk: int) -> None:
        super().__init__()
        self.chunk = chunk
        self.table = nn.Parameter(torch.empty(2 * chunk - 1).normal_(std=STD))

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """(q,) and (k,) places in the chunk -> (q, k)."""
        if max(int(queries.max()), int(keys.max())) >= self.chunk:
            raise ModelError(
                f"a chunk of {int(keys.max()) + 1} is longer than the {self.chunk} of the simple "
                "bias; take bias='rotary', which fits any"
            )
        return self.table[keys - queries[:, None] + self.chunk - 1]


class RotaryBias(nn.Module):
    """(q, k) -> (q, k) numbers rot_q(a) . rot_k(b), for any places.

    Args:
        dim: z, an even number.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % 2:
            raise ModelError(f"a rotary bias takes an even z_dim, got {dim}")
        self.query = nn.Parameter(torch.empty(dim).normal_(std=STD))
        self.key = nn.Parameter(torch.empty(dim).normal_(std=STD))

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """(q,) and (k,) places in the chunk -> (q, k)."""
        return _turned(self.query, queries) @ _turned(self.key, keys).T


def _turned(vector: Tensor, places: Tensor) -> Tensor:
    """(places, z): the halves of a vector, turned by each place."""
    half = len(vector) // 2
    rates = 10_000 ** (-torch.arange(half, device=vector.device, dtype=vector.dtype) / half)
    angles = places.to(vector.dtype)[:, None] * rates
    sine, cosine = angles.sin(), angles.cos()
    first, second = vector[:half], vector[half:]
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], 1)


class ChunkAttend(nn.Module):
    """Attention of queries, keys and values inside chunks, with its bias; no linear maps.

    Args:
        z_dim: of queries and keys. chunk: places of a chunk. causal: none looks ahead.
        activation: softmax, laplace or relu2. bias: simple or rotary. dropout: of the weights.
    """

    def __init__(
        self, z_dim: int, chunk: int, *, causal: bool = True, activation: Kind = "softmax",
        bias: Bias = "simple", dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if activation not in KINDS:
            raise ModelError(f"attention activation must be one of {', '.join(KINDS)}, not "
                             f"{activation!r}")  # fmt: skip
        if bias not in ("simple", "rotary"):
            raise ModelError(f"bias must be simple or rotary, not {bias!r}")
        if chunk < 1 or z_dim < 1:
            raise ModelError(f"chunk and z_dim are at least 1, got {chunk} and {z_dim}")
        self.z_dim, self.chunk, self.causal, self.activation = z_dim, chunk, causal, activation
        self.bias: nn.Module = SimpleBias(chunk) if bias == "simple" else RotaryBias(z_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, L, z), (B, L, z) and (B, L, v) -> (B, L, v).

        Args:
            mask: (B, L) bool, False where there is only padding, which no query attends to.
        """
        length = q.shape[1]
        if not length:
            raise ModelError("attention needs at least one place, got a sequence of length 0")
        size = min(self.chunk, length)
        lacking = -length % size
        if lacking:
            if mask is None and not self.causal:  # else nobody looks at what is filled up
                mask = torch.ones(q.shape[:2], dtype=torch.bool, device=q.device)
            mask = None if mask is None else functional.pad(mask, (0, lacking))
            q, k, v = (functional.pad(one, (0, 0, 0, lacking)) for one in (q, k, v))
        q, k, v = (one.unflatten(1, (-1, size)) for one in (q, k, v))
        cut = None if mask is None else mask.unflatten(1, (-1, size))
        places = torch.arange(size, device=q.device)
        found = self.attend(q, k, v, places, places, cut)
        return found.flatten(1, 2)[:, :length]

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, at: Tensor, seen: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """(..., q, z), (..., k, z) and (..., k, v) of chunks -> (..., q, v).

        Args:
            at, seen: (q,) and (k,) the places of queries and keys in their chunk.
            mask: (..., k) bool, False for padding. A chunk of padding alone is attended to, so
                that no row is without a key.
        """
        bias = self.bias(at, seen).to(q.dtype)
        past = seen <= at[:, None] if self.causal else None
        if self.activation == "softmax":
            return self._softmax(q, k, v, bias, past, mask)
        visible: Tensor | float = float(len(seen))
        if past is not None:
            visible = past.sum(-1, keepdim=True).to(q.dtype)
        elif mask is not None:
            visible = mask.sum(-1).clamp(min=1)[..., None, None].to(q.dtype)
        scores = (q @ k.transpose(-1, -2)) / visible + bias
        weights = laplace(scores) if self.activation == "laplace" else relu2(scores)
        if past is not None:
            weights = weights * past.to(q.dtype)
        if mask is not None:
            weights = weights * mask[..., None, :].to(q.dtype)
        return self.dropout(weights) @ v

    def _softmax(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        bias: Tensor,
        past: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor:
        added = bias if past is None else bias.masked_fill(~past, -torch.inf)
        if mask is not None:
            hidden = ~mask & mask.any(-1, keepdim=True)
            hidden = hidden[..., None, :]
            if past is not None:  # of a query that sees padding alone, that stays
                alone = (hidden | ~past).all(-1, keepdim=True)
                hidden = hidden & ~alone
            added = added.masked_fill(hidden, -torch.inf)
        shape = q.shape[:-2]
        q, k, v = (one.flatten(0, -3).unsqueeze(1) for one in (q, k, v))
        if mask is not None:
            added = added.expand(*shape, *added.shape[-2:]).flatten(0, -3).unsqueeze(1)
        dropped = self.dropout.p if self.training else 0.0
        found = functional.scaled_dot_product_attention(q, k, v, attn_mask=added, dropout_p=dropped)
        return found.squeeze(1).unflatten(0, shape)


class ChunkedAttention(nn.Module):
    """Attention inside chunks with linear maps of its own, (B, L, dim) -> (B, L, dim).

    Args:
        dim: of the stream. z_dim: of queries and keys. v_dim: of values. The rest as `ChunkAttend`.
    """

    def __init__(
        self, dim: int, z_dim: int, v_dim: int, chunk: int = 128, *, causal: bool = True,
        activation: Kind = "softmax", bias: Bias = "simple", dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.query, self.key = nn.Linear(dim, z_dim), nn.Linear(dim, z_dim)
        self.value, self.output = nn.Linear(dim, v_dim), nn.Linear(v_dim, dim)
        self.inside = ChunkAttend(
            z_dim, chunk, causal=causal, activation=activation, bias=bias, dropout=dropout
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, L, dim) -> (B, L, dim); `mask` (B, L) is False for padding."""
        found = self.inside(self.query(x), self.key(x), self.value(x), mask)
        return self.output(found)  # type: ignore[no-any-return]
