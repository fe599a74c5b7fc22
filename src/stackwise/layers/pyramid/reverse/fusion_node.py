"""A node of a reverse feature pyramid: join two or three maps by weights that each picture says.

    guidance   a = tau C^{-1/2} conv3x3([x1; x2]),    A = H W softmax over positions of a
    weight     w = sigmoid(v . [mean(x1); mean(x2)] + b)         one number a picture
    two        r = w x1 + (1 - w) A x2,                          y = Post(r)
    three      r' = Pre(r),  r'' = w' r' + (1 - w') x3,          y = Post(r'')
    Pre, Post  ReLU, then conv3x3, then norm

The means are taken before the guidance. The convolutions of guidance and weight begin at zero: w is
1/2, A is 1 everywhere; the mean of A is 1 always. Source: arXiv 2110.12130.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from stackwise.layers.deformable import DeformConv2d
from stackwise.layers.pyramid.norms import Norm, norm_of

Weights = Literal["dynamic", "mean"]
NodeConv = Literal["deform", "plain"]
OFFSET_GROUPS = 2


@dataclass
class Fused:
    """What a node decided on a batch.

    Attributes:
        weights: (B,) of each fusion, how much of the first map was taken.
        guidance: (B, H, W) the map A, or None.
    """

    weights: list[Tensor]
    guidance: Tensor | None


class Guidance(nn.Module):
    """(B, C, H, W) twice -> (B, 1, H, W) of mean 1, by which the second map is to be multiplied."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, 1, 3, padding=1)
        self.temperature = nn.Parameter(torch.ones(1))
        self.scale = channels**-0.5
        _zero(self.conv)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """See the class."""
        logits = self.temperature * self.scale * self.conv(torch.cat([x1, x2], dim=1))
        flat = logits.flatten(1)
        attention = flat.float().softmax(dim=1) * flat.shape[1]
        return attention.view_as(logits).to(x2.dtype)


class DynamicWeight(nn.Module):
    """The means (B, C, 1, 1) of two maps -> (B, 1, 1, 1) between 0 and 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, 1, 1)
        _zero(self.conv)

    def forward(self, mean1: Tensor, mean2: Tensor) -> Tensor:
        """See the class."""
        said: Tensor = self.conv(torch.cat([mean1, mean2], dim=1))
        return said.sigmoid()


class ActiveConv(nn.Module):
    """(B, C, H, W) -> the same: ReLU, a 3x3 convolution, a norm."""

    def __init__(self, channels: int, conv: NodeConv, norm: Norm) -> None:
        super().__init__()
        bias = norm == "none"
        self.conv: nn.Module
        if conv == "deform":
            self.conv = DeformConv2d(
                channels, channels, groups=OFFSET_GROUPS, modulated=True, bias=bias
            )
        else:
            plain = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
            nn.init.xavier_uniform_(plain.weight)
            if plain.bias is not None:
                nn.init.zeros_(plain.bias)
            self.conv = plain
        self.norm = norm_of(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y: Tensor = self.norm(self.conv(x.relu()))
        return y


class FusionNode(nn.Module):
    """Two or three maps of one size -> one.

    Args:
        channels: of every map. three: whether it takes a third map.
        guided: whether the second map is multiplied by `Guidance`.
        weights: "dynamic", or "mean" for 1/2 each.
        conv: "deform" is the second version with two groups, as in the released models.
    """

    def __init__(
        self,
        channels: int,
        *,
        three: bool,
        guided: bool,
        weights: Weights = "dynamic",
        conv: NodeConv = "deform",
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        self.guidance = Guidance(channels) if guided else None
        said = 0 if weights == "mean" else 2 if three else 1
        self.weights = nn.ModuleList(DynamicWeight(channels) for _ in range(said))
        self.pre = ActiveConv(channels, conv, norm) if three else None
        self.post = ActiveConv(channels, conv, norm)

    def forward(
        self, x1: Tensor, x2: Tensor, x3: Tensor | None = None, *, seen: list[Fused] | None = None
    ) -> Tensor:
        """(B, channels, H, W) each -> the same.

        Args:
            seen: to which what was decided is appended.
        """
        attention = None if self.guidance is None else self.guidance(x1, x2)
        attended = x2 if attention is None else attention * x2
        said = [self._weight(0, x1, x2)]
        joined = _between(x1, attended, said[0])
        if self.pre is not None:
            assert x3 is not None
            first = self.pre(joined)
            said.append(self._weight(1, first, x3))
            joined = _between(first, x3, said[1])
        if seen is not None:
            shown = None if attention is None else attention.detach()[:, 0].float()
            seen.append(Fused([one.detach().flatten().float() for one in said], shown))
        y: Tensor = self.post(joined)
        return y

    def _weight(self, fusion: int, x1: Tensor, x2: Tensor) -> Tensor:
        if not len(self.weights):
            return x1.new_full((len(x1), 1, 1, 1), 0.5)
        w: Tensor = self.weights[fusion](
            x1.mean((2, 3), keepdim=True), x2.mean((2, 3), keepdim=True)
        )
        return w


def _between(x1: Tensor, x2: Tensor, w: Tensor) -> Tensor:
    return w * x1 + (1 - w) * x2


def _zero(layer: nn.Conv2d) -> None:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
