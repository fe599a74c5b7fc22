"""What the students of a chain may cost, in multiply-adds, and how wide they can be."""

from collections.abc import Callable, Sequence

from stackwise.errors import ModelError


def shares(students: int, *, first: float = 0.01, total: float = 0.63) -> list[float]:
    """What each student may cost, as shares of the teacher: growing by one factor each.

    c_k = c_1 q^(k-1), with q such that they sum to `total`. The paper states 1 % for the weakest
    and 63 % for seven together; what lies between is not known.
    """
    if students < 1:
        raise ModelError(f"students must be at least 1, got {students}")
    if not 0 < first <= total:
        raise ModelError(f"shares must be positive and first at most {total}, got first {first}")
    if students == 1:
        return [total]

    def series(q: float) -> list[float]:
        return [first * q**k for k in range(students)]

    low, high = 0.0, total / first
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(series(middle)) < total else (low, middle)
    return series(high)


def width_of_cost(budget: float, cost: Callable[[int], int]) -> int:
    """The width whose cost is nearest to `budget`, where cost grows with width; at least 1."""
    high = 1
    while cost(high) < budget:
        high *= 2
    low = high // 2
    while high - low > 1:  # cost(low) < budget <= cost(high)
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) < budget else (low, middle)
    if low and budget - cost(low) <= cost(high) - budget:
        return low
    return high


def within_budget(costs: Sequence[float], budget: float) -> int:
    """How many students, from the first on, cost at most `budget` together.

    Args:
        costs: of each student, in the unit of `budget`.
    """
    spent, count = 0.0, 0
    for cost in costs:
        spent += cost
        # a sum of shares is not exact in the last bits
        if spent > budget * (1 + 1e-9):
            break
        count += 1
    if not count:
        raise ModelError(f"budget {budget} is below the smallest student ({costs[0]})")
    return count
