"""A block: the input and a noised label go in, logits of the classes come out.

    x  -> tower (its own; nothing is shared)            -> hidden
    z  -> linear BN ReLU, and a residual pair (DT), or linear ReLU (CT, FM)     -> hidden
    t  -> positions, linear ReLU (CT, FM)               -> hidden
    all three -> linear ReLU -> linear ReLU -> m logits

(figure 6). DT has batch norm, CT and FM have none. With prototypes z is a picture too, and goes
through convolutions of its own.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

POSITIONS = 64
"""Numbers that say a time."""


class PictureTower(nn.Module):
    """Three 3 x 3 convolutions with ReLU, two pools, dropout, and a linear layer."""

    def __init__(
        self, shape: tuple[int, int, int], width: int, hidden: int, dropout: float, *, norm: bool
    ) -> None:
        super().__init__()
        channels, height, up = shape[0], shape[1] // 4, shape[2] // 4
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Dropout(dropout),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.Dropout(dropout),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Dropout(dropout), nn.Flatten(),
        )  # fmt: skip
        self.linear = nn.Linear(4 * width * height * up, hidden)
        self.last: nn.Module = nn.BatchNorm1d(hidden) if norm else nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, hidden)."""
        output: Tensor = self.last(self.linear(self.convolutions(x)))
        return output


class RowTower(nn.Module):
    """Two linear layers with ReLU and dropout, for rows of numbers."""

    def __init__(self, inputs: int, width: int, hidden: int, dropout: float, *, norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise((inputs, width, hidden)):
            layers.append(nn.Linear(before, after))
            layers += [nn.BatchNorm1d(after)] if norm else []
            layers += [nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) -> (B, hidden)."""
        output: Tensor = self.layers(x)
        return output


class LabelPath(nn.Module):
    """What a block makes of the latent."""

    def __init__(self, size: int, hidden: int, *, norm: bool) -> None:
        super().__init__()

        def layer(before: int, *, relu: bool = True) -> list[nn.Module]:
            normed: list[nn.Module] = [nn.BatchNorm1d(hidden)] if norm else []
            return [nn.Linear(before, hidden), *normed, *([nn.ReLU()] if relu else [])]

        self.first = nn.Sequential(*layer(size))
        self.pair = nn.Sequential(*layer(hidden), *layer(hidden, relu=False)) if norm else None

    def forward(self, z: Tensor) -> Tensor:
        """(B, d) -> (B, hidden)."""
        h: Tensor = self.first(z)
        return h if self.pair is None else h + self.pair(h)


class PicturePath(nn.Module):
    """What a block makes of a latent that is a picture."""

    def __init__(
        self, shape: tuple[int, int, int], width: int, hidden: int, dropout: float, *, norm: bool
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.tower = PictureTower(shape, width, hidden, dropout, norm=norm)

    def forward(self, z: Tensor) -> Tensor:
        """(B, C H W) -> (B, hidden)."""
        output: Tensor = self.tower(z.view(-1, *self.shape))
        return output


def positions(t: Tensor) -> Tensor:
    """(B,) times in [0, 1] -> (B, 64) sines and cosines of 32 frequencies up to 1,000."""
    half = POSITIONS // 2
    rates = torch.exp(torch.arange(half, device=t.device) * (math.log(1000.0) / (half - 1)))
    angles = t[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


class DenoisingBlock(nn.Module):
    """One block: `logits` while it learns, and a step of (eq. 3) as a block of the stack.

    Args:
        tower, label: modules to (B, hidden). timed: whether it is told a time.
    """

    def __init__(
        self, tower: nn.Module, label: nn.Module, hidden: int, classes: int, *, timed: bool
    ) -> None:
        super().__init__()
        self.tower, self.label = tower, label
        self.time = nn.Sequential(nn.Linear(POSITIONS, hidden), nn.ReLU()) if timed else None

        def normed(size: int) -> list[nn.Module]:
            return [nn.ReLU()] if timed else [nn.BatchNorm1d(size), nn.ReLU()]

        width = max(hidden // 2, 1)
        self.last = nn.Sequential(
            nn.Linear((3 if timed else 2) * hidden, hidden), *normed(hidden),
            nn.Linear(hidden, width), *normed(width), nn.Linear(width, classes),
        )  # fmt: skip

    def logits(
        self, z: Tensor, x: Tensor, t: Tensor | None = None, seen: Tensor | None = None
    ) -> Tensor:
        """(B, d) latents and inputs [and (B,) times] -> (B, m).

        Args:
            seen: `tower(x)` where it is known: it is the same at all times.
        """
        parts = [self.tower(x) if seen is None else seen, self.label(z)]
        if self.time is not None:
            assert t is not None
            parts.append(self.time(positions(t)))
        output: Tensor = self.last(torch.cat(parts, 1))
        return output

    def forward(
        self, z: Tensor, x: Tensor, embedding: Tensor, step: tuple[Tensor, Tensor, Tensor],
        noise: Tensor,
    ) -> Tensor:  # fmt: skip
        """z_{t-1} (B, d) -> z_t (B, d), by (eq. 3).

        Args:
            step: a, b and c. noise: (d,) or (B, d).
        """
        a, b, c = step
        estimate = self.logits(z, x).softmax(-1) @ embedding
        return a * estimate + b * z + c.sqrt() * noise
