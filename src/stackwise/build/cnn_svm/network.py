"""The paper's network: convolution, ReLU and pooling a block, one hidden layer, a linear head.

    blocks   [conv k x k "same" -> ReLU -> max-pool 2 x 2, stride 2] for each of `channels`
    then     flatten -> linear -> ReLU -> dropout -> linear head

For 28 x 28 pictures and the paper's sizes (32 and 64 channels of 5 x 5, 1024 hidden units, ten
classes) that is 3,274,634 parameters. The paper's text has pools of stride 1, its code of stride 2;
this is the code's.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from stackwise.build.cnn_svm.head import SVMHead
from stackwise.errors import KnobError
from stackwise.layers.arguments import keeps_arguments

Head = Literal["svm-l2", "svm-l1", "softmax"]


class PooledConv(nn.Module):
    """A convolution, ReLU, and a pool that halves the sides."""

    def __init__(self, before: int, after: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel_size, padding=kernel_size // 2)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) -> (B, after, H // 2, W // 2)."""
        pooled: Tensor = self.pool(self.conv(x).relu())
        return pooled


@keeps_arguments
class ConvSVM(nn.Module):
    """A small convolutional network with a head of machines, or of logits.

    Args:
        channels: of the pictures. image_size: (H, W). n_outputs: classes.
        widths: channels of each block. kernel_size: odd. hidden: units before the head.
        dropout: probability that a hidden unit is dropped, in training.
        head: "svm-l2", "svm-l1" or "softmax". C, reduction, rows: see `SVMHead`.
        init: "torch", or "paper": weights of a normal of deviation 0.1, cut at twice that, and
            biases of 0.1.
    """

    arguments: dict[str, Any]

    def __init__(
        self,
        *,
        channels: int,
        image_size: tuple[int, int],
        n_outputs: int,
        widths: list[int],
        kernel_size: int = 5,
        hidden: int = 1024,
        dropout: float = 0.5,
        head: Head = "svm-l2",
        C: float = 1.0,
        reduction: Literal["mean", "sum"] = "mean",
        rows: int = 1,
        init: Literal["torch", "paper"] = "torch",
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise KnobError(f"kernel_size must be odd to keep a picture's size, got {kernel_size}")
        sides = [side // 2 ** len(widths) for side in image_size]
        if min(sides) < 1:
            raise KnobError(
                f"a picture of {image_size[0]} x {image_size[1]} is too small for {len(widths)} "
                "pools of 2 x 2"
            )
        self.blocks = nn.ModuleList()
        for before, after in zip([channels, *widths], widths, strict=False):
            self.blocks.append(PooledConv(before, after, kernel_size))
        self.hidden = nn.Linear((widths or [channels])[-1] * sides[0] * sides[1], hidden)
        self.dropout = nn.Dropout(dropout)
        self.head: nn.Linear = (
            nn.Linear(hidden, n_outputs) if head == "softmax" else SVMHead(
                hidden, n_outputs, norm="l2" if head == "svm-l2" else "l1", C=C,
                reduction=reduction, rows=rows,
            )
        )  # fmt: skip
        if init == "paper":
            for name, parameter in self.named_parameters():
                if name.endswith("bias"):
                    nn.init.constant_(parameter, 0.1)
                else:
                    nn.init.trunc_normal_(parameter, std=0.1, a=-0.2, b=0.2)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, n_outputs) margins, or logits."""
        x = pixels
        for block in self.blocks:
            x = block(x)
        output: Tensor = self.head(self.dropout(torch.relu(self.hidden(x.flatten(1)))))
        return output
