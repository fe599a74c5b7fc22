"""A damped moving average of several speeds a channel, as MEGA has it: an EMA of linear state.

    p = sigmoid(delta),  q = 1 - p sigmoid(alpha)                         each (C, n)
    s_t = p beta x_t + q s_{t-1}                                          the recurrence
    y_t = (gamma . s_t) / sqrt(n)
        = sum_j k_j x_{t-j},   k_j = sum_n gamma p beta q^j / sqrt(n)     a convolution, by FFT
    out = silu(y + omega x)                                               `residual=True`

The parallel form is O(L log L) in float32, the recurrence O(L n) with a state that does not grow;
both give the same numbers. With `two_way` a second kernel looks ahead; both hold lag 0, so that
the present moment counts twice, as in the authors' code.

Source: arXiv 2209.10655 and its public code.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.errors import ModelError


class MovingAverage(nn.Module):
    """(B, L, dim) -> (B, L, dim).

    Args:
        dim: channels. averages: n, speeds a channel. two_way: look ahead too.
        truncation: the kernel is cut at so many moments; None for none.
    """

    def __init__(
        self, dim: int, averages: int = 16, *, two_way: bool = False, truncation: int | None = None
    ) -> None:
        super().__init__()
        if dim < 1 or averages < 1 or (truncation is not None and truncation < 1):
            raise ModelError(
                f"dim, averages and truncation are at least 1, got {dim}, {averages}, {truncation}"
            )
        self.dim, self.averages, self.two_way, self.truncation = dim, averages, two_way, truncation
        rows = 2 * dim if two_way else dim
        self.delta = nn.Parameter(torch.empty(rows, averages).normal_(std=0.2))
        self.alpha = nn.Parameter(torch.empty(rows, averages).normal_(std=0.2))
        signs = torch.ones(averages)
        signs[1::2] = -1
        self.beta = nn.Parameter(torch.empty(rows, averages).normal_(std=0.02) + signs)
        self.gamma = nn.Parameter(torch.empty(rows, averages).normal_())

    def coefficients(self) -> tuple[Tensor, Tensor]:
        """p and q, (rows, n) each."""
        p = self.delta.sigmoid()
        return p, 1 - p * self.alpha.sigmoid()

    def kernel(self, length: int) -> Tensor:
        """(rows, length) the kernels, lag 0 first."""
        p, q = self.coefficients()
        lags = torch.arange(length, device=q.device, dtype=q.dtype)
        powers = torch.exp(q.log()[..., None] * lags)
        scale = self.averages**-0.5
        return torch.einsum("cn,cnl->cl", scale * self.gamma * p * self.beta, powers)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, L, dim) -> (B, L, dim), by FFT.

        Args:
            mask: (B, L) bool, False where there is only padding.
        """
        length = x.shape[1]
        if not length:
            raise ModelError("an average needs at least one moment, got a sequence of length 0")
        flow = (x if mask is None else x * mask[..., None].to(x.dtype)).transpose(1, 2).float()
        reach = length if self.truncation is None else min(length, self.truncation)
        kernel = self.kernel(reach)
        if self.two_way:
            ahead, back = kernel[: self.dim], kernel[self.dim :]
            whole = functional.pad(ahead, (length - 1, length - reach))
            whole = whole + functional.pad(back.flip(1), (length - reach, length - 1))
            found = fft_conv(functional.pad(flow, (0, length - 1)), whole)
            found = found[..., length - 1 : 2 * length - 1]
        else:
            found = fft_conv(flow, kernel)
        return found.transpose(1, 2).to(x.dtype)

    def start(self, batch: int) -> Tensor:
        """(B, dim, n) the state before the first moment.

        Raises:
            ModelError: it looks ahead, or its kernel is cut: the state would hold what it must not.
        """
        if self.two_way or self.truncation is not None:
            which = "two-way average" if self.two_way else "cut kernel"
            raise ModelError(f"a {which} cannot go on from moment to moment")
        return self.delta.new_zeros(batch, self.dim, self.averages)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The recurrence: (B, T, dim) further moments -> their averages, and the state behind."""
        p, q = self.coefficients()
        written, read = p * self.beta, self.gamma * self.averages**-0.5
        found = []
        for moment in x.unbind(1):
            state = written * moment[..., None] + q * state
            found.append((read * state).sum(-1))
        return torch.stack(found, 1), state


def fft_conv(x: Tensor, kernel: Tensor) -> Tensor:
    """Causal convolution by FFT, (B, C, L) with (C, k <= L) -> (B, C, L)."""
    size = 2 * x.shape[2]
    spectrum = torch.fft.rfft(x, size) * torch.fft.rfft(kernel, size)
    return torch.fft.irfft(spectrum, size)[..., : x.shape[2]]
