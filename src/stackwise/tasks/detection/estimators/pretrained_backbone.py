"""EfficientNet-Lite0 as a backbone, with the weights that it learned on ImageNet.

Its batch norm keeps the running statistics of ImageNet, also in training: few pictures a step would
make worse ones. Their scales and shifts learn, as everything else does.
"""

from typing import Any, Self

from torch import Tensor, nn
from torch.nn import functional

from stackwise.layers.efficientnet_lite import EfficientNetLite
from stackwise.layers.picture_size import maps_of_stages


class LiteBackbone(nn.Module):
    """Pixels (B, 3, H, W) -> the maps of stride `finest` to 32.

    Args:
        finest: 4 or 8. pretrained: with the packaged weights; else they are read afterwards.

    Attributes:
        maps: channels of each map that is given.
    """

    def __init__(self, finest: int, *, pretrained: bool) -> None:
        super().__init__()
        whole: Any = EfficientNetLite(n_outputs=1)
        if pretrained:
            from stackwise import data

            whole = data.network("efficientnet-lite0")
        self.stem, self.blocks = whole.stem, whole.blocks
        self.first = whole.strides.index(finest)
        self.maps = whole.widths[self.first :]

    def train(self, mode: bool = True) -> Self:
        """The norms stay as they are in eval mode."""
        super().train(mode)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()
        return self

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> (B, maps[l], H_l, W_l) each, fine to coarse."""
        found = maps_of_stages(functional.relu6(self.stem(pixels)), self.blocks)
        return found[self.first :]
