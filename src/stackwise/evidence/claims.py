"""A claim: a relation that a paper says holds, measured here, with a verdict."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["holds", "holds in part", "does not hold", "not testable at this scale"]
Scale = Literal["smoke", "cpu", "gpu"]
SCALES = ("smoke", "cpu", "gpu")


@dataclass
class Claim:
    """One relation and what was measured of it.

    Attributes:
        id: a short name that stays.
        statement: the relation in one sentence.
        numbers: every number that the verdict rests on.
        explanation: why it does not hold, or what was left out.
    """

    id: str
    statement: str
    verdict: Verdict
    numbers: dict[str, Any] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)
    explanation: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The claim as JSON."""
        return asdict(self)


def judge(differences: Sequence[float], *, margin: float = 0.0) -> Verdict:
    """The verdict on "this is larger than `margin`", from one difference a seed.

    It holds where the mean is above the margin and so is every seed, holds in part where only
    the mean is, and does not hold otherwise.
    """
    values = [float(value) for value in differences]
    if not values or any(math.isnan(value) for value in values):
        return "not testable at this scale"
    if all(value > margin for value in values):
        return "holds"
    return "holds in part" if sum(values) / len(values) > margin else "does not hold"
