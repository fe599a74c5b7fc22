"""A vision transformer whose blocks have N parallel branches while it trains; plain with N = 1.

Pictures are cut into patches, each patch is mapped to a token, a class token and learned positions
are added, the blocks run, and the class token is read off (arXiv 2010.11929, sizes as DeiT's).
The first maps of a branch have DeiT's initial values, the last ones are smaller by sqrt(N), so that
the sum of N branches is as large as one.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.layers.arguments import keeps_arguments
from stackwise.layers.drop_path import drop_rates
from stackwise.layers.picture_size import fill_up, height_and_width, steps
from stackwise.shrink.vit_reparam.branches import BranchedBlock, Mixing, Values

INITIAL_STD = 0.02


@keeps_arguments
class BranchedViT(nn.Module):
    """(B, channels, H, W) normalised pixels -> (B, n_outputs).

    Args:
        channels, image_size, n_outputs: of the pictures ((height, width) or one side), and of the
            answer. A picture is filled up with zeros to whole patches.
        patch: pixels of a patch's side.
        width: D. depth: layers. heads: of each branch's attention. mlp_ratio: hidden units over D.
        branches: N parallel branches a layer; layers times branches is what training costs.
        values: `join` or `wide`, see `BranchedAttention`.
        wide: of how many branches the values stand side by side, after a merge with `wide`.
        mixing, pairwise: how branches are joined, see `Joined`.
        dropout: of embeddings and sublayers. drop_path: of whole sublayers in the last layer.
    """

    arguments: dict[str, Any]

    def __init__(
        self,
        *,
        channels: int = 3,
        image_size: int | Sequence[int] = 224,
        n_outputs: int = 1000,
        patch: int = 16,
        width: int = 192,
        depth: int = 12,
        heads: int = 3,
        mlp_ratio: float = 4.0,
        branches: int = 1,
        values: Values = "join",
        wide: int = 1,
        mixing: Mixing = "mean",
        pairwise: bool = False,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ModelError(f"depth must be at least 1, got {depth}")
        height, across = height_and_width(image_size)
        self.image_size, self.patch = (height, across), patch
        tokens = steps(height, patch) * steps(across, patch)
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, tokens + 1, width))
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            BranchedBlock(
                width, heads, branches, mlp_ratio,
                values=values, wide=wide, mixing=mixing, pairwise=pairwise, dropout=dropout,
                drop_path=rate,
            )
            for rate in drop_rates(drop_path, depth)
        )  # fmt: skip
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, n_outputs)
        self._initialise()

    @staticmethod
    def least_size(*, patch: int = 16, **_: object) -> int:
        """The side below which a picture is not even one patch, for these arguments."""
        return patch

    def _initialise(self) -> None:
        for parameter in (self.class_token, self.positions):
            nn.init.trunc_normal_(parameter, std=INITIAL_STD)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                last = name.endswith((".second", ".out"))
                shrink = self.arguments["branches"] ** 0.5 if last else 1.0
                nn.init.trunc_normal_(module.weight, std=INITIAL_STD / shrink)
                nn.init.zeros_(module.bias)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) float32, of the size that the positions were made for."""
        if tuple(pixels.shape[-2:]) != self.image_size:
            raise ModelError(
                f"the network was made for pictures of {self.image_size[0]} x {self.image_size[1]} "
                f"pixels, got {pixels.shape[-2]} x {pixels.shape[-1]}"
            )
        patches = self.embed(fill_up(pixels, self.patch)).flatten(2).transpose(1, 2)
        token = self.class_token.to(patches.dtype).expand(patches.shape[0], -1, -1)
        h = self.drop(torch.cat([token, patches], 1) + self.positions)
        for block in self.blocks:
            h = block(h)
        output: Tensor = self.head(self.norm(h[:, 0]))
        return output

    def with_blocks(self, blocks: Sequence[BranchedBlock], **changes: Any) -> "BranchedViT":
        """A network of these blocks, with all else copied; `changes` are its other arguments."""
        new = type(self)(**self.arguments | {"depth": len(blocks)} | changes).to(self.head.weight)
        rest = {n: t for n, t in self.state_dict().items() if not n.startswith("blocks.")}
        new.load_state_dict(rest, strict=False)
        new.blocks = nn.ModuleList(blocks)
        return new.train(self.training)
