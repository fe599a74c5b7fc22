"""S-ConvKAN: blocks of a selectable convolution, a normalisation and a step to half the side.

    x <- halve(N(KAN convolution(x)))        no activation: the edge functions are the activation

The mean over places and a linear head follow the last block, which does not halve.

Source: arXiv 2408.08338 and the example of its authors' layers, which pools by two between
convolutions. Differs from the paper, whose networks were not readable: widths are ours; N is batch
normalisation with a scale that begins at 1/2, so that most values come to lie in [-1, 1] where the
bases live. In prediction it is an affine map of each channel, so a node's function stays one of a
single number, which a normalisation over channels would break.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stackwise.build.skan.bases import Wavelet
from stackwise.build.skan.convolution import Pad, SelectableKANConv2d
from stackwise.build.skan.gates import POOL, Gate, Per
from stackwise.build.skan.selectable import SelectableNetwork
from stackwise.layers.arguments import keeps_arguments

INSIDE = 0.5
"""Deviation of what a block passes on at first."""


class KANBlock(nn.Module):
    """A KAN convolution of like sides, batch normalisation, and largest values of 2 x 2.

    Args:
        layer: the convolution, before or after pruning.
        halves: whether the side is halved; an odd one is rounded up.
    """

    def __init__(self, layer: SelectableKANConv2d, *, halves: bool) -> None:
        super().__init__()
        self.layer: nn.Module = layer
        self.norm = nn.BatchNorm2d(layer.n_out)
        nn.init.constant_(self.norm.weight, INSIDE)
        self.halves = halves

    def after(self, y: Tensor) -> Tensor:
        """What the block makes of its convolution."""
        y = self.norm(y)
        return F.max_pool2d(y, 2, ceil_mode=True) if self.halves else y

    def settle(self, y: Tensor) -> None:
        """Take the statistics of (B, after, H, W) for those of all pictures."""
        assert self.norm.running_mean is not None and self.norm.running_var is not None
        self.norm.running_mean.copy_(y.mean((0, 2, 3)))
        self.norm.running_var.copy_(y.var((0, 2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) -> (B, after, H / 2, W / 2), or of the same sides."""
        return self.after(self.layer(x))


@keeps_arguments
class SConvKAN(SelectableNetwork):
    """Selectable convolutions on pictures, (B, channels, H, W) -> (B, n_outputs).

    Args:
        channels: of the pictures.
        ranges: least and largest value of each channel, mapped to -1 and 1; None maps nothing.
        widths: output channels of each block; all but the last halve the side.
        kernel_size: side of the windows, an odd number.
        pad: see `SelectableKANConv2d`.
        choice, selection: see `SelectableNetwork`.
    """

    def __init__(
        self,
        *,
        channels: int,
        n_outputs: int,
        ranges: list[list[float]] | None = None,
        widths: Sequence[int] = (16, 32, 64),
        kernel_size: int = 3,
        pool: Sequence[str] = POOL,
        per: Per = "node",
        gate: Gate = "softmax",
        grid: int = 5,
        degree: int = 4,
        wavelet: Wavelet = "mexican-hat",
        pad: Pad = "basis",
        choice: list[Any] | None = None,
        selection: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.keep_ranges(ranges, channels)
        self.blocks = nn.ModuleList()
        before = channels
        for place, after in enumerate(widths):
            layer = SelectableKANConv2d(
                before, after, kernel_size, padding=kernel_size // 2, pool=pool, per=per,
                gate=gate, grid=grid, degree=degree, wavelet=wavelet, pad=pad,
            )  # fmt: skip
            self.blocks.append(KANBlock(layer, halves=place < len(widths) - 1))
            before = after
        self.head = nn.Linear(before, n_outputs)
        self.made_with(choice)

    def first(self, rows: Mapping[str, Tensor]) -> Tensor:
        """`pixels` as the first block sees them."""
        return self.scaled(rows["pixels"].movedim(1, -1)).movedim(-1, 1)

    @torch.no_grad()
    def settle(self, rows: Mapping[str, Tensor]) -> None:
        """Take the statistics of each normalisation anew over rows, as the gates now act.

        Those of training are of the families that were drawn, or of the whole mixture before it
        was pruned.
        """
        was_training = self.training
        x = self.eval().first(rows)
        block: Any
        for block in self.blocks:
            block.settle(y := block.layer(x))
            x = block.after(y)
        self.train(was_training)

    def after(self, place: int, y: Tensor) -> Tensor:
        """The rest of a block."""
        block: Any = self.blocks[place]
        found: Tensor = block.after(y)
        return found

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, n_outputs)."""
        x = self.first({"pixels": pixels})
        for block in self.blocks:
            x = block(x)
        output: Tensor = self.head(x.mean((2, 3)))
        return output

    def places(self) -> Sequence[tuple[nn.Module, str]]:
        """The convolution of each block."""
        return [(block, "layer") for block in self.blocks]
