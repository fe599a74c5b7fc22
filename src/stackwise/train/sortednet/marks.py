"""Which sub-models a model of transformers was trained with: an entry of its config,
`sorted_space`, that is saved and loaded with it.
"""

from typing import Any, cast

from torch import nn

from stackwise.train.sortednet.reading import Axes, Spread
from stackwise.train.sortednet.spaces import Choice, SortedSpace

ENTRY = "sorted_space"


def mark_sorted(model: Any, space: SortedSpace, spread: Spread) -> None:
    """Note the sub-models in the model's config; a single one is no longer worth a note."""
    if len(space) < 2:
        model.config.__dict__.pop(ENTRY, None)
        return
    kept = {
        "sizes": [dict(one) for one in space.sizes],
        "probabilities": list(space.probabilities),
        "spread": spread,
    }
    setattr(model.config, ENTRY, kept)


def marked_space(model: Any) -> SortedSpace | None:
    """The sub-models that a model says it was trained with; None where it says none, or was made
    another model since.
    """
    kept: Any = getattr(getattr(model, "config", None), ENTRY, None)
    try:
        sizes = tuple({str(a): int(size) for a, size in one.items()} for one in kept["sizes"])
        space = SortedSpace(sizes, tuple(float(p) for p in kept["probabilities"]))
        return space if len(space) and space.full == Axes.of(model).full else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def sorted_space(model: Any) -> SortedSpace:
    """The sub-models that a model was trained with; of one that says none, its default depths."""
    marked = marked_space(model)
    return Choice().space(Axes.of(model).extents) if marked is None else marked


def marked_spread(model: nn.Module) -> Spread:
    """Which blocks its shallower sub-models have."""
    kept = getattr(getattr(model, "config", None), ENTRY, None)
    return cast(Spread, kept["spread"]) if isinstance(kept, dict) and "spread" in kept else "first"
