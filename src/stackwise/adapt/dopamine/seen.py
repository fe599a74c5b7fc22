"""A plain pass: which layers were called, what each took and gave, and what came out."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from stackwise.adapt.dopamine.around import CONVOLUTIONS, NORMS, turned

CHANNELS_FIRST = (*CONVOLUTIONS, *NORMS, nn.GroupNorm)
Run = Callable[[], Tensor]
"""A pass over the batch, the same each time: its loss or its output."""


@dataclass
class Call:
    """One call of a layer in the plain pass: what it took and gave."""

    name: str
    layer: nn.Module
    taken: Tensor  # itself, to be known by
    made: Tensor
    given: Tensor  # its numbers, which a later step may write over


@dataclass
class Seen:
    """The calls of the layers in the plain pass, in their order, and its result."""

    calls: list[Call] = field(default_factory=list)
    before: dict[str, Tensor] = field(default_factory=dict)  # z, by site
    result: Tensor | None = None


def leaves(network: nn.Module) -> dict[str, nn.Module]:
    return {
        name: module for name, module in network.named_modules()
        if isinstance(module, (nn.Linear, *CHANNELS_FIRST)) or turned(module)
    }  # fmt: skip
