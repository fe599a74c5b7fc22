"""The MS-MLP network: four stages of mix-shift blocks, each at half the resolution of the last."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from stackwise.build.ms_mlp.blocks import NORM_EPS, HybridBlock, MSBlock, Step
from stackwise.build.ms_mlp.mix_shift import SHIFTS, SIZES, Border, Order
from stackwise.errors import ModelError
from stackwise.layers.arguments import keeps_arguments
from stackwise.layers.drop_path import drop_rates
from stackwise.layers.named_sizes import named_size
from stackwise.layers.picture_size import fill_up, height_and_width, maps_of_stages

Name = Literal["pico", "nano", "tiny", "small", "base"]
Hybrid = Literal["parallel"]
Mixing = Literal["growing", "shrinking", "even", "reversed", "none"]
MIXING: dict[str, tuple[tuple[int, ...], ...]] = {
    "growing": (SIZES, (1, 3, 3, 5, 7), (1, 5, 5, 5, 7), (1, 7, 7, 7, 7)),
    "shrinking": (SIZES, (1, 1, 3, 5, 5), (1, 1, 3, 3, 3), (1, 1, 1, 1, 3)),
    "even": ((3,) * 5,) * 4,
    "reversed": (SIZES[::-1], (7, 5, 3, 3, 1), (7, 5, 5, 5, 1), (7, 7, 7, 7, 1)),
    "none": ((1,) * 5,) * 4,
}
"""Windows of the groups, stage by stage. `growing` is of the authors' files: maps shrink, windows
widen; `shrinking` of their model's defaults. The others are what these are measured against."""
INITIAL_STD = 0.02


@dataclass(frozen=True)
class Size:
    """A size by name."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    patch: int
    drop_path: float
    layer_scale: float
    window: int = 7


NETWORK_SIZES: dict[str, Size] = {
    "pico": Size((24, 48, 96), (1, 1, 2), 2, 0.0, 1.0, 4),
    "nano": Size((32, 64, 128), (2, 2, 2), 2, 0.0, 1.0, 4),
    "tiny": Size((96, 192, 384, 768), (3, 3, 9, 3), 4, 0.1, 1e-6),
    "small": Size((96, 192, 384, 768), (3, 3, 27, 3), 4, 0.4, 1e-6),
    "base": Size((128, 256, 512, 1024), (3, 3, 27, 3), 4, 0.5, 1e-6),
}
"""`pico` and `nano` are ours, for 28 to 64 pixels; their layer scale learns within a few epochs."""


@keeps_arguments
class MSMLP(nn.Module):
    """(B, channels, H, W) normalised pixels of any size -> (B, n_outputs).

    A picture is filled up with zeros to a multiple of the last stage's stride.

    Args:
        channels, image_size, n_outputs: of the pictures ((height, width) or one side), and of the
            answer. The size is only checked against the least that there is.
        size: `tiny`, `small` and `base` are the paper's, `pico` and `nano` are for small pictures.
            The next three, drop_path and layer_scale replace what it says where not None.
        widths, depths: channels and blocks of each stage. patch: stride of the first.
        mixing: windows of the groups, a name of `MIXING` or sizes for each stage.
        drop_path: of the last block, rising from 0. layer_scale: gamma of all blocks at the start.
        shifts, order, border: see `mix_shift`. mlp_ratio: hidden units of a block over its width.
        mirror: shifts change their sign in every second block, so that far and near groups look to
            both sides by turns (ours).
        hybrid: `parallel` has window attention beside the mixing, see `blocks`; layer_scale is not
            of it.
        window: side of its windows; None is 7, and 4 of the small sizes.

    Its blocks stand in one list, `blocks`; the first of each stage but the first one steps to half
    the map, so that within a stage blocks can be left out, repeated and put in another order.
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
        mixing: Mixing | Sequence[Sequence[int]] = "growing",
        drop_path: float | None = None,
        layer_scale: float | None = None,
        shifts: Sequence[int] = SHIFTS,
        order: Order = "shift-mix",
        border: Border = "wrap",
        mlp_ratio: float = 4.0,
        mirror: bool = False,
        hybrid: Hybrid | None = None,
        window: int | None = None,
    ) -> None:
        super().__init__()
        if hybrid not in (None, "parallel"):
            raise ModelError(f"hybrid must be parallel or None, got {hybrid!r}")
        if hybrid and layer_scale is not None:
            raise ModelError(f"blocks of the hybrid have no layer scale, got {layer_scale}")
        named = named_size(size, NETWORK_SIZES)
        self.widths = list(widths or named.widths)
        depths = list(depths or named.depths)
        windows = named_mixing(mixing, len(self.widths)) if isinstance(mixing, str) else mixing
        if not len(self.widths) == len(depths) == len(windows):
            raise ModelError(
                "every stage needs a width, a depth and mixing sizes, got "
                f"{len(self.widths)}, {len(depths)} and {len(windows)}"
            )
        first = patch or named.patch
        self.strides = [first * 2**stage for stage in range(len(depths))]
        if min(height_and_width(image_size)) < self.strides[-1]:
            raise ModelError(
                f"pictures must have at least {self.strides[-1]} pixels a side, got {image_size}"
            )
        rates = iter(drop_rates(named.drop_path if drop_path is None else drop_path, sum(depths)))
        scale = named.layer_scale if layer_scale is None else layer_scale
        self.stem = Step(channels, self.widths[0], first)
        self.blocks = nn.ModuleList()
        for stage, width in enumerate(self.widths):
            for place in range(depths[stage]):
                turned = mirror and len(self.blocks) % 2 == 1
                given: dict[str, Any] = {
                    "before": self.widths[stage - 1] if stage and not place else None,
                    "shifts": [-shift for shift in shifts] if turned else shifts,
                    "sizes": windows[stage], "order": order, "border": border,
                    "mlp_ratio": mlp_ratio, "drop_path": next(rates),
                }  # fmt: skip
                self.blocks.append(
                    HybridBlock(width, window=window or named.window, **given)
                    if hybrid else MSBlock(width, layer_scale=scale, **given)
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
        stem = self.stem(fill_up(pixels, self.strides[-1]))
        return maps_of_stages(stem, self.blocks)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) float32 -> (B, n_outputs)."""
        pooled = self.forward_features(pixels)[-1].mean((2, 3))
        output: Tensor = self.head(self.norm(pooled))
        return output


def named_mixing(name: str, stages: int) -> Sequence[Sequence[int]]:
    """Windows of so many stages, by a name of `MIXING`; the last ones go on beyond four.

    Raises:
        ModelError: there is no such name.
    """
    if name not in MIXING:
        raise ModelError(f"mixing must be one of {', '.join(MIXING)} or sizes, got {name!r}")
    found = MIXING[name]
    return [found[min(stage, len(found) - 1)] for stage in range(stages)]
