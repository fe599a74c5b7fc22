"""A convolution whose taps are learnable edge functions, with a choice among families.

    y_o(p) = b_o + sum_{c,d} [ sum_m g_{c,m} phi^m_{o,c,d}(z) + w_{o,c,d} silu(z) ],  z = x_c(p + d)

A KAN layer slides over the picture. Taken literally (unfold, then a dense layer) every value is put
through the bases k k times, and memory grows by k k K. A basis that acts on one value alike at
every tap can be evaluated once a pixel: maps (B, C K, H, W), then one ordinary convolution with the
coefficients as its weights. That is what is done here; both are equal to rounding.

Source: arXiv 2408.08338, whose authors' layers unfold. Differs from theirs: dilation, groups and
windows that are not square; trained centres and scales of bases belong to a channel, not to a tap;
`pad="basis"` lets a border add nothing, where padding the picture adds phi(0).
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stackwise.build.skan.bases import Wavelet
from stackwise.build.skan.gates import POOL, Gate, Per, PrunedEdges, SelectableEdges
from stackwise.errors import ModelError

Pad = Literal["input", "basis"]
Pair = int | Sequence[int]


class Sliding:
    """How a window slides, and the sum of what its families add."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    pad: Pad

    def slide_as(self, other: "Sliding") -> None:
        """Take the way of another."""
        self.stride, self.padding = other.stride, other.padding
        self.dilation, self.pad = other.dilation, other.pad

    def bordered(self, x: Tensor) -> Tensor:
        """(B, C, H, W) with the border that the bases see."""
        down, right = self.padding
        outside = self.pad == "input" and bool(down or right)
        return F.pad(x, (right, right, down, down)) if outside else x

    def slid(self, layers: Iterable[tuple[Tensor, Tensor]], bias: Tensor, groups: int) -> Tensor:
        """The sum of convolutions, one a family: beside each other their maps would be in memory
        twice.

        Args:
            layers: maps (B, n, H, W) and their weights (n_out, n / groups, kh, kw).

        Returns:
            (B, n_out, H', W')
        """
        padding = self.padding if self.pad == "basis" else (0, 0)
        found: Tensor | None = None
        for maps, weight in layers:
            added = F.conv2d(
                maps, weight, bias if found is None else None, self.stride, padding,
                self.dilation, groups,
            )  # fmt: skip
            found = added if found is None else found + added
        assert found is not None  # there is a family at least
        return found


class SelectableKANConv2d(Sliding, SelectableEdges):
    """(B, C, H, W) -> (B, C_out, H', W'),  H' = (H + 2 p - d (k - 1) - 1) // s + 1.

    Args:
        kernel_size, stride, padding, dilation: one number or two, rows first.
        groups: parts of the channels that see each other alone.
        pool, per, gate: see `SelectableEdges`; a node is an input channel.
        base: add w silu(x).
        pad: whether zeros are put around the picture, before the bases as the authors do, or
            around the basis maps, which is cheaper on small maps.
    """

    base: nn.Conv2d | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        *,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        pool: Sequence[str] = POOL,
        per: Per = "node",
        gate: Gate = "softmax",
        base: bool = True,
        grid: int = 5,
        degree: int = 4,
        wavelet: Wavelet = "mexican-hat",
        pad: Pad = "input",
    ) -> None:
        taps = _pair("kernel_size", kernel_size, 1)
        super().__init__(
            in_channels, out_channels, pool=pool, per=per, gate=gate, grid=grid, degree=degree,
            wavelet=wavelet, taps=taps, groups=groups,
        )  # fmt: skip
        self.stride, self.padding = _pair("stride", stride, 1), _pair("padding", padding, 0)
        self.dilation, self.pad = _pair("dilation", dilation, 1), pad
        self.base = None
        if base:
            self.base = nn.Conv2d(in_channels, out_channels, taps, groups=groups, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C_out, H', W')."""
        return self.slid(edge_maps(self, self.bordered(x)), self.bias, self.groups)

    def pruned(self) -> "PrunedKANConv2d":
        """The same function without the families that no edge chose."""
        return PrunedKANConv2d(self)


class PrunedKANConv2d(Sliding, PrunedEdges):
    """(B, C, H, W) -> (B, C_out, H', W'); each family is evaluated on its channels alone."""

    base: nn.Conv2d | None

    def __init__(self, of: SelectableKANConv2d) -> None:
        super().__init__(of)
        self.slide_as(of)
        self.bias = copy.deepcopy(of.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C_out, H', W')."""
        return self.slid(edge_maps(self, self.bordered(x)), self.bias, self.groups)


def edge_maps(
    layer: SelectableKANConv2d | PrunedKANConv2d, x: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """The maps of each family at (B, C, H, W), and their weights: each on the channels that it
    acts on.
    """
    if layer.base is not None:
        yield F.silu(x), layer.base.weight
    last = x.permute(0, 2, 3, 1).contiguous()  # then channels and K are one without a copy
    for family, weight in layer.folded().items():
        places = layer.places(family)
        of_it = last if places is None else last.index_select(-1, places)
        yield basis_maps(layer.bases[family], of_it), as_filters(weight)


def basis_maps(of: nn.Module, last: Tensor) -> Tensor:
    """The basis of every pixel, (B, H, W, C) -> (B, C K, H, W), with channels last in memory."""
    maps: Tensor = of(last).flatten(3).permute(0, 3, 1, 2)
    return maps


def as_filters(weight: Tensor) -> Tensor:
    """Coefficients (n_out, n, kh, kw, K) as the weights of basis maps, (n_out, n K, kh, kw), with
    channels last in memory as in the maps.
    """
    return weight.permute(0, 2, 3, 1, 4).flatten(3).permute(0, 3, 1, 2)


def _pair(name: str, given: Pair, least: int) -> tuple[int, int]:
    found = (given, given) if isinstance(given, int) else tuple(int(n) for n in given)
    if len(found) != 2 or min(found) < least:
        raise ModelError(f"{name} is one number or two, at least {least}, not {given}")
    return found[0], found[1]
