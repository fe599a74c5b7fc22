"""The families of edge functions, each as a basis B_1 .. B_K of one number.

An edge function of family m is phi(x) = sum_b c_b B^m_b(x), so all families share one form:
(B, n) inputs -> (B, n, K) values, and a layer is one matrix product with the coefficients.

Source: arXiv 2408.08338. Differs from the paper: `fastrbf` scales each input by its own trained
affine map, since the usual normalisation over all inputs mixes them and is constant for one;
polynomials use recurrences, whose gradients are finite at -1 and 1; the ReLU basis spans [-1, 1]
in place of [0, 1]; wavelets are 8 an input with trained centres and scales; a Fourier family is
added, and Shannon wavelets are left out (their usual window runs along the columns, not along x).
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stackwise.errors import ModelError

Wavelet = Literal["mexican-hat", "morlet", "dog", "meyer"]
ALL = slice(None)


class Basis(nn.Module):
    """K functions of each of n inputs, (B, n) -> (B, n, K).

    `basis(x, at)` takes some of the inputs alone, those of the slice `at`.

    Attributes:
        size: K.
    """

    size: int

    def take(self, inputs: list[int]) -> None:
        """Keep the trained values of these inputs alone."""
        for name, parameter in list(self.named_parameters(recurse=False)):
            if name not in self.shared:
                setattr(self, name, nn.Parameter(parameter.detach()[inputs].clone()))

    shared: tuple[str, ...] = ()


class BSpline(Basis):
    """Cubic B-splines on `grid` equal intervals of [-1, 1]; zero outside the extended knots.

    With z = |x - centre| / interval, B = (max(2 - z, 0)^3 - 4 max(1 - z, 0)^3) / 6: what the Cox-de
    Boor recurrence gives on equal intervals, in a third of the time.
    """

    centres: Tensor

    def __init__(self, n_in: int, grid: int = 5) -> None:
        super().__init__()
        self.size, self.grid = grid + 3, grid
        places = torch.arange(-1, grid + 2, dtype=torch.float64)
        self.register_buffer("centres", places - grid / 2, persistent=False)

    @property
    def knots(self) -> Tensor:
        """(grid + 7,) float64, three beyond each end of [-1, 1]."""
        return torch.arange(-3, self.grid + 4, dtype=torch.float64) * 2 / self.grid - 1

    def forward(self, x: Tensor, at: slice = ALL) -> Tensor:
        """(B, n) -> (B, n, grid + 3)."""
        z = (x[..., None] * (self.grid / 2) - self.centres.to(x.dtype)).abs()
        outer, inner = F.relu(2 - z), F.relu(1 - z)
        return (outer * outer * outer - 4 * (inner * inner * inner)) / 6


class Gaussian(Basis):
    """exp(-((x - t_k) / h)^2) at 8 points of [-2, 2]; `affine` trains a map of each input first."""

    offsets: Tensor
    """-t_k / h."""

    def __init__(self, n_in: int, affine: bool = False, count: int = 8) -> None:
        super().__init__()
        self.size, self.width = count, 4 / (count - 1)
        offsets = -torch.linspace(-2, 2, count) / self.width
        self.register_buffer("offsets", offsets, persistent=False)
        self.scale = nn.Parameter(torch.ones(n_in)) if affine else None
        self.shift = nn.Parameter(torch.zeros(n_in)) if affine else None

    def forward(self, x: Tensor, at: slice = ALL) -> Tensor:
        """(B, n) -> (B, n, count)."""
        if self.scale is not None and self.shift is not None:
            x = x * self.scale[at] + self.shift[at]
        z = torch.add(self.offsets.to(x.dtype), x[..., None], alpha=1 / self.width)
        # in place where nothing is kept for the gradient: exp(-z^2) in three passes over (B, n, K)
        return z.square().neg_().exp_()


class Switch(Basis):
    """Reflectional switches 1 - tanh(x - t_k)^2 at 8 points of [-1.2, 0.2]."""

    centres: Tensor

    def __init__(self, n_in: int, count: int = 8) -> None:
        super().__init__()
        self.size = count
        self.register_buffer("centres", torch.linspace(-1.2, 0.2, count), persistent=False)

    def forward(self, x: Tensor, at: slice = ALL) -> Tensor:
        """(B, n) -> (B, n, count)."""
        return 1 - torch.tanh(x[..., None] - self.centres.to(x.dtype)) ** 2


class Chebyshev(Basis):
    """T_0 .. T_degree of x clamped to [-1, 1]."""

    def __init__(self, n_in: int, degree: int = 4) -> None:
        super().__init__()
        self.size = degree + 1

    def forward(self, x: Tensor, at: slice = ALL) -> Tensor:
        """(B, n) -> (B, n, degree + 1)."""
        u = x.clamp(-1, 1)
        values = [torch.ones_like(u), u]
        while len(values) < self.size:
            values.append(2 * u * values[-1] - values[-2])
        return torch.stack(values[: self.size], -1)


class Jacobi(Basis):
    """Jacobi polynomials P^(1,1)_0 .. P^(1,1)_degree of tanh x."""

    def __init__(self, n_in: int, degree: int = 4) -> None:
        super().__init__()
        self.size = degree + 1

    def forward(self, x: Tensor, at: slice = ALL) -> Tensor:
        """(B, n) -> (B, n, degree + 1)."""
        u = torch.tanh(x)
        values = [torch.ones_like(u), 2 * u]
        for n in range(2, self.size):
            rise = (2 * n + 1) * (n + 1) / (n * (n + 2))
            fall = n * (n + 1) / (n * (n + 2))
            values.append(rise * u * values[-1] - fall * values[-2])
        return torch.stack(values[: self.size], -1)


class Gram(Basis):
    """silu of Gram polynomials of tanh x, whose recurrence is trained and shared by a layer."""

    shared = ("b",)

    def __init__(self, n_in: int, degree: int = 3) -> None:
        super().__init__()
        self.size = degree + 1
        self.b = nn.Parameter(torch.randn(degree + 1) / (n_in * (degree + 1)) ** 2)

    def forward(self, x: Tensor, at: slice = ALL) -> Tensor:
        """(B, n) -> (B, n, degree + 1)."""
        u = torch.tanh(x)
        values = [torch.ones_like(u), u]
        for i in range(2, self.size):
            beta = (2 * i - 1) * (i - 1) ** 2 * (4 * (i - 1) ** 2 - 1) / i**2 * self.b[i - 1]
            values.append(u * values[-1] - beta * values[-2])
        return F.silu(torch.stack(values[: self.size], -1))


class Wavelets(Basis):
    """psi((x - t) / s) with `count` trained centres and scales an input."""

    def __init__(self, n_in: int, kind: Wavelet = "mexican-hat", count: int = 8) -> None:
        super().__init__()
        self.kind, self.size = kind, count
        self.centres = nn.Parameter(torch.linspace(-1, 1, count).repeat(n_in, 1))
        self.scales = nn.Parameter(torch.full((n_in, count), 2 / (count - 1)))

    def forward(self, x: Tensor, at: slice = ALL) -> Tensor:
        """(B, n) -> (B, n, count)."""
        return mother(self.kind, (x[..., None] - self.centres[at]) / self.scales[at])


def mother(kind: Wavelet, z: Tensor) -> Tensor:
    """The mother wavelet psi(z), elementwise."""
    bell = torch.exp(-(z**2) / 2)
    if kind == "mexican-hat":
        return 2 / (math.sqrt(3) * math.pi**0.25) * (z**2 - 1) * bell
    if kind == "morlet":
        return torch.cos(5 * z) * bell
    if kind == "dog":
        return -z * bell
    v = z.abs()
    t = (2 * v - 1).clamp(0, 1)
    rise = t**4 * (35 - 84 * t + 70 * t**2 - 20 * t**3)
    return torch.sin(math.pi * v) * torch.cos(math.pi / 2 * rise) * (v < 1)


class ReLUProduct(Basis):
    """[relu(u - l) relu(h - u) r]^2 with trained ends l and h, u = (x + 1) / 2; peaks at 1."""

    def __init__(self, n_in: int, grid: int = 5, order: int = 3) -> None:
        super().__init__()
        self.size, self.peak = grid + order, 4 * grid**2 / (order + 1) ** 2
        low = torch.arange(-order, grid) / grid
        self.low = nn.Parameter(low.repeat(n_in, 1))
        self.high = nn.Parameter((low + (order + 1) / grid).repeat(n_in, 1))

    def forward(self, x: Tensor, at: slice = ALL) -> Tensor:
        """(B, n) -> (B, n, grid + order)."""
        u = (x[..., None] + 1) / 2
        return (F.relu(u - self.low[at]) * F.relu(self.high[at] - u) * self.peak) ** 2


class Fourier(Basis):
    """sin and cos of k pi x for k = 1 .. `waves`."""

    def __init__(self, n_in: int, waves: int = 4) -> None:
        super().__init__()
        self.size, self.waves = 2 * waves, waves

    def forward(self, x: Tensor, at: slice = ALL) -> Tensor:
        """(B, n) -> (B, n, 2 waves): the sines, then the cosines."""
        k = torch.arange(1, self.waves + 1, device=x.device, dtype=x.dtype)
        angles = math.pi * k * x[..., None]
        return torch.cat([angles.sin(), angles.cos()], -1)


FAMILIES = (
    "bspline", "fastrbf", "rbf", "rswaf", "cheby", "jacobi", "gram", "wavelet", "relu", "fourier"
)  # fmt: skip


def basis(
    family: str, n_in: int, *, grid: int = 5, degree: int = 4, wavelet: Wavelet = "mexican-hat"
) -> Basis:
    """The basis of a family by name, for `n_in` inputs.

    Raises:
        ModelError: the family is not known.
    """
    if family in ("bspline", "relu"):
        return BSpline(n_in, grid) if family == "bspline" else ReLUProduct(n_in, grid)
    if family in ("rbf", "fastrbf"):
        return Gaussian(n_in, affine=family == "fastrbf")
    if family in ("cheby", "jacobi"):
        return Chebyshev(n_in, degree) if family == "cheby" else Jacobi(n_in, degree)
    if family == "wavelet":
        return Wavelets(n_in, wavelet)
    plain: dict[str, type[Basis]] = {"rswaf": Switch, "gram": Gram, "fourier": Fourier}
    if family not in plain:
        raise ModelError(f"unknown family {family!r}; known: {', '.join(FAMILIES)}")
    return plain[family](n_in)
