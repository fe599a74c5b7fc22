"""What a network costs, counted in multiply-adds, and how wide the students of a chain can be.

torch counts matrix products and convolutions of any network. In a selective scan at small widths
these are the smaller part: the scan's own work is added.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from stackwise.errors import ModelError
from stackwise.layers.s6 import S6


@torch.no_grad()
def multiply_adds(network: nn.Module, *inputs: Tensor) -> int:
    """Multiply-adds of one call of any network; give it one example.

    A multiply-add is two FLOPs, so that shares of the teacher's FLOPs are shares of these.
    """
    extra = 0

    def add(layer: S6, given: tuple[Any, ...], _: object) -> None:
        nonlocal extra
        batch, length, _width = given[0].shape
        extra += batch * layer.conv_and_scan_multiply_adds(length)

    layers = [module for module in network.modules() if isinstance(module, S6)]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    training = network.training
    network.eval()
    try:
        with FlopCounterMode(display=False) as counter:
            network(*inputs)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return counter.get_total_flops() // 2 + extra


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
