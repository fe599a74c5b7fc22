"""The two operations of HyTra: a residual convolution, and attention with a convolution for places.

    conv   h <- ReLU(BN0(W3 ReLU(BN(C ReLU(BN(P W1 h))))) + S h)
    att    h <- ReLU(BN0(W3 ReLU(BN(Att ReLU(BN(P W1 h))))) + S h)

W1 and W3 are 1x1 convolutions to a quarter of the channels and back, P a depth-wise 3x3 one that
does the down-sampling and tells attention about places, C a 3x3 one, BN0 a batch norm whose gain
begins at 0. S is the identity, or 1x1 where channels change, or 3x3 with stride 2, each of the
latter with batch norm and ReLU.

    Att_i = sum_j A_ij v_j,   A = softmax(q k^T / sqrt(d)) over j

(the authors' search code sums over the queries, their retraining code as here).
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

HEAD = 64
"""Numbers of a head; narrower networks have one narrower head."""


def patches(before: int, after: int, stride: int) -> nn.Sequential:
    """Depth-wise convolution of patches, 1x1 convolution, batch norm."""
    return nn.Sequential(
        nn.Conv2d(before, before, stride, stride, groups=before, bias=False),
        nn.Conv2d(before, after, 1, bias=False),
        nn.BatchNorm2d(after),
    )


class PlaceAttention(nn.Module):
    """Multi-head self-attention over all places, (B, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(1, channels // HEAD)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        """Every place asks every place."""
        rows, channels, height, width = h.shape
        parts = self.qkv(h).view(rows, 3, self.heads, channels // self.heads, height * width)
        query, key, value = parts.transpose(3, 4).unbind(1)
        found = functional.scaled_dot_product_attention(query, key, value)
        return found.transpose(2, 3).reshape(rows, channels, height, width)


class HyTraOperation(nn.Module):
    """One operation with the entries that it may be reached by.

    Args:
        kind: `conv` or `att`. after: channels behind it.
        entries: `keep` and `down` -> channels before it.
    """

    def __init__(self, kind: str, after: int, entries: Mapping[str, int]) -> None:
        super().__init__()
        inner = after // 4
        self.entries = nn.ModuleDict()
        self.shortcuts = nn.ModuleDict()
        for name, before in entries.items():
            stride = 1 if name == "keep" else 2
            self.entries[name] = nn.Sequential(
                nn.Conv2d(before, inner, 1, bias=False),
                nn.Conv2d(inner, inner, 3, stride, 1, groups=inner),
                nn.BatchNorm2d(inner),
            )
            self.shortcuts[name] = _shortcut(before, after, stride)
        core = (
            nn.Conv2d(inner, inner, 3, 1, 1, bias=False) if kind == "conv"
            else PlaceAttention(inner)
        )  # fmt: skip
        self.body = nn.Sequential(
            nn.ReLU(), core, nn.BatchNorm2d(inner), nn.ReLU(),
            nn.Conv2d(inner, after, 1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        nn.init.zeros_(self.body[-1].weight)  # type: ignore[arg-type]

    def through(self, h: Tensor, entry: str) -> Tensor:
        """The operation by one of its entries."""
        found: Tensor = self.body(self.entries[entry](h)) + self.shortcuts[entry](h)
        return found.relu()

    def forward(self, h: Tensor) -> Tensor:
        """By its only entry, (B, before, H, W) -> (B, after, H / stride, W / stride)."""
        return self.through(h, next(iter(self.entries)))


def _shortcut(before: int, after: int, stride: int) -> nn.Module:
    if stride == 1 and before == after:
        return nn.Identity()
    kernel = 1 if stride == 1 else 3
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )
