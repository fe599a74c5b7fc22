"""One block: an operator carries the long range, attention mixes inside chunks, a gate joins both.

    Xn = Norm(X)
    X' = silu(op(Xn) + omega * Xn)            op: dilated convolutions (TCNCA) or an EMA (MEGA)
    V  = silu(Xn W_v + b_v)                   from the normalised input, not from X'
    [U, Z, R, Hx] = X' W_m + b_m;   U = sigmoid(U),  Z = silu(Z),  R = silu(R)
    Q = Z * g_q + m_q,   K = Z * g_k + m_k    one projection for queries and keys
    O = attention of Q, K, V inside chunks
    H = silu(Hx + (O * R) W_h + b_h)
    Y = X + U * (H - X)                       X is the raw residual, not the normalised one
    then Y + W_2 silu(W_1 Norm(Y))

`simple` is the form for recall, without products and sums of streams: X1 = X + X'(Norm X), then
X1 + attention(Norm X1) with linear maps of its own. With `norm_first=False` the operator and the
values read X itself and the norm follows each sum.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.build.tcnca.sizes import Sizes
from stackwise.layers.chunked_attention import ChunkAttend, ChunkedAttention

STD = 0.02


class Temporal(nn.Module):
    """silu(op(x) + omega * x), so that operators are exchangeable: (B, L, dim) -> (B, L, dim)."""

    def __init__(self, operator: nn.Module, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.operator = operator
        self.omega = nn.Parameter(torch.empty(dim).normal_())
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x if mask is None else x * mask[..., None].to(x.dtype)
        return self._joined(self.operator(x, mask), x)

    def _joined(self, moved: Tensor, x: Tensor) -> Tensor:
        found: Tensor = self.dropout(functional.silu(moved + self.omega * x))
        return found

    def start(self, batch: int) -> Any:
        """The operator's state before the first moment."""
        return self.operator.start(batch)  # type: ignore[operator]

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Go on with (B, T, dim) further moments."""
        moved, after = self.operator.step(x, state)  # type: ignore[operator]
        return self._joined(moved, x), after


class GatedMixing(nn.Module):
    """Gated chunked attention behind a temporal operator; the equations are above."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        dim, z_dim, v_dim = sizes.dim, sizes.z_dim, sizes.v_dim
        operator = sizes.operator_module()
        self.norm = sizes.norm_module()
        self.temporal = None if operator is None else Temporal(operator, dim, sizes.dropout)
        self.main = nn.Linear(dim, dim + z_dim + v_dim + dim)
        self.value = nn.Linear(dim, v_dim)
        self.output = nn.Linear(v_dim, dim)
        self.scale = nn.Parameter(torch.empty(2, z_dim).normal_(std=STD))
        self.shift = nn.Parameter(torch.zeros(2, z_dim))
        self.attend = ChunkAttend(
            z_dim, sizes.chunk, causal=sizes.causal, activation=sizes.activation, bias=sizes.bias,
            dropout=sizes.dropout,
        )  # fmt: skip
        self.dropout = nn.Dropout(sizes.dropout)
        for linear in (self.main, self.value, self.output):
            nn.init.normal_(linear.weight, std=STD)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, L, dim) -> (B, L, dim)."""
        read = self.norm(x) if self.sizes.norm_first else x
        moved = read if self.temporal is None else self.temporal(read, mask)
        u, q, k, r, hx = self._parts(moved)
        attended = self.attend(q, k, self._values(read), mask) if self.sizes.attention else None
        return self._joined(x, u, r, hx, attended)

    def _values(self, read: Tensor) -> Tensor:
        found: Tensor = self.dropout(functional.silu(self.value(read)))
        return found

    def _parts(self, moved: Tensor) -> tuple[Tensor, ...]:
        """U, Q, K, R and Hx of X'."""
        sizes = self.sizes
        u, z, r, hx = self.main(moved).split([sizes.dim, sizes.z_dim, sizes.v_dim, sizes.dim], -1)
        z = functional.silu(z)
        q, k = (z * g + m for g, m in zip(self.scale, self.shift, strict=True))
        return u.sigmoid(), q, k, functional.silu(r), hx

    def _joined(self, x: Tensor, u: Tensor, r: Tensor, hx: Tensor, o: Tensor | None) -> Tensor:
        added = hx if o is None else hx + self.output(o * r)
        h = self.dropout(functional.silu(added))
        y = x + u * (h - x)
        return y if self.sizes.norm_first else self.norm(y)

    def start(self, batch: int) -> dict[str, Any]:
        """The state before the first moment."""
        zeros = self.scale.new_zeros
        return {
            "temporal": None if self.temporal is None else self.temporal.start(batch),
            "keys": zeros(batch, 0, self.sizes.z_dim), "values": zeros(batch, 0, self.sizes.v_dim),
        }  # fmt: skip

    def step(self, x: Tensor, state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Go on with (B, T, dim) moments that end in the chunk in which they begin."""
        read = self.norm(x) if self.sizes.norm_first else x
        moved, after = read, None
        if self.temporal is not None:
            moved, after = self.temporal.step(read, state["temporal"])
        u, q, k, r, hx = self._parts(moved)
        kept, attended = {"temporal": after}, None
        if self.sizes.attention:
            v = self._values(read)
            attended, kept["keys"], kept["values"] = within_chunk(self.attend, q, k, v, state)
        else:
            kept |= {"keys": state["keys"], "values": state["values"]}
        return self._joined(x, u, r, hx, attended), kept


class SimpleMixing(nn.Module):
    """The operator and chunked attention one after the other, each added to the stream."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        operator = sizes.operator_module()
        self.temporal = None if operator is None else Temporal(operator, sizes.dim, sizes.dropout)
        self.norm, self.attention_norm = sizes.norm_module(), sizes.norm_module()
        self.attention = ChunkedAttention(
            sizes.dim, sizes.z_dim, sizes.v_dim, sizes.chunk, causal=sizes.causal,
            activation=sizes.activation, bias=sizes.bias, dropout=sizes.dropout,
        )  # fmt: skip

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, L, dim) -> (B, L, dim)."""
        if self.temporal is not None:
            x = self._added(x, self.norm, lambda read: self.temporal(read, mask))  # type: ignore[misc]
        if not self.sizes.attention:
            return x
        return self._added(x, self.attention_norm, lambda read: self.attention(read, mask))

    def _added(self, x: Tensor, norm: nn.Module, part: Any) -> Tensor:
        if self.sizes.norm_first:
            return torch.as_tensor(x + part(norm(x)))
        return torch.as_tensor(norm(x + part(x)))

    def start(self, batch: int) -> dict[str, Any]:
        """The state before the first moment."""
        weight = self.attention.query.weight
        return {
            "temporal": None if self.temporal is None else self.temporal.start(batch),
            "keys": weight.new_zeros(batch, 0, self.sizes.z_dim),
            "values": weight.new_zeros(batch, 0, self.sizes.v_dim),
        }

    def step(self, x: Tensor, state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Go on with (B, T, dim) moments that end in the chunk in which they begin."""
        kept = dict(state)

        def temporal(read: Tensor) -> Tensor:
            assert self.temporal is not None
            moved, kept["temporal"] = self.temporal.step(read, state["temporal"])
            return moved

        def attention(read: Tensor) -> Tensor:
            own = self.attention
            q, k, v = own.query(read), own.key(read), own.value(read)
            found, kept["keys"], kept["values"] = within_chunk(own.inside, q, k, v, state)
            return torch.as_tensor(own.output(found))

        if self.temporal is not None:
            x = self._added(x, self.norm, temporal)
        if self.sizes.attention:
            x = self._added(x, self.attention_norm, attention)
        return x, kept


def within_chunk(
    attend: ChunkAttend, q: Tensor, k: Tensor, v: Tensor, state: dict[str, Any]
) -> tuple[Tensor, Tensor, Tensor]:
    """Attention of further places of a chunk; returns it, and the keys and values to go on with."""
    keys, values = torch.cat([state["keys"], k], 1), torch.cat([state["values"], v], 1)
    seen = torch.arange(keys.shape[1], device=q.device)
    found = attend.attend(q, keys, values, seen[-q.shape[1] :], seen)
    full = keys.shape[1] == attend.chunk  # the next place begins a chunk
    return found, keys[:, :0] if full else keys, values[:, :0] if full else values


class FeedForward(nn.Module):
    """Y + W_2 silu(W_1 Norm(Y)), or with the norm behind the sum."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.norm, self.norm_first = sizes.norm_module(), sizes.norm_first
        self.first = nn.Linear(sizes.dim, sizes.ffn_dim)
        self.second = nn.Linear(sizes.ffn_dim, sizes.dim)
        self.dropout = nn.Dropout(sizes.dropout)
        for linear in (self.first, self.second):
            nn.init.normal_(linear.weight, std=STD)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)."""
        read = self.norm(x) if self.norm_first else x
        inner = self.dropout(functional.silu(self.first(read)))
        y = x + self.dropout(self.second(inner))
        return torch.as_tensor(y if self.norm_first else self.norm(y))


class Block(nn.Module):
    """Mixing over time and chunk, then the feed-forward part: (B, L, dim) -> (B, L, dim)."""

    mixing: "GatedMixing | SimpleMixing"

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.mixing = GatedMixing(sizes) if sizes.form == "gated" else SimpleMixing(sizes)
        self.feed_forward = FeedForward(sizes)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, L, dim); `mask` (B, L) bool is False for padding."""
        return torch.as_tensor(self.feed_forward(self.mixing(x, mask)))

    def step(self, x: Tensor, state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Go on with moments that end in the chunk in which they begin."""
        mixed, after = self.mixing.step(x, state)
        return self.feed_forward(mixed), after
