"""The opponent of a large sparse network: a small dense one with as many weights."""

from collections.abc import Callable

from torch import nn

from stackwise.errors import ModelError


def small_dense(build: Callable[[int], nn.Module], weights: int, *, widest: int = 65536) -> int:
    """The largest width whose model has at most `weights` parameters.

    Args:
        build: width -> model; its parameters must grow with the width.

    Raises:
        ModelError: even width 1 has more.
    """

    def size(width: int) -> int:
        return sum(parameter.numel() for parameter in build(width).parameters())

    if size(1) > weights:
        raise ModelError(f"even width 1 has {size(1)} parameters, more than {weights}")
    low, high = 1, 2
    while high < widest and size(high) <= weights:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) <= weights else (low, middle)
    return low
