"""How much memory a fit will take, by arithmetic, before anything of that size is made.

Embeddings are the one part of a network that grows with the data: a table of many columns, each
with as many values as rows, has more of them than a machine holds. Training keeps of each weight

    itself, two moments of AdamW, the best so far, and a copy of the four in a checkpoint's making

which is 8 numbers of 4 bytes (the gradient is gone by then); of each row its codes and numbers;
and of each row of a batch the numbers between the layers, forward and backward. The table itself
is there already and is not counted.
"""

from collections.abc import Callable

import torch
from torch import nn

from stackwise.learning.memory import GIB, refuse_beyond

COPIES = 8


def training_bytes(network: nn.Module, columns: int, rows: int, batch_size: int) -> int:
    """The memory that training takes, an upper estimate.

    Args:
        network: may be on the meta device, where it has no memory of its own.
        columns: codes and numbers of a row.
    """
    weights = sum(parameter.numel() for parameter in network.parameters())
    between = sum(
        parameter.shape[0] for name, parameter in network.named_parameters() if "bias" in name
    )
    return 4 * COPIES * weights + 8 * rows * columns + 4 * 4 * batch_size * between


def check_memory(
    build: Callable[[list[int]], nn.Module],
    cardinalities: list[int],
    rows: int,
    batch_size: int,
    limit: float,
) -> None:
    """Refuse a network whose training would take more than `limit` GiB.

    Args:
        build: makes the network for categories of these many codes.

    Raises:
        DataError: it would; the sentence says which vocabulary fits.
    """

    def needed(most: int) -> int:
        with torch.device("meta"):
            network = build([min(size, most) for size in cardinalities])
        return training_bytes(network, len(cardinalities), rows, batch_size)

    largest = max(cardinalities, default=1)
    asked = needed(largest)
    if asked <= limit * GIB:
        return
    low, high = 0, largest  # the largest vocabulary that fits lies in [low, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if needed(middle) <= limit * GIB else (low, middle)
    fits = (
        f"max_vocab={low - 2} would fit"
        if low > 3
        else "even without categories it does not fit: lower embedding_dim, reduction or width"
    )
    refuse_beyond(
        limit * GIB, asked,
        f"training {sum(cardinalities):,} categories in {len(cardinalities)} columns",
        f"memory_limit={limit:g}", fits,
    )  # fmt: skip
