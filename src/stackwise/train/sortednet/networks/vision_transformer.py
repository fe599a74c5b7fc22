"""A plain vision transformer whose heads have a size of their own.

    h <- h + O [softmax(Q_i K_i^T / sqrt(e)) V_i]_i        i over heads of e numbers, all of norm(h)
    h <- h + W2 GELU(W1 norm(h))

A head has e numbers whatever the width is, so that width and heads are two axes and the scale
1 / sqrt(e) is that of every sub-model.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.layers.arguments import keeps_arguments
from stackwise.layers.picture_size import fill_up, height_and_width, steps
from stackwise.train.sortednet.spaces import Extent, Sizes
from stackwise.train.sortednet.truncation import Place, Units

INITIAL_STD = 0.02


class TransformerBlock(nn.Module):
    """(B, T, width) -> (B, T, width)."""

    def __init__(
        self, width: int, heads: int, head_dim: int, hidden: int, dropout: float
    ) -> None:  # fmt: skip
        super().__init__()
        self.head_dim = head_dim
        self.norm1 = nn.LayerNorm(width)
        self.q, self.k, self.v = (nn.Linear(width, heads * head_dim) for _ in range(3))
        self.out = nn.Linear(heads * head_dim, width)
        self.norm2 = nn.LayerNorm(width)
        self.first = nn.Linear(width, hidden)
        self.second = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        x = self.norm1(h)
        q, k, v = (
            part(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )  # (B, heads, T, e)
        seen = functional.scaled_dot_product_attention(q, k, v)
        h = h + self.dropout(self.out(seen.transpose(1, 2).flatten(2)))
        output: Tensor = h + self.dropout(self.second(functional.gelu(self.first(self.norm2(h)))))
        return output


@keeps_arguments
class SortedViT(nn.Module):
    """(B, channels, H, W) -> (B, n_outputs), read off a class token.

    Args:
        image_size: (height, width), or one side. patch: pixels of a patch's side.
        width: of the stream. depth: blocks. heads: of `head_dim` numbers. hidden: units of an MLP.
    """

    arguments: dict[str, Any]

    def __init__(
        self, *, channels: int, image_size: int | Sequence[int], n_outputs: int, patch: int,
        width: int = 64, depth: int = 4, heads: int = 4, head_dim: int = 16, hidden: int = 256,
        dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        height, across = height_and_width(image_size)
        self.patch = patch
        tokens = steps(height, patch) * steps(across, patch)
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, tokens + 1, width))
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, head_dim, hidden, dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_outputs)
        for parameter in (self.class_token, self.positions):
            nn.init.trunc_normal_(parameter, std=INITIAL_STD)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W), of the size that the positions were made for."""
        patches = self.embed(fill_up(pixels, self.patch)).flatten(2).transpose(1, 2)
        h = torch.cat([self.class_token.expand(len(patches), -1, -1), patches], 1) + self.positions
        for block in self.blocks:
            h = block(h)
        output: Tensor = self.head(self.norm(h[:, 0]))
        return output

    def extents(self) -> dict[str, Extent]:
        """All four axes."""
        return {
            "width": Extent(self.arguments["width"]),
            "depth": Extent(self.arguments["depth"], unit="blocks"),
            "heads": Extent(self.arguments["heads"], unit="heads"),
            "ffn": Extent(self.arguments["hidden"]),
        }

    def places(self) -> dict[str, Place]:
        """What each module's outputs and inputs are units of."""
        width, ffn = Units("width"), Units("ffn")
        heads = Units("heads", self.arguments["head_dim"])
        found = {name: Place(width) for name in ("embed", "class_token", "positions", "norm")}
        for place in range(self.arguments["depth"]):
            found |= {f"blocks.{place}.{name}": Place(heads, width) for name in "qkv"}
            found |= {f"blocks.{place}.{name}": Place(width) for name in ("norm1", "norm2")}
            found |= {
                f"blocks.{place}.out": Place(width, heads),
                f"blocks.{place}.first": Place(ffn, width),
                f"blocks.{place}.second": Place(width, ffn),
            }
        return found | {"head": Place(None, width)}

    @staticmethod
    def resized(sizes: Sizes) -> dict[str, Any]:
        """The arguments of a sub-model that are others."""
        return {
            "width": sizes["width"], "depth": sizes["depth"], "heads": sizes["heads"],
            "hidden": sizes["ffn"],
        }  # fmt: skip
