"""One bad method must not press all others together: what is far off is drawn at the edge."""

from collections.abc import Sequence

BEYOND = " A triangle is a method that is further off than it is drawn; its number is right."
FAR = 6
"""Times the distance from the best to the median score, from which a score is far off."""
ROOM = 0.2
"""Of the span of the other scores, at which one that is far off is drawn behind them."""


def to_scale(scores: Sequence[float], mode: str) -> tuple[list[float], list[bool]]:
    """Where each score is drawn, and whether it is further off than that.

    Args:
        mode: "min" where less is better.
    """
    sign = 1.0 if mode == "min" else -1.0
    costs = [sign * score for score in scores]
    best, median = min(costs), sorted(costs)[len(costs) // 2]
    off = [cost - best > FAR * (median - best) > 0 for cost in costs]
    worst = max(cost for cost, far in zip(costs, off, strict=True) if not far)
    edge = sign * (worst + ROOM * (worst - best))
    return [edge if far else score for score, far in zip(scores, off, strict=True)], off
