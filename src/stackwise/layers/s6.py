"""S6, the selective state space layer: a token decides how much of the past it keeps.

With width D, inner width E = expand D, state N, kernel k and rank R, input u (B, L, D):

    [x, z] = u W_in                                     (B, L, E) each
    x = SiLU(conv(x))                                   causal, depthwise, over k tokens
    [d, B, C] = x W_x                                   (B, L, R), (B, L, N), (B, L, N)
    Delta = softplus(d W_dt + b_dt)                     (B, L, E)
    A = -exp(A_log)                                     (E, N)
    h_t = exp(Delta_t A) * h_{t-1} + (Delta_t x_t) B_t  (B, E, N), h_0 = 0
    y_t = h_t C_t + Dskip * x_t
    out = (y * SiLU(z)) W_out                           (B, L, D)

A large Delta forgets and writes, a small one keeps the state and ignores the token. This is the
whole mixer of a Mamba block; norm and residual are the block's.

Source: arXiv 2312.00752. Names and shapes of the weights are those of state-spaces/mamba and of
transformers' MambaMixer, so that `load_state_dict` reads theirs. Delta, A and h are float32 at
least, whatever autocast says: an error in exp(Delta A) is multiplied once a step.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.errors import ModelError
from stackwise.layers.selective_scan import selective_scan

DT_RANGE = (1e-3, 0.1)
"""Where step sizes begin, evenly on a log scale."""
DT_FLOOR = 1e-4


class S6State(NamedTuple):
    """What an `S6` remembers of the tokens that it has read."""

    conv: Tensor
    """(B, E, k): the last k inputs of the convolution, the oldest first."""
    ssm: Tensor
    """(B, E, N): h."""


class S6(nn.Module):
    """The selective state space layer, (B, L, D) -> (B, L, D).

    Args:
        d_model: D. d_state: N, numbers of the state a channel. d_conv: k. expand: E / D.
        dt_rank: R; `auto` is D / 16, rounded up.
        bidirectional: add a second layer that reads the tokens from the last to the first.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | Literal["auto"] = "auto",
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        rank = math.ceil(d_model / 16) if dt_rank == "auto" else dt_rank
        sizes = {
            "d_model": d_model, "d_state": d_state, "d_conv": d_conv, "expand": expand,
            "dt_rank": rank,
        }  # fmt: skip
        for name, size in sizes.items():
            if size < 1:
                raise ModelError(f"{name} must be at least 1, got {size}")
        self.d_model, self.d_state, self.d_conv = d_model, d_state, d_conv
        self.d_inner, self.dt_rank = expand * d_model, rank
        inner = self.d_inner
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, d_conv, groups=inner, padding=d_conv - 1)
        self.x_proj = nn.Linear(inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, d_model, bias=False)
        self._init_step_sizes()
        self.reverse = S6(d_model, d_state, d_conv, expand, dt_rank) if bidirectional else None

    @torch.no_grad()
    def _init_step_sizes(self) -> None:
        """softplus(b_dt) is log-uniform in `DT_RANGE`; b = dt + log(1 - exp(-dt)) inverts it."""
        self.dt_proj.weight.uniform_(-(self.dt_rank**-0.5), self.dt_rank**-0.5)
        low, high = map(math.log, DT_RANGE)
        dt = torch.empty(self.d_inner).uniform_(low, high).exp_().clamp_(min=DT_FLOOR)
        self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))

    def forward(self, u: Tensor) -> Tensor:
        """All tokens at once: (B, L, D) -> (B, L, D)."""
        out, _ = self._mix(u, self.start(u))
        if self.reverse is not None:
            out = out + self.reverse(u.flip(1)).flip(1)
        return out

    def start(self, u: Tensor) -> S6State:
        """The state before the first token, for a batch like u: zeros."""
        rows = u.shape[0], self.d_inner
        wide = torch.promote_types(u.dtype, torch.float32)
        return S6State(
            u.new_zeros(*rows, self.d_conv), u.new_zeros(*rows, self.d_state, dtype=wide)
        )

    def read(self, u: Tensor, state: S6State | None = None) -> tuple[Tensor, S6State]:
        """Some tokens after those that `state` has seen: (B, L, D) -> (B, L, D), and the state."""
        if self.reverse is not None:
            raise ModelError("a bidirectional layer cannot go token by token, it reads the end too")
        return self._mix(u, self.start(u) if state is None else state)

    def step(self, x: Tensor, state: S6State | None = None) -> tuple[Tensor, S6State]:
        """One token in O(E N), however many came before: (B, D) -> (B, D), and the state."""
        out, state = self.read(x[:, None], state)
        return out[:, 0], state

    def multiply_adds(self, length: int) -> int:
        """Multiply-adds for one sequence of `length` tokens."""
        D, E, N, R = self.d_model, self.d_inner, self.d_state, self.dt_rank
        products = length * (2 * D * E + E * (R + 2 * N) + R * E + E * D)
        total = products + self.conv_and_scan_multiply_adds(length)
        return total if self.reverse is None else total + self.reverse.multiply_adds(length)

    def conv_and_scan_multiply_adds(self, length: int) -> int:
        """Those that are no matrix product, of this direction: k E + 5 E N a token.

        The five are exp(Delta A), the product with B, the two of the recurrence, the one with C.
        """
        return length * self.d_inner * (self.d_conv + 5 * self.d_state)

    def _mix(self, u: Tensor, state: S6State) -> tuple[Tensor, S6State]:
        """The equations of the module's docstring, with time as the first dimension."""
        if u.ndim != 3 or u.shape[2] != self.d_model:
            raise ModelError(f"S6 reads (B, L, {self.d_model}), got {tuple(u.shape)}")
        if u.shape[1] == 0:
            raise ModelError("S6 needs at least one token, got a sequence of length 0")
        wide = torch.promote_types(u.dtype, torch.float32)
        x, z = self.in_proj(u.transpose(0, 1)).chunk(2, -1)
        x, conv = self._convolve(x, state.conv)
        sizes = [self.dt_rank, self.d_state, self.d_state]
        d, B, C = self.x_proj(x).split(sizes, -1)
        d = functional.linear(d, self.dt_proj.weight).to(wide)
        delta = functional.softplus(d + self.dt_proj.bias.to(wide))
        A = -self.A_log.to(wide).exp()
        x = x.to(wide)
        y, ssm = selective_scan(x, delta, A, B.to(wide), C.to(wide), state.ssm)
        y = torch.addcmul(y, x, self.D.to(wide)).to(z.dtype) * functional.silu(z)
        return self.out_proj(y).transpose(0, 1), S6State(conv, ssm)

    def _convolve(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """SiLU(conv(x)) of x (L, B, E) after the inputs `before` (B, E, k), and the last k inputs.

        A sum of k shifted copies: with time first it is faster than torch's convolution.
        """
        seen = torch.cat([before.to(x.dtype).permute(2, 0, 1), x])
        weight, y = self.conv1d.weight[:, 0].T, self.conv1d.bias
        assert y is not None
        for place in range(self.d_conv):
            y = torch.addcmul(y, seen[1 + place : 1 + place + len(x)], weight[place])
        return functional.silu(y), seen[-self.d_conv :].permute(1, 2, 0)
