"""The MS-MLP network: four stages of mix-shift blocks, each at half the resolution of the last."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stackwise.build.ms_mlp.mix_shift import SHIFTS, SIZES, Border, MixShift, Order
from stackwise.errors import ModelError
from stackwise.layers.arguments import keeps_arguments
from stackwise.layers.channel_norm import ChannelNorm
from stackwise.layers.drop_path import DropPath, drop_rates
from stackwise.layers.named_sizes import named_size
from stackwise.layers.picture_size import fill_up, height_and_width

Name = Literal["pico", "nano", "tiny", "small", "base"]
MIXING = (SIZES, (1, 3, 3, 5, 7), (1, 5, 5, 5, 7), (1, 7, 7, 7, 7))
"""Windows of the groups, stage by stage: maps shrink, windows widen (as in the authors' files)."""
NORM_EPS = 1e-6
INITIAL_STD = 0.02


@dataclass(frozen=True)
class Size:
    """A size by name."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    patch: int
    drop_path: float
    layer_scale: float


NETWORK_SIZES: dict[str, Size] = {
    "pico": Size((24, 48, 96), (1, 1, 2), 2, 0.0, 1.0),
    "nano": Size((32, 64, 128), (2, 2, 2), 2, 0.0, 1.0),
    "tiny": Size((96, 192, 384, 768), (3, 3, 9, 3), 4, 0.1, 1e-6),
    "small": Size((96, 192, 384, 768), (3, 3, 27, 3), 4, 0.4, 1e-6),
    "base": Size((128, 256, 512, 1024), (3, 3, 27, 3), 4, 0.5, 1e-6),
}
"""`pico` and `nano` are ours, for 28 to 64 pixels; their layer scale learns within a few epochs."""


class MSBlock(nn.Module):
    """Mix over places, then over channels, with one residual: (B, C, H, W) -> (B, C, H, W).

        y = x + DropPath(gamma * W2 GELU(W1 LN(u)))        u = MixShift(x)

    Args:
        dim: C. mlp_ratio: hidden units over C. layer_scale: gamma at the start.
    """

    def __init__(
        self,
        dim: int,
        *,
        shifts: Sequence[int] = SHIFTS,
        sizes: Sequence[int] = SIZES,
        order: Order = "shift-mix",
        border: Border = "wrap",
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        layer_scale: float = 1e-6,
    ) -> None:
        super().__init__()
        self.mix = MixShift(dim, shifts=shifts, sizes=sizes, order=order, border=border)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.first = nn.Linear(dim, int(dim * mlp_ratio))
        self.activation = nn.GELU()
        self.second = nn.Linear(int(dim * mlp_ratio), dim)
        self.gamma = nn.Parameter(torch.full((dim,), layer_scale))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        u = self.norm(self.mix(x).permute(0, 2, 3, 1))
        added = self.gamma * self.second(self.activation(self.first(u)))
        output: Tensor = x + self.drop_path(added.permute(0, 3, 1, 2))
        return output


class Stage(nn.Module):
    """A convolution of stride `step` with a norm after it, then blocks: (B, C, H, W) -> map."""

    def __init__(self, before: int, width: int, step: int, blocks: Sequence[MSBlock]) -> None:
        super().__init__()
        self.step = nn.Conv2d(before, width, step, stride=step)
        self.norm = ChannelNorm(width, NORM_EPS)
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.blocks(self.norm(self.step(x)))
        return output


@keeps_arguments
class MSMLP(nn.Module):
    """(B, channels, H, W) normalised pixels of any size -> (B, n_outputs).

    A picture is filled up with zeros to a multiple of the last stage's stride.

    Args:
        channels, image_size, n_outputs: of the pictures ((height, width) or one side), and of the
            answer. The size is only checked against the least that there is.
        size: `tiny`, `small` and `base` are the paper's, `pico` and `nano` are for small pictures.
            The next six arguments replace what it says where they are not None.
        widths, depths: channels and blocks of each stage. patch: stride of the first.
        mixing: windows of the groups for each stage.
        drop_path: of the last block, rising from 0. layer_scale: gamma of all blocks at the start.
        shifts, order, border: see `mix_shift`. mlp_ratio: hidden units of a block over its width.
    """

    arguments: dict[str, Any]

    def __init__(
        self,
        *,
        channels: int = 3,
        image_size: int | Sequence[int] = 224,
        n_outputs: int = 1000,
        size: Name = "tiny",
        widths: Sequence[int] | None = None,
        depths: Sequence[int] | None = None,
        patch: int | None = None,
        mixing: Sequence[Sequence[int]] | None = None,
        drop_path: float | None = None,
        layer_scale: float | None = None,
        shifts: Sequence[int] = SHIFTS,
        order: Order = "shift-mix",
        border: Border = "wrap",
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__()
        named = named_size(size, NETWORK_SIZES)
        self.widths = list(widths or named.widths)
        depths = list(depths or named.depths)
        mixing = [list(sizes) for sizes in mixing or MIXING[: len(self.widths)]]
        if not len(self.widths) == len(depths) == len(mixing):
            raise ModelError(
                "every stage needs a width, a depth and mixing sizes, got "
                f"{len(self.widths)}, {len(depths)} and {len(mixing)}"
            )
        first = patch or named.patch
        self.strides = [first * 2**stage for stage in range(len(depths))]
        if min(height_and_width(image_size)) < self.strides[-1]:
            raise ModelError(
                f"pictures must have at least {self.strides[-1]} pixels a side, got {image_size}"
            )
        rates = iter(drop_rates(named.drop_path if drop_path is None else drop_path, sum(depths)))
        scale = named.layer_scale if layer_scale is None else layer_scale
        self.stages = nn.ModuleList(
            Stage(
                self.widths[stage - 1] if stage else channels, width, 2 if stage else first,
                [
                    MSBlock(
                        width, shifts=shifts, sizes=mixing[stage], order=order, border=border,
                        mlp_ratio=mlp_ratio, drop_path=next(rates), layer_scale=scale,
                    )
                    for _ in range(depths[stage])
                ],
            )
            for stage, width in enumerate(self.widths)
        )  # fmt: skip
        self.norm = nn.LayerNorm(self.widths[-1], eps=NORM_EPS)
        self.head = nn.Linear(self.widths[-1], n_outputs)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=INITIAL_STD)
                nn.init.zeros_(module.bias)

    @staticmethod
    def least_size(
        *,
        size: Name = "tiny",
        patch: int | None = None,
        depths: Sequence[int] | None = None,
        **_: object,
    ) -> int:
        """The smallest side of a picture for these arguments: one pixel of the last map."""
        named = named_size(size, NETWORK_SIZES)
        return (patch or named.patch) * 2 ** (len(depths or named.depths) - 1)

    def forward_features(self, pixels: Tensor) -> list[Tensor]:
        """The map of each stage, for detection and segmentation.

        Returns:
            (B, widths[i], H / strides[i], W / strides[i]), H and W of the filled up picture.
        """
        maps = [fill_up(pixels, self.strides[-1])]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) float32 -> (B, n_outputs)."""
        pooled = self.forward_features(pixels)[-1].mean((2, 3))
        output: Tensor = self.head(self.norm(pooled))
        return output
