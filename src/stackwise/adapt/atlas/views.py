"""Another view of a sample: what a model should answer alike.

Pictures (B, C, H, W) are cut at random, half of them mirrored. Of other inputs each entry is, with
a chance of a fifth, that of another row at the same place (arXiv 2106.15147): a number of the same
column, a token of the same position.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

SWAPPED = 0.2
LEAST = 0.5
"""Share of a picture's area that a cut keeps at least."""
SHAPING = ("attention_mask", "token_type_ids", "position_ids", "decoder_attention_mask")
"""Inputs that say how others lie."""


def strong_view(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same samples in another view, drawn from torch's random state."""
    found = {}
    for name, rows in tensors.items():
        if name in SHAPING or rows.dim() < 2:
            found[name] = rows
        elif rows.dim() == 4 and rows.is_floating_point():
            found[name] = cut(rows)
        else:
            found[name] = swapped(rows)
    return found


def cut(pictures: Tensor) -> Tensor:
    """Random cuts of at least half of each picture's area, scaled to its size, half of them
    mirrored; (B, C, H, W).
    """
    count, device = len(pictures), pictures.device
    area = torch.empty(count).uniform_(LEAST, 1.0)
    stretch = torch.empty(count).uniform_(-1, 1).mul_(0.28768).exp()  # sides from 3:4 to 4:3
    sides = torch.stack([(area * stretch).sqrt(), (area / stretch).sqrt()], dim=1).clamp_max(1.0)
    middle = (torch.rand(count, 2) * 2 - 1) * (1 - sides)
    mirrored = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    turn = torch.zeros(count, 2, 3)
    turn[:, 0, 0], turn[:, 1, 1] = sides[:, 0] * mirrored, sides[:, 1]
    turn[:, :, 2] = middle
    grid = functional.affine_grid(turn, list(pictures.shape), align_corners=False)
    return functional.grid_sample(
        pictures, grid.to(device, pictures.dtype), padding_mode="reflection", align_corners=False
    )


def swapped(rows: Tensor) -> Tensor:
    """Each entry is with a chance of `SWAPPED` that of another row; (B, ...)."""
    others = rows[torch.randperm(len(rows), device=rows.device)]
    return torch.where(torch.rand(rows.shape, device=rows.device) < SWAPPED, others, rows)
