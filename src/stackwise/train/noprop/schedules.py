"""How much of the label a latent holds: abar rises from near 0 (noise) to near 1 (clean).

    q(z_t | y) = N(sqrt(abar_t) u_y, 1 - abar_t),    SNR(t) = abar_t / (1 - abar_t)        (eq. 6)

From time s to a later time r, with alpha = abar_s / abar_r:

    a = sqrt(abar_r) (1 - alpha) / (1 - abar_s)
    b = sqrt(alpha) (1 - abar_r) / (1 - abar_s)
    c = (1 - abar_r) (1 - alpha) / (1 - abar_s)

so that a + b sqrt(abar_s) = sqrt(abar_r), b^2 (1 - abar_s) + c = 1 - abar_r, and
a^2 / c = SNR(r) - SNR(s).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAST, MOST = 0.001, 0.99
"""Bounds of the cosine's abar: 1 would be a signal without noise, whose SNR is infinite."""


def cosine_abar(steps: int) -> Tensor:
    """(steps + 1,) float64 abar_0 .. abar_T of a cosine.

    abar_t = clip(cos^2(pi / 2 (1 - t / T + 0.008) / 1.008)). The paper says "fixed cosine" and no
    formula; this is the usual one, with its time turned round.
    """
    noise = 1 - torch.arange(steps + 1, dtype=torch.float64) / steps
    curve = torch.cos(math.pi / 2 * (noise + 0.008) / 1.008).square().clamp(LEAST, MOST)
    # where many steps fall below or above the bounds they would be equal: an SNR step of 0
    return torch.linspace(0, 1e-6, steps + 1, dtype=torch.float64) + curve


def snr(abar: Tensor) -> Tensor:
    """abar / (1 - abar)."""
    return abar / (1 - abar)


def transition(abar_s: Tensor, abar_r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """a, b, c from time s to the later time r."""
    alpha = abar_s / abar_r
    a = abar_r.sqrt() * (1 - alpha) / (1 - abar_s)
    b = alpha.sqrt() * (1 - abar_r) / (1 - abar_s)
    c = (1 - abar_r) * (1 - alpha) / (1 - abar_s)
    return a, b, c


class LearnedSchedule(nn.Module):
    """CT's schedule: SNR(t) = exp(-gamma(t)), abar(t) = sigmoid(-gamma(t)).

        gamma(t) = g0 + (g1 - g0) (1 - gbar(t)),   gbar(t) = (gt(t) - gt(0)) / (gt(1) - gt(0))

    gt is t plus a layer of sigmoids, all weights positive; it rises, so that gamma falls from
    gamma(0) = g1 to gamma(1) = g0 and the SNR rises. g0 and g1 > g0 are learned. Neither widths
    nor beginnings are in the paper: 32 units, and abar from 0.007 to 0.993 (g0 = -5, g1 = 5).
    """

    def __init__(self, units: int = 32) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.linspace(-1, 1, units))
        self.shift = nn.Parameter(torch.linspace(-3, 3, units))
        self.second = nn.Parameter(torch.full((units,), -3.0))
        self.g0 = nn.Parameter(torch.tensor(-5.0))
        self.span = nn.Parameter(torch.tensor(10.0))  # g1 - g0, through softplus

    def rising(self, t: Tensor) -> Tensor:
        """gt(t), (B,) -> (B,)."""
        inner = functional.softplus(self.first) * t[:, None] * 4 - self.shift
        return t + (functional.softplus(self.second) * inner.sigmoid()).sum(1)

    def gbar(self, t: Tensor) -> Tensor:
        """(B,) from 0 at t = 0 to 1 at t = 1."""
        ends = self.rising(torch.stack([torch.zeros_like(t[0]), torch.ones_like(t[0])]))
        return (self.rising(t) - ends[0]) / (ends[1] - ends[0])

    def gamma(self, t: Tensor) -> Tensor:
        """(B,) minus the logarithm of the SNR."""
        return self.g0 + functional.softplus(self.span) * (1 - self.gbar(t))

    def abar(self, t: Tensor) -> Tensor:
        """(B,) in (0, 1), rising."""
        return torch.sigmoid(-self.gamma(t))

    def snr_and_slope(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """SNR(t) and SNR'(t), both (B,); learned through, where gradients are taken."""
        kept = torch.is_grad_enabled()
        with torch.enable_grad():
            time = t.detach().requires_grad_()
            values = torch.exp(-self.gamma(time))
            (slope,) = torch.autograd.grad(values.sum(), time, create_graph=kept)
        return (values, slope) if kept else (values.detach(), slope.detach())
