"""Attention inside windows of a map: a place sees the places of its own window.

The map is cut into windows of w x w, filled up with zeros at the right and below where w does not
divide a side; each is attended over by itself, with learned offsets (`RelativeAttention`).

Source: the windows of arXiv 2103.14030 (Swin), which there move by half a window in every second
block; these do not move.
"""

import math

from torch import Tensor, nn

from stackwise.layers.picture_size import fill_up
from stackwise.layers.relative_attention import RelativeAttention

HEAD_DIM = 32


class WindowAttention(nn.Module):
    """(B, C, H, W) -> same, for maps of any size.

    Args:
        dim: C; heads are of 32 channels, or of the largest power of two below that divides C.
        window: w.
    """

    def __init__(self, dim: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.inside = RelativeAttention(dim, dim, math.gcd(dim, HEAD_DIM), (window, window))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        w = self.window
        full = fill_up(x, w)
        rows, columns = full.shape[-2] // w, full.shape[-1] // w
        cut = full.unflatten(3, (columns, w)).unflatten(2, (rows, w))  # (B, C, rows, w, columns, w)
        windows = cut.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        seen = self.inside(windows).unflatten(0, (-1, rows, columns)).permute(0, 3, 1, 4, 2, 5)
        return seen.flatten(4, 5).flatten(2, 3)[:, :, :height, :width]
