"""The Astroformer network: a stem and four stages, of which by default the last attends."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stackwise.build.astroformer.blocks import Block, initialise
from stackwise.errors import ModelError
from stackwise.layers.arguments import keeps_arguments
from stackwise.layers.drop_path import drop_rates
from stackwise.layers.named_sizes import named_size
from stackwise.layers.picture_size import fill_up, height_and_width, maps_of_stages, steps
from stackwise.layers.relative_attention import (
    Relative,
    RelativeAttention,
    resized_table,
)

Name = Literal["pico", "nano", "0", "1", "2", "3", "4", "5"]


@dataclass(frozen=True)
class Size:
    """A size by name."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    stem: int
    head_dim: int = 32
    stem_stride: int = 2
    strides: tuple[int, ...] = (2, 2, 2, 2)


_SMALL: dict[str, Any] = {"head_dim": 16, "stem_stride": 1, "strides": (2, 2, 2, 1)}
NETWORK_SIZES: dict[str, Size] = {
    "pico": Size((16, 32, 64, 128), (1, 1, 2, 1), 16, **_SMALL),
    "nano": Size((24, 48, 96, 192), (1, 2, 3, 1), 24, **_SMALL),
    "0": Size((96, 192, 384, 768), (2, 3, 5, 2), 64),
    "1": Size((96, 192, 384, 768), (2, 6, 14, 2), 64),
    "2": Size((128, 256, 512, 1024), (2, 6, 14, 2), 128),
    "3": Size((192, 384, 768, 1536), (2, 6, 14, 2), 192),
    "4": Size((192, 384, 768, 1536), (2, 12, 28, 2), 192),
    "5": Size((256, 512, 1280, 2048), (2, 12, 28, 2), 192),
}
"""`0` to `5` are the paper's, with CoAtNet's widths and depths; `pico` and `nano` are ours, for
pictures of 28 to 64 pixels."""


@keeps_arguments
class Astroformer(nn.Module):
    """(B, channels, H, W) normalised pixels -> (B, n_outputs).

    Args:
        channels, image_size, n_outputs: of the pictures ((height, width) or one side), and of the
            answer. A picture is filled up with zeros to a multiple of the total stride.
        size: `0` to `5` or `pico`, `nano`. The next six arguments replace what it says where they
            are not None.
        widths, depths: channels and blocks of each stage. stem: channels before them.
        head_dim: of each head of attention. stem_stride, strides: of the stem, of each stage.
        layout: a letter a stage, C or T; or letters a stage, of which each is a block and the last
            one is repeated: ("C", "C", "CCT", "T") or "C-C-CCT-T".
        relative: how attention knows offsets, see `RelativeAttention`.
        drop_path: of the last block, rising from 0. dropout: before the last layer.
        head_hidden: a layer and tanh before the last; False has the norm before the pooling, as
            CoAtNet has it.

    Its blocks stand in one list, `blocks`; the first of each stage steps to a smaller map.
    """

    arguments: dict[str, Any]

    def __init__(
        self,
        *,
        channels: int = 3,
        image_size: int | Sequence[int] = 224,
        n_outputs: int = 1000,
        size: Name = "0",
        widths: Sequence[int] | None = None,
        depths: Sequence[int] | None = None,
        stem: int | None = None,
        head_dim: int | None = None,
        stem_stride: int | None = None,
        strides: Sequence[int] | None = None,
        layout: str | Sequence[str] = "CCCT",
        relative: Relative = "bias",
        drop_path: float = 0.0,
        dropout: float = 0.0,
        head_hidden: bool | int = True,
    ) -> None:
        super().__init__()
        named = named_size(size, NETWORK_SIZES)
        self.widths = list(widths or named.widths)
        depths, strides = list(depths or named.depths), list(strides or named.strides)
        stem, first = stem or named.stem, stem_stride or named.stem_stride
        kinds = block_kinds(layout, depths)
        if not len(self.widths) == len(depths) == len(strides):
            raise ModelError(
                "every stage needs a width, a depth and a stride, got "
                f"{len(self.widths)}, {len(depths)} and {len(strides)}"
            )
        if any(stride not in (1, 2) for stride in (first, *strides)):
            raise ModelError(f"strides are 1 or 2, got {[first, *strides]}")
        self.strides = [first]
        for stride in strides:
            self.strides.append(self.strides[-1] * stride)
        height, width = height_and_width(image_size)
        total = self.strides[-1]
        self.image_size = (steps(height, total) * total, steps(width, total) * total)
        self.stem = nn.Sequential(
            nn.Conv2d(channels, stem, 3, first, 1, bias=False), nn.BatchNorm2d(stem), nn.GELU(),
            nn.Conv2d(stem, stem, 3, 1, 1, bias=False),
        )  # fmt: skip
        rates = iter(drop_rates(drop_path, sum(depths)))
        self.blocks = nn.ModuleList()
        before = stem
        for stage, after in enumerate(self.widths):
            side = self.strides[stage + 1]
            transformer: dict[str, Any] = {
                "map_size": (self.image_size[0] // side, self.image_size[1] // side),
                "head_dim": head_dim or named.head_dim, "relative": relative,
            }  # fmt: skip
            for place, kind in enumerate(kinds[stage]):
                stride = 1 if place else strides[stage]
                self.blocks.append(
                    Block(kind, before, after, stride, next(rates), opens=not place,
                          transformer=transformer)
                )  # fmt: skip
                before = after
        self.norm = nn.LayerNorm(self.widths[-1], eps=1e-6)
        hidden = self.widths[-1] if head_hidden is True else int(head_hidden)
        self.hidden = nn.Linear(self.widths[-1], hidden) if head_hidden else None
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden or self.widths[-1], n_outputs)
        initialise(self)

    @staticmethod
    def least_size(
        *,
        size: Name = "0",
        stem_stride: int | None = None,
        strides: Sequence[int] | None = None,
        **_: object,
    ) -> int:
        """The smallest side of a picture for these arguments: one pixel of the last map."""
        named = named_size(size, NETWORK_SIZES)
        total = stem_stride or named.stem_stride
        for stride in strides or named.strides:
            total *= stride
        return total

    def forward_features(self, pixels: Tensor) -> list[Tensor]:
        """The map of each stage: (B, widths[i], H / strides[i + 1], W / strides[i + 1])."""
        stem = self.stem(fill_up(pixels, self.strides[-1]))
        return maps_of_stages(stem, self.blocks)[1:]

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) float32 -> (B, n_outputs)."""
        last = self.forward_features(pixels)[-1]
        if self.hidden is None:
            pooled = self.norm(last.permute(0, 2, 3, 1)).mean((1, 2))
        else:
            pooled = self.hidden(self.norm(last.mean((2, 3)))).tanh()
        output: Tensor = self.head(self.dropout(pooled))
        return output

    @torch.no_grad()
    def resized(self, image_size: int | Sequence[int]) -> "Astroformer":
        """This network for pictures of another size: only the tables of offsets change."""
        new = type(self)(**self.arguments | {"image_size": image_size}).to(self.head.weight)
        state = self.state_dict()
        for (name, old), (_, own) in zip(self.named_modules(), new.named_modules(), strict=True):
            if isinstance(old, RelativeAttention) and old.relative in ("bias", "post"):
                assert isinstance(own, RelativeAttention)
                table = resized_table(old.table, old.map_size, own.map_size)
                state[f"{name}.table"] = table
        new.load_state_dict(state)
        return new.train(self.training)

    def no_weight_decay(self) -> set[str]:
        """Names of the tables of offsets, which the authors do not decay."""
        return {name for name, _ in self.named_parameters() if name.endswith(".table")}


def block_kinds(layout: str | Sequence[str], depths: Sequence[int]) -> list[str]:
    """The letters of each stage's blocks: "CCCT", "C-C-CCT-T" or ("C", "C", "CCT", "T").

    Raises:
        ModelError: another letter, or not one item a stage.
    """
    parted = isinstance(layout, str) and "-" in layout
    stages = layout.split("-") if parted and isinstance(layout, str) else list(layout)
    if len(stages) != len(depths) or not all(s and set(s) <= {"C", "T"} for s in stages):
        raise ModelError(f"layout {layout!r}: use C and T, one per stage ({len(depths)} here)")
    return [(kinds + kinds[-1] * depth)[:depth] for kinds, depth in zip(stages, depths)]
