"""Mixing and shifting: channel groups that look further away through wider windows.

The C channels are split into G groups; group g has an odd window k_g and a shift s_g. In each of
two branches, one along the width and one along the height, with weights of their own,

    h_g(r, c) = m_g(r, c - s_g),    v_g(r, c) = m'_g(r - s_g, c)                           (eq. 1)
    m_g = depthwise convolution of x_g with a k_g x k_g window, zeros around the map
    u   = concat_g h_g + concat_g v_g

so that a pixel sees the near through small windows and the far through large ones: relative to the
first group, which mixes nothing, k = 2 d - 1 at distance d.

`order="shift-mix"` (the authors' code) shifts x before the convolution, `"mix-shift"` (their
figure, eq. 1 as written) after it; they differ near the border only. `border="wrap"` (the code)
lets what leaves the map come in at the other side, `"zero"` lets zeros in.

What the code does in ten shifts and ten convolutions is done in fewer, exactly: a window of 1 is a
scale and a bias instead of a convolution, and a group whose shift is 0 is copied nowhere and has
one convolution, since h + v has the sum of both kernels. Shifts as views of one padded map, and one
convolution for all groups of a window, were slower than this: a view's gradient is a map of zeros
with the view's part in it, and joining groups copies them.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.errors import ModelError

Order = Literal["shift-mix", "mix-shift"]
Border = Literal["wrap", "zero"]
SHIFTS = (-2, -1, 0, 1, 2)
SIZES = (1, 1, 3, 5, 7)


def group_widths(dim: int, groups: int) -> list[int]:
    """Channels of each group as `torch.chunk` makes them: ceil(C / G), and fewer in the last.

    Raises:
        ModelError: that makes fewer groups.
    """
    each = -(-dim // groups)
    widths = [min(each, dim - start) for start in range(0, dim, each)]
    if len(widths) != groups:
        raise ModelError(
            f"{dim} channels cannot be split into {groups} groups: chunks of {each} make "
            f"{len(widths)}"
        )
    return widths


class MixShift(nn.Module):
    """(B, C, H, W) -> u of the module's docstring, of the same shape.

    Args:
        dim: C.
        shifts: s_g, as `torch.roll` counts: positive moves content right, or down.
        sizes: k_g, odd.

    Shifts count modulo the side with `border="wrap"`: on a map of one pixel there is none.
    """

    def __init__(
        self,
        dim: int,
        *,
        shifts: Sequence[int] = SHIFTS,
        sizes: Sequence[int] = SIZES,
        order: Order = "shift-mix",
        border: Border = "wrap",
    ) -> None:
        super().__init__()
        if len(shifts) != len(sizes):
            raise ModelError(
                f"every group needs a shift and a size, got {len(shifts)} and {len(sizes)}"
            )
        if even := [size for size in sizes if size % 2 == 0 or size < 1]:
            raise ModelError(f"mixing sizes are odd, got {even[0]}")
        if order not in ("shift-mix", "mix-shift"):
            raise ModelError(f"order must be shift-mix or mix-shift, got {order!r}")
        if border not in ("wrap", "zero"):
            raise ModelError(f"border must be wrap or zero, got {border!r}")
        self.widths = group_widths(dim, len(sizes))
        self.shifts, self.order, self.border = list(shifts), order, border
        self.horizontal, self.vertical = (
            nn.ModuleList(
                nn.Conv2d(width, width, size, padding=size // 2, groups=width)
                for width, size in zip(self.widths, sizes, strict=True)
            )
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        groups = enumerate(x.split(self.widths, 1))
        return torch.cat([self._both_branches(group, part) for group, part in groups], 1)

    def _both_branches(self, group: int, x: Tensor) -> Tensor:
        """h_g + v_g, (B, C_g, H, W)."""
        across, along = self.horizontal[group], self.vertical[group]
        assert isinstance(across, nn.Conv2d) and isinstance(along, nn.Conv2d)
        shift = self.shifts[group]
        if all(self._stays(shift, side) for side in x.shape[-2:]):
            return mixed(x, across.weight + along.weight, _bias(across) + _bias(along))
        branches = []
        for kernel, axis in ((across, -1), (along, -2)):
            if self.order == "shift-mix":
                moved = shifted(x, shift, axis, self.border)
                branches.append(mixed(moved, kernel.weight, _bias(kernel)))
            else:
                y = mixed(x, kernel.weight, _bias(kernel))
                branches.append(shifted(y, shift, axis, self.border))
        return branches[0] + branches[1]

    def _stays(self, shift: int, side: int) -> bool:
        """Whether a shift leaves a map of this side as it is."""
        return (shift % side if self.border == "wrap" else shift) == 0


def shifted(x: Tensor, shift: int, axis: int, border: Border) -> Tensor:
    """Content moved right (axis -1) or down (-2) by `shift`, (B, C, H, W) -> same."""
    if border == "wrap":
        return torch.roll(x, shift, axis)
    side = x.shape[axis]
    shift = max(-side, min(side, shift))
    around = (shift, -shift) if axis == -1 else (0, 0, shift, -shift)
    return functional.pad(x, around)


def mixed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The depthwise convolution by (C, 1, k, k), zeros around the map, plus (C,)."""
    size = weight.shape[-1]
    if size == 1:
        return x * weight[:, 0] + bias[:, None, None]
    return functional.conv2d(x, weight, bias, padding=size // 2, groups=x.shape[1])


def _bias(kernel: nn.Conv2d) -> Tensor:
    assert kernel.bias is not None
    return kernel.bias
