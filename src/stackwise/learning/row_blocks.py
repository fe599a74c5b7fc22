"""Put rows through a network in blocks, so that no row's output depends on which others are given.

A matrix product rounds differently for different numbers of rows: a row that is asked for alone
would get other bits than among thousands. So rows go through in small blocks of one fixed size, the
last one filled up, from one aligned buffer. Small blocks make poor use of the products of narrow
networks; where rows are many they go through in large blocks, four small ones or two, and the rest
in small ones. That both give the same bits is no promise of any library (of the parallel MaskNet
with 40 fields 256 rows do not, 128 do), and is looked at: the first rows of a network go through in
blocks of each size, and the largest that agrees is kept for as long as the network is there. Where
sizes do not agree nearly every output differs, so that these rows tell.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

BLOCK_PRODUCT = 512
"""Rows times members of a small block on a CPU: small enough for one row."""
LARGER = (4, 2)
"""Small blocks in a large one, the first choice first."""
ON_DEVICE = 4096
"""Rows of a block on another device than a CPU, where the time of a call weighs more."""

_agreed: "WeakKeyDictionary[nn.Module, dict[Any, int]]" = WeakKeyDictionary()
"""Rows of the largest block that gives the bits of small ones, by what decides it."""


def block_rows(network: nn.Module, device: torch.device) -> int:
    """Rows of a small block: fixed by the network's members and the kind of device."""
    if device.type != "cpu":
        return ON_DEVICE
    arguments: dict[str, Any] = getattr(network, "arguments", {})
    return max(16, min(64, BLOCK_PRODUCT // int(arguments.get("k", 1) or 1)))


def output_of(network: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """What a network answers: a tensor, or the `logits` of what models of transformers return."""
    found = network(**inputs)
    output: Tensor = found if isinstance(found, Tensor) else found.logits
    return output


def outputs_of(
    network: nn.Module, inputs: Mapping[str, Tensor], rows: int | None = None
) -> Iterator[tuple[Tensor, int]]:
    """The outputs of all rows in their order, a block at a time, as float32 on the CPU, and how
    many of the block are rows; the others fill it up.

    Args:
        inputs: what the network is called with, by name: (n, ...) each. The network answers, and
            learns no gradients, as its caller has set it.
        rows: of a small block; None for what suits a network on rows of numbers.
    """
    device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
    small = rows or block_rows(network, device)
    many = small * max(LARGER) if device.type == "cpu" else small
    buffers: dict[int, dict[str, Tensor]] = {}

    def through(start: int, size: int) -> Tensor:
        if size not in buffers:
            buffers[size] = {
                name: torch.zeros((size, *rows.shape[1:]), dtype=rows.dtype, device=device)
                for name, rows in inputs.items()
            }
        block = buffers[size]
        for name, tensor in inputs.items():
            part = tensor[start : start + size]
            block[name][: len(part)] = part
        return output_of(network, block).float().cpu()

    count = len(next(iter(inputs.values())))
    start = 0
    if count >= many > small:
        found = _agreed.setdefault(network, {})
        kinds = ((tensor.dtype, *tensor.shape[1:]) for tensor in inputs.values())
        case = (small, torch.get_num_threads(), *kinds)
        if case not in found:
            parts = [through(first, small).clone() for first in range(0, many, small)]
            alone = torch.cat(parts)
            sizes = [small * factor for factor in LARGER]
            agree = (size for size in sizes if torch.equal(through(0, size), alone[:size]))
            found[case] = next(agree, small)
            yield from ((part, small) for part in parts)
            start = many
        large = found[case]
        for first in range(start, count - large + 1, large):
            yield through(first, large), large
            start = first + large
    for first in range(start, count, small):
        yield through(first, small), min(small, count - first)
