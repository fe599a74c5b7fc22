"""A one-stage detector: a backbone, a neck and a head, each a module of its own.

    maps = backbone(pixels)          a list of (B, C_l, H_l, W_l), fine to coarse
    levels = neck(maps)              (B, width, H_l, W_l) each; or two such lists: for classes, for
                                     boxes
    raw = head(levels)               numbers of every location of every level

Training compares the head's numbers with the boxes of the pictures, prediction decodes them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from stackwise.tasks.detection.heads.decoding import Detected

Levels = list[Tensor]
"""Maps (B, C, H_l, W_l), fine to coarse."""


class Neck(Protocol):
    """What a neck is called with and gives."""

    def __call__(self, maps: Levels) -> "Levels | tuple[Levels, Levels]":
        """The backbone's maps -> `levels` maps of `width` channels; where the branches of the head
        read different ones, a pair of such lists: for classes, for boxes.
        """
        ...


class DetectionNetwork(nn.Module):
    """Backbone, neck and head.

    Args:
        backbone: pixels (B, 3, H, W), normalised -> a list of maps, the first of stride `finest`
            and each next of twice that.
        neck: see `Neck`. head: a `DenseHead`.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = backbone, neck, head

    def forward(self, pixels: Tensor) -> Any:
        """(B, 3, H, W) -> what the head says of every location, for its losses and its decoding."""
        found = self.neck(list(self.backbone(pixels)))
        classes, boxes = found if isinstance(found, tuple) else (found, found)
        return self.head(list(classes), list(boxes))

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`loss` and its parts on a batch, scalars.

        Args:
            batch: `pixels` (B, 3, H, W), `boxes` (B, N, 4) as x1, y1, x2, y2 in pixels, and
                `labels` (B, N) int64, -1 where there is no box.
        """
        head: Any = self.head
        raw = self(batch["pixels"])
        parts = head.losses(raw, _boxes_of(batch), batch["pixels"].shape[-2:])
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    @torch.no_grad()
    def detect(self, pixels: Tensor) -> list[Detected]:
        """The boxes of each picture of (B, 3, H, W), the surest first, in its pixels."""
        head: Any = self.head
        found: list[Detected] = head.decode(self(pixels), pixels.shape[-2:])
        return found


def _boxes_of(batch: Mapping[str, Tensor]) -> Sequence[tuple[Tensor, Tensor]]:
    """(n, 4) boxes and (n,) labels of each picture of a batch, without its padding."""
    return [
        (boxes[labels >= 0], labels[labels >= 0])
        for boxes, labels in zip(batch["boxes"], batch["labels"], strict=True)
    ]
