"""From the numbers of a pixel to its unit, as one module: scaled, encoded, given to a centre.

    x' = (x - low) / (high - low)        z = encoder(x')        unit = argmin_u |z - c_u|^2

Pixels go through by themselves, so that a scene may be cut into any tiles.
"""

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from stackwise.layers.arguments import keeps_arguments
from stackwise.learning.row_blocks import outputs_of

PIXELS = 4096
"""Pixels that go through at a time."""


@keeps_arguments
class Bands(nn.Module):
    """No encoder: the scaled bands are the code."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """(B, bands) -> the same."""
        return x


@keeps_arguments
class Projection(nn.Module):
    """A linear code, z = (x - mean) W^T, as PCA finds it."""

    mean: Tensor
    weight: Tensor

    def __init__(self, *, bands: int, components: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("weight", torch.zeros(components, bands))

    def forward(self, x: Tensor) -> Tensor:
        """(B, bands) -> (B, components)."""
        return (self.weight @ (x - self.mean).T.contiguous()).T

    def decode(self, z: Tensor) -> Tensor:
        """(B, components) -> (B, bands), the nearest point of the plane."""
        return (self.weight.T @ z.T.contiguous()).T + self.mean


class PixelCodes(nn.Module):
    """Bands as they are measured, scaled and encoded.

    Args:
        low, high: (bands,) what becomes 0 and 1; a band that is constant becomes 0.
        cut: whether what lies beyond is brought to 0 and 1.
    """

    low: Tensor
    span: Tensor

    def __init__(self, encoder: nn.Module, low: Tensor, high: Tensor, *, cut: bool) -> None:
        super().__init__()
        span = high - low
        self.encoder, self.cut = encoder, cut
        self.register_buffer("low", low)
        self.register_buffer("span", torch.where(span > 0, span, torch.full_like(span, torch.inf)))

    def scaled(self, x: Tensor) -> Tensor:
        """(B, bands) -> (B, bands), 0 to 1 on the pixels that were learned from."""
        found = (x - self.low) / self.span
        return found.clamp(0, 1) if self.cut else found

    def forward(self, x: Tensor) -> Tensor:
        """(B, bands) -> (B, code)."""
        code: Tensor = self.encoder(self.scaled(x))
        return code

    def restored(self, codes: Tensor) -> Tensor:
        """(B, code) -> (B, bands) as they are measured; a constant band is what it was."""
        decode = getattr(self.encoder, "decode", None)
        scaled = codes if decode is None else decode(codes)
        return self.low + torch.where(torch.isinf(self.span), 0, self.span) * scaled


class PixelUnits(nn.Module):
    """The unit of each pixel, and how much nearer it is than the next one.

    Args:
        centres: (units, code).
    """

    centres: Tensor
    codes: PixelCodes

    def __init__(self, codes: "PixelCodes | Applied", centres: Tensor) -> None:
        super().__init__()
        self.codes = cast(PixelCodes, codes)
        self.register_buffer("centres", centres)

    def forward(self, x: Tensor) -> Tensor:
        """(B, bands) -> (B, 2): the unit, and 1 - d1 / d2 with the distances to its own centre and
        to the second nearest, 1 on the centre and 0 halfway.
        """
        z = self.codes(x).T  # rows in columns: sums over few numbers are fast so
        far = torch.stack([(z - centre[:, None]).square().sum(0) for centre in self.centres])
        nearest, unit = far.min(0)
        second = far.scatter(0, unit[None], torch.inf).min(0).values
        share = torch.where(second > 0, (nearest / second).sqrt(), torch.ones_like(second))
        return torch.stack([unit.to(far.dtype), 1 - share], 1)


def through(module: nn.Module, rows: np.ndarray) -> np.ndarray:
    """(n, ...) what a module gives for (n, numbers) rows; no row depends on the others."""
    given = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))
    with torch.inference_mode():
        found = outputs_of(module, {"x": given}, PIXELS)
        return np.concatenate([output[:count].numpy().copy() for output, count in found])


class Applied(nn.Module):
    """A function of tensors as a module, to put rows through."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """(B, numbers) -> what the function gives."""
        return self.function(x)
