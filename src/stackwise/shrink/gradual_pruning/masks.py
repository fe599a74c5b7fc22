"""Which weights stay: the largest by magnitude, exactly as many as asked for."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stackwise.errors import KnobError
from stackwise.layers.masked_weights import kept_count, largest


def magnitude_mask(weight: Tensor, sparsity: float, block: tuple[int, int] = (1, 1)) -> Tensor:
    """The mask of the largest |W|, of the shape of `weight`.

    Args:
        block: height and width of blocks that stay or go together, ranked by their mean |W|; the
            weight must then be a matrix that the blocks fill.

    Returns:
        bool; exactly `kept_count` ones (of blocks, where there are blocks).
    """
    score = weight.detach().abs()
    if block == (1, 1):
        return largest(score, kept_count(score.numel(), sparsity))
    height, width = block
    if score.ndim != 2 or score.shape[0] % height or score.shape[1] % width:
        raise KnobError(
            f"blocks of {height} x {width} do not fill a weight of shape {tuple(weight.shape)}"
        )
    pooled = score.unfold(0, height, height).unfold(1, width, width).mean((-2, -1))
    chosen = largest(pooled, kept_count(pooled.numel(), sparsity))
    return chosen.repeat_interleave(height, 0).repeat_interleave(width, 1)


def pattern_mask(weight: Tensor, kept: int, group: int) -> Tensor:
    """Of each `group` neighbours in the last dimension, the `kept` largest stay."""
    if weight.shape[-1] % group:
        raise KnobError(
            f"{kept}:{group} needs the last dimension divisible by {group}, the weight has "
            f"{weight.shape[-1]}"
        )
    grouped = weight.detach().abs().unflatten(-1, (-1, group))
    order = grouped.sort(dim=-1, descending=True, stable=True).indices
    mask = torch.zeros_like(grouped, dtype=torch.bool)
    return mask.scatter(-1, order[..., :kept], True).flatten(-2)


def global_masks(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Masks from one ranking over all weights together: the total count is exact."""
    flat = torch.cat([weight.detach().abs().flatten() for weight in weights.values()])
    chosen = largest(flat, kept_count(flat.numel(), sparsity))
    sizes = [weight.numel() for weight in weights.values()]
    return {
        name: part.view(weight.shape)
        for (name, weight), part in zip(weights.items(), chosen.split(sizes), strict=True)
    }


@dataclass(frozen=True)
class Choice:
    """How the weights that stay are chosen.

    Attributes:
        everywhere: one ranking over all weights; else each weight for itself.
        block: what stays or goes together.
        pattern: (kept, group), see `pattern_mask`.
    """

    everywhere: bool = False
    block: tuple[int, int] = (1, 1)
    pattern: tuple[int, int] | None = None

    def masks(
        self, weights: Mapping[str, Tensor], wanted: Mapping[str, float]
    ) -> dict[str, Tensor]:
        """The mask of each weight at its wanted sparsity (the same for all where everywhere)."""
        if self.everywhere:
            return global_masks(weights, next(iter(wanted.values())))
        if self.pattern is None:
            return {n: magnitude_mask(w, wanted[n], self.block) for n, w in weights.items()}
        kept, group = self.pattern
        return {
            name: pattern_mask(weight, max(kept, round(group * (1 - wanted[name]))), group)
            for name, weight in weights.items()
        }


def layer_targets(
    names: Sequence[str], sparsity: float, per_layer: Mapping[str, float] | None
) -> dict[str, float]:
    """The final sparsity of each weight; `per_layer` maps regular expressions to sparsities."""
    targets = dict.fromkeys(names, sparsity)
    matched: dict[str, str] = {}
    for pattern, own in (per_layer or {}).items():
        if not 0 <= own < 1:
            raise KnobError(f"the sparsity of {pattern!r} must be in [0, 1), got {own}")
        hits = [name for name in names if re.search(pattern, name)]
        if not hits:
            raise KnobError(f"no weight matched {pattern!r}; there is {', '.join(names[:12])}")
        for name in hits:
            if name in matched:
                raise KnobError(f"{name} matches two patterns, {matched[name]!r} and {pattern!r}")
            matched[name], targets[name] = pattern, own
    return targets
