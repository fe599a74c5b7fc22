"""Global contexts of a pyramid: one vector a picture, added to all levels (arXiv 2110.12130).

    scale     u_l = mean over positions of X[l],   alpha = L softmax over levels of conv1x1(u)
              k = T(mean_l(alpha_l u_l))
    spatial   u(p) = mean over levels of X(p),     beta = H W softmax over positions of conv1x1(u)
              k = T(mean_p(beta(p) u(p)))

T is a 1x1 convolution. The factors L and H W make the weights' mean 1. The first does not care in
which order levels stand, the second not in which order positions do. One attended vector for all is
the idea of arXiv 1904.11492.
"""

import torch
from torch import Tensor, nn

from stackwise.layers.pyramid.reverse.cross_scale_shift import xavier


class _Context(nn.Module):
    """The mean of (B, C, N) columns, weighed by what they say themselves -> (B, 1, C, 1, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.says = nn.Conv2d(channels, 1, 1)
        self.turns = nn.Conv2d(channels, channels, 1)
        xavier(self)

    def weighed(self, columns: Tensor) -> Tensor:
        """See the class."""
        logits = self.says(columns[..., None])[:, :, :, 0]
        share = logits.float().softmax(dim=2).to(columns.dtype)  # its factor N undoes the mean's
        vector: Tensor = self.turns((share * columns).sum(2)[:, :, None, None])
        return vector[:, None]


class ScaleContext(_Context):
    """(B, L, C, H, W) -> (B, 1, C, 1, 1): the levels, weighed against each other."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.weighed(x.mean((3, 4)).transpose(1, 2))


class SpatialContext(_Context):
    """(B, L, C, H, W) -> (B, 1, C, 1, 1): the positions, weighed against each other."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.weighed(x.mean(1).flatten(2))


def with_contexts(x: Tensor, *contexts: nn.Module) -> Tensor:
    """(B, L, C, H, W) and the vector of each context, which all see x itself."""
    return x + torch.stack([context(x) for context in contexts]).sum(0)
