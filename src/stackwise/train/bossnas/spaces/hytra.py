"""HyTra: at each layer a residual convolution or attention, and the scale at which it works.

    conv@1/4   conv@1/8   conv@1/16, att@1/16   conv@1/32, att@1/32

A layer keeps the scale or halves it, and channels follow the scale: 4, 8, 16, 32 times the stem's.
So the position of every down-sampling is searched with the operations: 2,818,103 architectures of
16 layers. The very first layer may jump to any scale, through a convolution of patches.

Numbers of operations are those of the authors' code: 0 att@1/32, 1 conv@1/32, 2 att@1/16, 3
conv@1/16, 4 conv@1/8, 5 conv@1/4. On small pictures the stem's stride is less than 4 and the names
change with it.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from stackwise.errors import KnobError
from stackwise.train.bossnas.spaces.hytra_operations import HyTraOperation, patches
from stackwise.train.bossnas.spaces.space import Space
from stackwise.train.bossnas.spaces.stems import OfPixels, picture_stem, stride_for


class HyTra(Space):
    """The hybrid space.

    Args:
        channels: of the pictures. size: (H, W). width: channels of the stem; the paper's is 64.
        blocks: parts that are searched one after another. layers: of each.
        scales: 4, or fewer. free_start: whether the first layer may work at any scale, or at the
            stem's and the next one alone.
    """

    kind: ClassVar[str] = "hytra"

    def __init__(
        self, *, channels: int = 3, size: Any = (224, 224), width: int = 64, blocks: int = 4,
        layers: int = 4, scales: int = 4, free_start: bool = True,
    ) -> None:  # fmt: skip
        if not 1 <= scales <= 4:
            raise KnobError(f"HyTra has 1 to 4 scales, not {scales}")
        if width < 1 or blocks < 1 or layers < 1:
            raise KnobError(f"width, blocks and layers are at least 1: {width}, {blocks}, {layers}")
        side = min(size)
        if side < 2 ** (scales - 1):
            raise KnobError(
                f"pictures of {side} pixels cannot be halved {scales - 1} times: take fewer scales"
            )
        self.arguments = {
            "channels": channels, "size": list(size), "width": width, "blocks": blocks,
            "layers": layers, "scales": scales, "free_start": free_start,
        }  # fmt: skip
        self.picture, self.width, self.scales = (channels, *size), width, scales
        self.free_start, self.depths = free_start, (layers,) * blocks
        self.stride = stride_for(side, scales - 1)
        self.codes: list[tuple[str, int]] = []
        for scale in reversed(range(scales)):
            if scale >= scales - 2 and scales > 1:
                self.codes.append(("att", scale))
            self.codes.append(("conv", scale))

    def operations(self, block: int, layer: int) -> list[str]:
        """Such as conv@1/8."""
        return [f"{kind}@1/{self.stride * 2**scale}" for kind, scale in self.codes]

    def after(self, block: int, layer: int, state: int, choice: int) -> int | None:
        """The scale of the operation, where it is the present one or half of it."""
        scale = self.codes[choice][1]
        if block == layer == 0 and self.free_start:
            return scale
        return scale if scale in (state, state + 1) else None

    def gate(self, block: int, state: int) -> int:
        """The incoming scale."""
        return state

    def entries(self, block: int) -> list[int]:
        """Every scale that may be reached before a block."""
        if block == 0:
            return [self.start]
        most = self.scales - 1
        far = most if self.free_start else min(most, sum(self.depths[:block]))
        return list(range(far + 1))

    def stem(self) -> nn.Module:
        """To the first scale."""
        return OfPixels(picture_stem(self.picture[0], self.width, self.stride))

    def bridge(self, block: int, state: int) -> nn.Module:
        """Patches of the stem's map, at a scale and with its channels."""
        return patches(self.width, self.wide(state), 2**state)

    def wide(self, scale: int) -> int:
        """Channels at a scale."""
        return 4 * self.width * 2**scale

    def super_layer(self, block: int, layer: int) -> nn.Module:
        """All operations, those that halve included."""
        return HyTraLayer(self, first=block == layer == 0)

    def layer(self, block: int, layer: int, state: int, choice: int) -> nn.Module:
        """One operation that keeps the scale, or halves it, or cuts patches first."""
        kind, scale = self.codes[choice]
        if block == layer == 0:
            wide = self.wide(scale)
            operation = HyTraOperation(kind, wide, {"keep": wide // 4})
            return nn.Sequential(patches(self.width, wide // 4, 2**scale), operation)
        entry = "keep" if scale == state else "down"
        return HyTraOperation(kind, self.wide(scale), {entry: self.wide(state)})

    def channels(self, block: int, state: int) -> int:
        """Those of the scale."""
        return self.wide(state)

    def align(self, block: int, state: int) -> nn.Module:
        """Down to the last scale and up to its channels, without an activation."""
        last = self.scales - 1
        return nn.Identity() if state == last else patches(
            self.wide(state), self.wide(last), 2 ** (last - state)
        )  # fmt: skip

    def aligned(self, block: int) -> int:
        """Those of the last scale."""
        return self.wide(self.scales - 1)

    def example(self) -> dict[str, Tensor]:
        """One picture of zeros."""
        return {"pixels": torch.zeros(1, *self.picture)}


class HyTraLayer(nn.Module):
    """Every operation of a layer, with an entry for each scale that may stand before it."""

    def __init__(self, space: HyTra, *, first: bool) -> None:
        super().__init__()
        self.space, self.first = space, first
        self.patches = nn.ModuleDict()
        self.operations = nn.ModuleList()
        if first:
            for scale in range(space.scales):
                wide = space.wide(scale) // 4
                self.patches[str(scale)] = patches(space.width, wide, 2**scale)
        for kind, scale in space.codes:
            wide = space.wide(scale)
            entries = {"keep": wide // 4 if first else wide}
            if scale and not first:
                entries["down"] = space.wide(scale - 1)
            self.operations.append(HyTraOperation(kind, wide, entries))

    def forward(self, h: Tensor, choice: int, state: int) -> Tensor:
        """The chosen operation on an input of the scale `state`."""
        scale = self.space.codes[choice][1]
        operation: Any = self.operations[choice]
        if self.first:
            h = self.patches[str(scale)](h)
        entry = "keep" if self.first or scale == state else "down"
        output: Tensor = operation.through(h, entry)
        return output

    def cut(self, choice: int, state: int) -> nn.Module:
        """The operation with the one entry that it needs."""
        block, layer = (0, 0) if self.first else (0, 1)
        made = self.space.layer(block, layer, state, choice)
        scale = self.space.codes[choice][1]
        own: Any = self.operations[choice].state_dict()
        if self.first:
            body: Any = made
            body[0].load_state_dict(self.patches[str(scale)].state_dict())
            body[1].load_state_dict(own)
        else:
            wanted = made.state_dict()
            made.load_state_dict({name: own[name] for name in wanted})
        return made
