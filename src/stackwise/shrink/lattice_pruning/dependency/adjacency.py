"""From influences to a graph: which influence is an edge, and how strong it is.

binary:      A[i, j] = 1[ S[i, j] > theta ],        A[i, i] = 1
continuous:  A[i, j] = S[i, j] / max S  where S[i, j] > theta, else 0,      A[i, i] = 1
"""

from typing import Literal

import torch
from torch import Tensor

from stackwise.errors import KnobError, ModelError

Adjacency = Literal["binary", "continuous"]
Normalise = Literal["none", "max", "row"]
HALF = 0.5
"""The quantile where neither it nor a threshold is given."""


def threshold_of(strengths: Tensor, threshold: float | str | None, quantile: float | None) -> float:
    """theta: the threshold itself, the mean, or the quantile of the strengths.

    A quantile of 0 is 0, so that every connection which is not zero is an edge.
    """
    if threshold == "mean":
        return float(strengths.mean())
    if threshold is not None:
        return float(threshold)
    quantile = HALF if quantile is None else quantile
    if quantile == 0:
        return 0.0
    place = quantile * (strengths.numel() - 1)
    low = int(place)
    ranked = strengths.flatten().sort().values
    return float(
        ranked[low] + (place - low) * (ranked[min(low + 1, len(ranked) - 1)] - ranked[low])
    )


def adjacency_of(
    influence: Tensor,
    *,
    kind: Adjacency = "binary",
    quantile: float | None = None,
    threshold: float | Literal["mean"] | None = None,
    normalise: Normalise = "none",
    present: Tensor | None = None,
) -> Tensor:
    """A, from influences.

    Args:
        influence: (n, n), S[i, j] >= 0 is how much unit j acts on unit i.
        quantile: of all influences, in [0, 1); those above it are edges. None is 0.5.
        threshold: in its place, an absolute one or the mean.
        normalise: divide by the largest influence, or each row by its largest, before that.
        present: (n, n) bool, the connections that the network has; None is all of them.

    Returns:
        (n, n) float64 in [0, 1], 0 where there is no edge, the diagonal 1.

    Raises:
        KnobError: knobs that do not go together. ModelError: influences that are no numbers.
    """
    if threshold is not None and quantile is not None:
        raise KnobError("give quantile or threshold, not both")
    if normalise == "max" and (kind == "continuous" or threshold in (None, "mean")):
        raise KnobError(
            "normalise=max changes nothing but an absolute threshold; leave it out, or give one"
        )
    if not torch.isfinite(influence).all():
        raise ModelError("hidden-to-hidden weights contain NaN or infinity")
    strength = influence.detach().double().cpu()
    if normalise == "max":
        strength = strength / strength.max().clamp_min(TINY)
    elif normalise == "row":
        strength = strength / strength.amax(1, keepdim=True).clamp_min(TINY)
    known = torch.ones_like(strength, dtype=torch.bool) if present is None else present.cpu()
    edges = known & (strength > threshold_of(strength[known], threshold, quantile))
    found = (
        edges.double() if kind == "binary" else edges * strength / strength.max().clamp_min(TINY)
    )
    return found.fill_diagonal_(1.0)


TINY = 1e-300
