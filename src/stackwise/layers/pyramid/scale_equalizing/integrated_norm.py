"""Integrated batch normalisation: one batch norm for all levels of a pyramid (arXiv 2005.03101).

    mean, variance    over the batch, the positions and the levels together
    y^l = weight (x^l - mean) / sqrt(variance + eps) + bias                 one weight, one bias

Layers that share their kernels over levels share their statistics too. Fine levels have most of the
positions, three quarters where there are many levels, and decide them. It wants about 4 pictures a
step; `GroupNorm` on each level is for fewer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stackwise.errors import ModelError


class IntegratedBatchNorm(nn.Module):
    """A list of (B, C, H_l, W_l) -> a list of the same shapes.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        # torch's own, so that several processes gather its statistics like any other's
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """See the class.

        Raises:
            ModelError: in training, a channel has one value in all.
        """
        flat = [level.flatten(2) for level in levels]
        sizes = [part.shape[2] for part in flat]
        if self.training:
            if flat[0].shape[0] * sum(sizes) < 2:
                raise ModelError(
                    "integrated batch norm needs more than one value per channel in training, "
                    "got one picture with one position"
                )
            normed = self.norm(torch.cat(flat, dim=2)).split(sizes, dim=2)
        else:
            normed = [self.norm(part) for part in flat]
        return [part.reshape(level.shape) for part, level in zip(normed, levels, strict=True)]
