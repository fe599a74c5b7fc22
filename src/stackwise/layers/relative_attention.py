"""Self-attention over a map whose logits know the offset between two places.

    y_i = sum_j softmax_j( q_i . k_j / sqrt(e) + w_{i - j} ) v_j                           (eq. 1)

w depends on the offset alone: a convolution kernel over the whole map, added to the adaptive logits
before the softmax. It is a table of (2 H - 1)(2 W - 1) numbers a head, and

    w_{i - j} = table[(dy + H - 1)(2 W - 1) + (dx + W - 1)],    (dy, dx) = query - key

`relative` says how w is made and where it stands:

    bias     eq. 1 with a learned table
    mlp      eq. 1, the table computed from offsets: V relu(U [f(dy), f(dx)] + c) with 512 hidden
             units and f(d) = sign(d) log(1 + |d|), so that it fits maps of any size
    post     softmax(q . k) + w, the other form of CoAtNet
    none     no w

The products are written out: with a bias that learns, on maps of at most some hundred places,
torch's fused attention takes longer.

Source: equation 1 of arXiv 2304.05350, in the code of CoAtNet (arXiv 2106.04803). What f is, and
that V has no bias, which the softmax would not see, are choices of ours: no text was found.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.errors import ModelError

Relative = Literal["bias", "mlp", "post", "none"]
KINDS = ("bias", "mlp", "post", "none")
TABLE_STD = 0.02
HIDDEN = 512


def offset_index(height: int, width: int) -> Tensor:
    """(H W, H W) int64: the entry of the table for each query and key, both row by row."""
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width))
    dy, dx = (places[:, None] - places[None]).unbind(-1)
    return (dy + height - 1) * (2 * width - 1) + dx + width - 1


def log_offsets(height: int, width: int) -> Tensor:
    """((2 H - 1)(2 W - 1), 2) float32: f of the offset of each entry of the table."""
    sides = (torch.arange(1 - side, side, dtype=torch.float32) for side in (height, width))
    offsets = torch.cartesian_prod(*sides)
    return offsets.sign() * offsets.abs().log1p()


class RelativeAttention(nn.Module):
    """(B, C, H, W) -> (B, D, H, W), for maps of one size.

    Args:
        channels: C. dim: D. head_dim: e, so that there are D / e heads.
        map_size: (H, W).
        relative: see the module's docstring.
    """

    index: Tensor
    offsets: Tensor

    def __init__(
        self,
        channels: int,
        dim: int,
        head_dim: int,
        map_size: tuple[int, int],
        *,
        relative: Relative = "bias",
    ) -> None:
        super().__init__()
        if dim % head_dim:
            raise ModelError(f"width {dim} is not divisible by head_dim {head_dim}")
        if relative not in KINDS:
            raise ModelError(f"relative must be bias, mlp, post or none, got {relative!r}")
        self.heads, self.map_size, self.relative = dim // head_dim, map_size, relative
        self.qkv = nn.Conv2d(channels, 3 * dim, 1)
        self.out = nn.Conv2d(dim, dim, 1)
        height, width = map_size
        if relative == "mlp":
            self.register_buffer("offsets", log_offsets(height, width), persistent=False)
            self.from_offsets = nn.Sequential(
                nn.Linear(2, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, self.heads, bias=False)
            )
        elif relative != "none":
            table = torch.empty((2 * height - 1) * (2 * width - 1), self.heads)
            self.table = nn.Parameter(nn.init.trunc_normal_(table, std=TABLE_STD))
        if relative != "none":
            self.register_buffer("index", offset_index(height, width), persistent=False)

    def bias(self) -> Tensor:
        """w of every head, query and key: (heads, H W, H W)."""
        table = self.from_offsets(self.offsets) if self.relative == "mlp" else self.table
        return table[self.index].permute(2, 0, 1).contiguous()

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[-2:]) != self.map_size and self.relative != "none":
            raise ModelError(
                f"attention was made for maps of {self.map_size[0]} x {self.map_size[1]}, got "
                f"{x.shape[-2]} x {x.shape[-1]}; take `resized(image_size)` of the network"
            )
        # channels are grouped by head, and into q, k, v inside a head
        q, k, v = self.qkv(x).unflatten(1, (self.heads, 3, -1)).flatten(-2).unbind(2)
        logits, scale = q.mT @ k, q.shape[2] ** -0.5  # (B, heads, H W, H W)
        if self.relative in ("bias", "mlp"):
            shares = torch.add(self.bias(), logits, alpha=scale).softmax(-1)
        else:
            shares = (scale * logits).softmax(-1)
        if self.relative == "post":
            shares = shares + self.bias()
        output: Tensor = self.out((v @ shares.mT).flatten(1, 2).unflatten(-1, x.shape[-2:]))
        return output


def resized_table(table: Tensor, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
    """The table of a map size for another: bicubic over offsets; the same size changes no bit.

    ((2H-1)(2W-1), heads) -> ((2H'-1)(2W'-1), heads)
    """
    if before == after:
        return table.clone()
    old, new = ([2 * side - 1 for side in size] for size in (before, after))
    grid = table.T.unflatten(-1, old)[None]
    grown = functional.interpolate(grid, new, mode="bicubic", align_corners=True)
    return grown[0].flatten(1).T
