"""Boxes as (n, 4) tensors x1, y1, x2, y2: how much they overlap, and how boxes are coded.

    IoU(a, b)  = |a and b| / |a or b|
    GIoU(a, b) = IoU - (|hull| - |a or b|) / |hull|          (arXiv 1902.09630)

A box is coded against an anchor of centre (cx, cy) and size (w, h) by

    t = ((x - cx) / w, (y - cy) / h, log(W / w), log(H / h)) / std
"""

import math

import torch
from torch import Tensor

MOST_ENLARGED = math.log(1000 / 16)
"""A decoded side is at most 62.5 times its anchor's, so that no exponent overflows."""
TINY = 1e-7


def areas(boxes: Tensor) -> Tensor:
    """(..., 4) -> (...)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def centres(boxes: Tensor) -> Tensor:
    """(..., 4) -> (..., 2) x and y."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """(n, 4) and (m, 4) -> (n, m)."""
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    inside = (high - low).clamp(min=0).prod(-1)
    return inside / (areas(first)[:, None] + areas(second)[None] - inside).clamp(min=TINY)


def generalised_iou(first: Tensor, second: Tensor) -> Tensor:
    """(n, 4) each, a pair a row -> (n,) from -1 to 1."""
    low, high = torch.maximum(first[:, :2], second[:, :2]), torch.minimum(
        first[:, 2:], second[:, 2:]
    )  # fmt: skip
    inside = (high - low).clamp(min=0).prod(1)
    union = (areas(first) + areas(second) - inside).clamp(min=TINY)
    hull = (
        torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])
    ).clamp(min=0).prod(1).clamp(min=TINY)  # fmt: skip
    return inside / union - (hull - union) / hull


def encoded(boxes: Tensor, anchors: Tensor, std: Tensor) -> Tensor:
    """(n, 4) boxes against (n, 4) anchors -> (n, 4) numbers."""
    sizes, wanted = anchors[:, 2:] - anchors[:, :2], boxes[:, 2:] - boxes[:, :2]
    moved = (centres(boxes) - centres(anchors)) / sizes
    return torch.cat([moved, (wanted.clamp(min=TINY) / sizes).log()], dim=1) / std


def decoded(numbers: Tensor, anchors: Tensor, std: Tensor) -> Tensor:
    """The inverse of `encoded`: (..., n, 4) numbers and (n, 4) anchors -> (..., n, 4) boxes."""
    numbers = numbers * std
    sizes = anchors[:, 2:] - anchors[:, :2]
    middle = centres(anchors) + numbers[..., :2] * sizes
    half = sizes * numbers[..., 2:].clamp(max=MOST_ENLARGED).exp() / 2
    return torch.cat([middle - half, middle + half], dim=-1)
