"""A classifier of pictures made of Mamba blocks: a picture is read as a sequence of patches.

    tokens = patches W_embed + positions            (B, L, D)
    u <- u + S6(RMSNorm(u))                         n blocks
    logits = mean_t RMSNorm(u)_t W_head + b         (B, n_outputs)

How the paper makes a picture a sequence is not known. Rows of 28 numbers serve MNIST, patches of
4 x 4 do for any picture.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.layers.arguments import keeps_arguments
from stackwise.layers.s6 import S6
from stackwise.training import rules

Pooling = Literal["mean", "last"]


class MambaBlock(nn.Module):
    """u + S6(RMSNorm(u)): (B, L, D) -> (B, L, D)."""

    def __init__(self, mixer: S6) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(mixer.d_model, eps=1e-5)
        self.mixer = mixer

    def forward(self, u: Tensor) -> Tensor:
        mixed: Tensor = self.mixer(self.norm(u))
        return u + mixed


@keeps_arguments
class Mamba(nn.Module):
    """Mamba blocks on the patches of a picture, (B, C, H, W) -> (B, n_outputs).

    Args:
        image_shape: (C, H, W). n_outputs: classes.
        width: D. depth: blocks.
        patch: side of a square patch; None takes each row of the picture as one token.
        d_state, d_conv, expand: N, k and E / D of `S6`.
        bidirectional: each block also reads the tokens from the last to the first.
        pooling: `mean` of all tokens, or the `last` one, which has seen all others.
        previous: features of the student before that are read as one more token, the first; 0
            for none.
    """

    arguments: dict[str, Any]

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        n_outputs: int,
        width: int = 64,
        depth: int = 2,
        patch: int | None = 4,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        bidirectional: bool = False,
        pooling: Pooling = "mean",
        previous: int = 0,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ModelError(f"depth must be at least 1, got {depth}")
        channels, height, width_of_image = image_shape
        self.image_shape = channels, height, width_of_image
        self.patch = (1, width_of_image) if patch is None else (patch, patch)
        for side, cut in zip((height, width_of_image), self.patch, strict=True):
            if side < 1 or cut < 1 or side % cut:
                raise ModelError(f"patch {cut} does not divide {side}")
        self.pooling, self.previous = pooling, previous
        area = self.patch[0] * self.patch[1]
        self.tokens = height * width_of_image // area
        self.embedding = nn.Linear(channels * area, width)
        self.positions = nn.Parameter(torch.empty(self.tokens, width).normal_(std=0.02))
        self.bridge = nn.Linear(previous, width) if previous else None
        self.blocks = nn.ModuleList(
            MambaBlock(S6(width, d_state, d_conv, expand, bidirectional=bidirectional))
            for _ in range(depth)
        )
        with torch.no_grad():  # so that the stream does not grow with depth at the start
            for module in self.modules():
                if isinstance(module, S6):
                    module.out_proj.weight /= depth**0.5
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.head = nn.Linear(width, n_outputs)

    def patches(self, pixels: Tensor) -> Tensor:
        """Cut pictures up, row by row: (B, C, H, W) -> (B, L, C * area of a patch)."""
        if tuple(pixels.shape[1:]) != self.image_shape:
            raise ModelError(
                f"pictures are {tuple(pixels.shape[1:])}, the network was built for "
                f"{self.image_shape}"
            )
        high, wide = self.patch
        cut = pixels.unflatten(3, (-1, wide)).unflatten(2, (-1, high))
        return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def features(self, pixels: Tensor, previous: Tensor | None = None) -> Tensor:
        """What the head reads, (B, width).

        Args:
            pixels: (B, C, H, W) float.
            previous: (B, previous) features of the student before, where it was built for them.
        """
        u = self.embedding(self.patches(pixels)) + self.positions
        if self.bridge is not None:
            if previous is None or previous.shape[-1] != self.previous:
                found = 0 if previous is None else previous.shape[-1]
                raise ModelError(f"the network reads {self.previous} features, got {found}")
            u = torch.cat([self.bridge(previous)[:, None], u], 1)
        for block in self.blocks:
            u = block(u)
        if self.pooling == "last":
            u = u[:, -1:]
        return torch.as_tensor(self.norm(u).mean(1))

    def forward(self, pixels: Tensor, previous: Tensor | None = None) -> Tensor:
        """Logits (B, n_outputs) of pictures (B, C, H, W); see `features`."""
        logits: Tensor = self.head(self.features(pixels, previous))
        return logits

    def multiply_adds(self) -> int:
        """Multiply-adds for one picture: embedding, blocks, head."""
        length = self.tokens + (self.bridge is not None)
        total = self.tokens * self.embedding.weight.numel() + self.head.weight.numel()
        if self.bridge is not None:
            total += self.bridge.weight.numel()
        for block in self.blocks:
            assert isinstance(block, MambaBlock)
            total += block.mixer.multiply_adds(length)
        return total


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay acts on a parameter: on matrices, but not on the rates A_log."""
    return not name.endswith("A_log") and rules.decays(name, parameter)
