"""Layer normalisation over the channels of a map, at each pixel for itself."""

from torch import Tensor, nn


class ChannelNorm(nn.LayerNorm):
    """(B, C, H, W) -> (B, C, H, W), mean and variance over C. Free of copies in channels_last."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
