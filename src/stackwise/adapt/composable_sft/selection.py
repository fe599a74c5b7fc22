"""Which entries of the weights may change: exactly K, ranked over all weights together."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]
Masks = dict[str, Tensor]
Scores = Callable[[Weights], Weights]
"""Changes by name -> how much each entry matters; an entry of 0 is never selected."""

RANK = 0.1
"""Of the singular values of a matrix of changes, the share that makes its low-rank part."""
REST = 0.1
"""Of the entries of what is left of it, the share that is kept: the largest."""


def largest(scores: Weights, count: int, *, but: Weights | None = None) -> Masks:
    """Masks of exactly the `count` entries of the largest score, over all tensors together.

    Of equal scores those come first that stand first, by tensor and by place. An entry of score 0
    is none, so that fewer may be selected.

    Args:
        scores: not negative. but: entries that are selected already.
    """
    names = list(scores)
    flat = torch.cat([scores[name].detach().reshape(-1).float().cpu() for name in names])
    if but is not None:
        flat[torch.cat([but[name].reshape(-1).cpu() for name in names])] = 0
    count = min(count, int(flat.count_nonzero()))
    chosen = torch.zeros(len(flat), dtype=torch.bool)
    if count:
        least = flat.kthvalue(len(flat) - count + 1).values
        chosen = flat > least
        ties = (flat == least).nonzero()[:, 0]
        chosen[ties[: count - int(chosen.sum())]] = True
    return _parted(chosen, scores)


def at_random(weights: Weights, count: int, *, seed: int, but: Weights | None = None) -> Masks:
    """Masks of `count` entries drawn alike from all tensors together."""
    sizes = sum(tensor.numel() for tensor in weights.values())
    order = torch.randperm(sizes, generator=torch.Generator().manual_seed(seed))
    if but is not None:
        taken = torch.cat([but[name].reshape(-1).cpu() for name in weights])
        order = order[~taken[order]]
    chosen = torch.zeros(sizes, dtype=torch.bool)
    chosen[order[:count]] = True
    return _parted(chosen, weights)


def biases(weights: Weights) -> Masks:
    """Masks of every entry of a bias, and of no other."""
    return {
        name: torch.full(tensor.shape, name.endswith("bias"), dtype=torch.bool)
        for name, tensor in weights.items()
    }


def moved(changes: Weights) -> Weights:
    """How far each entry moved."""
    return {name: change.abs() for name, change in changes.items()}


def denoised(changes: Weights) -> Weights:
    """How far each entry moved once each matrix of changes is denoised; see `denoise`."""
    return {
        name: denoise(change).abs() if change.ndim == 2 else change.abs()
        for name, change in changes.items()
    }


def denoise(change: Tensor, rank: float = RANK, rest: float = REST) -> Tensor:
    """(m, n) changes without their small noise: L + S,

        L = the `rank` largest singular values' part,   S = change - L at its largest entries

    Args:
        rank: share of the singular values. rest: share of the entries of change - L.
    """
    matrix = change.float()
    keep = max(1, round(rank * min(matrix.shape)))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    low = (u[:, :keep] * s[:keep]) @ v[:keep]
    left = matrix - low
    most = max(1, round(rest * left.numel()))
    least = left.abs().reshape(-1).kthvalue(left.numel() - most + 1).values
    # an entry that did not move stays out, whatever its row and column did
    return torch.where(matrix == 0, 0.0, low + torch.where(left.abs() >= least, left, 0.0))


def _parted(chosen: Tensor, like: Weights) -> Masks:
    """(N,) bools in the shapes of the tensors."""
    parts = chosen.split([tensor.numel() for tensor in like.values()])
    return {name: part.reshape(like[name].shape) for name, part in zip(like, parts, strict=True)}
