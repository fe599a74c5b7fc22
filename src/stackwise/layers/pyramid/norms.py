"""The norms that stand behind a pyramid's convolutions, by name."""

from typing import Literal

from torch import nn

Norm = Literal["none", "batch", "group"]
GROUPS = 32
LEAST = 4
"""Channels of a group at least. A group of one channel has as many values as a map has positions:
on the coarsest levels, of a few or of one, its norm would take away all that they say."""


def norm_of(norm: Norm, channels: int) -> nn.Module:
    """Nothing, batch norm, or `group_norm`."""
    if norm == "none":
        return nn.Identity()
    return nn.BatchNorm2d(channels) if norm == "batch" else group_norm(channels)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with 32 groups, or with as many as divide the channels and have 4 of them each."""
    fits = (
        groups
        for groups in range(min(GROUPS, max(channels // LEAST, 1)), 0, -1)
        if channels % groups == 0
    )
    return nn.GroupNorm(next(fits), channels)
