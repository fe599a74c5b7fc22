"""Deformable convolution: each tap of a kernel samples where an offset moves it.

    y(p) = sum_k w_k m_k(p) x(stride p - padding + k + o_k(p))        bilinear, zero outside

with offsets o (arXiv 1703.06211) and, in the second version, a mask m = sigmoid (arXiv 1811.11168).
Channels may be parted into groups with offsets of their own. Both are said by a convolution of the
same stride and padding that begins at zero: the layer begins as a plain convolution, or, with a
mask, as half of one.

No torchvision is needed. All taps of all places are sampled at once. Two forms do it, equal to
rounding:

    grid    one `grid_sample` over kH' x kW' places, the taps of a place beside each other, then a
            convolution of stride k
    rows    places are rows of a table; a sample is a bag of its four corners' rows, weighed
            (`embedding_bag`), then one product of matrices

`rows` answers faster, and learns faster where channels are many; "auto" chooses so
(benchmarks/sepc.py times both beside a loop of nine `grid_sample`s).
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.errors import ModelError

Form = Literal["auto", "grid", "rows"]
MANY_CHANNELS = 32
"""From so many channels of a group on, "auto" takes `rows` in training too."""


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 1,
    mask: Tensor | None = None,
    form: Form = "auto",
) -> Tensor:
    """The convolution of (B, C, H, W) with samples that are moved.

    Args:
        offset: (B, G 2 K, H', W') in pixels: for each of G groups and K taps, row by row, (dy, dx).
        weight: (C_out, C, k, k), K = k k.
        mask: (B, G K, H', W') by which samples are multiplied, or None.
        form: how samples are taken; see the module.

    Returns:
        (B, C_out, H', W').

    Raises:
        ModelError: the shape of `offset` or `mask` does not fit.
    """
    batch, channels, height, width = x.shape
    side = weight.shape[-1]
    taps = side * side
    tall, wide = ((one + 2 * padding - side) // stride + 1 for one in (height, width))
    groups = offset.shape[1] // (2 * taps)
    if tuple(offset.shape) != (batch, 2 * taps * groups, tall, wide) or channels % max(groups, 1):
        raise ModelError(
            f"offset must be ({batch}, groups * {2 * taps}, {tall}, {wide}) with groups that "
            f"divide {channels} channels, got {tuple(offset.shape)}"
        )
    if mask is not None and tuple(mask.shape) != (batch, groups * taps, tall, wide):
        raise ModelError(
            f"mask must be ({batch}, {groups * taps}, {tall}, {wide}), got {tuple(mask.shape)}"
        )
    # half precision has too few digits for positions
    places = _positions(offset.to(_at_least_single(offset)), side, stride, padding)
    values = x.to(places[0].dtype)
    if form == "auto":
        learns = torch.is_grad_enabled() and (x.requires_grad or offset.requires_grad)
        form = "grid" if learns and channels // groups < MANY_CHANNELS else "rows"
    # a group is a sample of its own, as far as sampling goes
    parts = values.reshape(batch * groups, channels // groups, height, width)
    masks = None if mask is None else mask.reshape(batch * groups, taps, tall, wide).to(values)
    if form == "grid":
        sampled = _by_grid(parts, *places, masks).to(x.dtype)
        sampled = sampled.reshape(batch, channels, side * tall, side * wide)
        return functional.conv2d(sampled, weight.to(x.dtype), bias, stride=side)
    near, shares = _corners(*places, masks, height, width)
    table = functional.pad(parts.permute(0, 2, 3, 1), (0, 0, 1, 2, 1, 2))
    # (G, k k, C / G, C_out)
    kernels = weight.view(len(weight), groups, -1, taps).permute(1, 3, 2, 0).to(x.dtype)
    y = _by_rows(table, near, shares, kernels, x.dtype).sum(1).transpose(1, 2)
    y = y.reshape(batch, -1, tall, wide)
    return y if bias is None else y + bias.to(y.dtype).view(1, -1, 1, 1)


def _at_least_single(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _positions(offset: Tensor, side: int, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    """(B G, K, H', W') rows and columns in the map, of the offsets (B, G 2 K, H', W')."""
    tall, wide = offset.shape[-2:]
    moved = offset.reshape(-1, side * side, 2, tall, wide)
    tap = torch.arange(side, device=offset.device) - padding
    down = torch.arange(tall, device=offset.device) * stride
    along = torch.arange(wide, device=offset.device) * stride
    rows = tap.repeat_interleave(side).view(-1, 1, 1) + down.view(1, -1, 1)
    columns = tap.repeat(side).view(-1, 1, 1) + along.view(1, 1, -1)
    return moved[:, :, 0] + rows, moved[:, :, 1] + columns


def _by_grid(x: Tensor, rows: Tensor, columns: Tensor, mask: Tensor | None) -> Tensor:
    """(N, C, H, W) at (N, K, H', W') places -> (N, C, k H', k W'), k x k taps beside each other."""
    height, width = x.shape[-2:]
    count, taps, tall, wide = rows.shape
    side = math.isqrt(taps)

    def beside(map_: Tensor) -> Tensor:
        tiles = map_.view(count, side, side, tall, wide).permute(0, 3, 1, 4, 2)
        return tiles.reshape(count, side * tall, side * wide)

    # pixel i of n lies at (2 i + 1) / n - 1, which no size divides by zero
    grid = torch.stack(
        [beside((2 * columns + 1) / width - 1), beside((2 * rows + 1) / height - 1)], dim=-1
    )
    found = functional.grid_sample(x, grid, align_corners=False)
    return found if mask is None else found * beside(mask)[:, None]


def _corners(
    rows: Tensor, columns: Tensor, mask: Tensor | None, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Which four pixels a sample is of, and their shares, for (N, K, H', W') places.

    Returns:
        (N, H' W', K, 4) int64 rows of a table of the N maps, each with a border of zeros of one
        pixel before and two behind, in which everything outside falls; and as many shares.
    """
    count, taps = rows.shape[:2]
    rows = rows.flatten(2).transpose(1, 2).clamp(-1, height)
    columns = columns.flatten(2).transpose(1, 2).clamp(-1, width)
    top, left = rows.floor(), columns.floor()
    below, right = rows - top, columns - left
    both = below * right
    shares = torch.stack([1 - below - right + both, right - both, below - both, both], dim=-1)
    if mask is not None:
        shares = shares * mask.reshape(count, taps, -1).transpose(1, 2)[..., None]
    across = width + 3
    first = torch.arange(count, device=rows.device).view(-1, 1, 1) * ((height + 3) * across)
    # what is no number has a place too, and makes its sample no number by its shares
    corner = top.nan_to_num().long() * across + left.nan_to_num().long() + across + 1 + first
    return corner[..., None] + torch.tensor([0, 1, across, across + 1], device=rows.device), shares


def _by_rows(
    table: Tensor, near: Tensor, shares: Tensor, kernels: Tensor, dtype: torch.dtype
) -> Tensor:
    """See `_corners`, and kernels (G, K, C, C_out) -> (B, G, H' W', C_out)."""
    groups, taps, channels, out = kernels.shape
    sampled = functional.embedding_bag(
        near.reshape(-1, 4), table.reshape(-1, channels), mode="sum",
        per_sample_weights=shares.reshape(-1, 4),
    )  # fmt: skip
    columns = sampled.view(-1, groups, near.shape[1], taps * channels).to(dtype)
    return columns @ kernels.reshape(groups, taps * channels, out)


class DeformConv2d(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, H', W'), sampled where it says itself.

    Args:
        stride, padding: of the convolution, and of the one that says the offsets.
        groups: of channels, each with offsets of its own.
        modulated: with a mask, the second version; it begins at 1/2.
        bias: added to the result.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        padding: int = 1,
        groups: int = 1,
        modulated: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if in_channels % groups:
            raise ModelError(f"groups must divide {in_channels} channels, got {groups}")
        taps = kernel_size * kernel_size
        self.stride, self.padding, self.shifts = stride, padding, 2 * taps * groups
        shape = (out_channels, in_channels, kernel_size, kernel_size)
        bound = 1 / math.sqrt(in_channels * taps)
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        said = self.shifts + (taps * groups if modulated else 0)
        self.where = nn.Conv2d(in_channels, said, kernel_size, stride, padding)
        nn.init.zeros_(self.where.weight)
        nn.init.zeros_(_bias_of(self.where))

    def forward(self, x: Tensor, *, form: Form = "auto") -> Tensor:
        """See `deform_conv2d`."""
        said = self.where(x)
        mask = said[:, self.shifts :].sigmoid() if said.shape[1] > self.shifts else None
        return deform_conv2d(
            x, said[:, : self.shifts], self.weight, self.bias,
            stride=self.stride, padding=self.padding, mask=mask, form=form,
        )  # fmt: skip


def _bias_of(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias
