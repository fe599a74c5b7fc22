"""Passes over the first batches of data, on a network that is looked at and not trained."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn

from stackwise.layers.evaluating import evaluating
from stackwise.learning.trainable import Trainable, trainable

Run = Callable[[], Tensor]


def passes_of(
    model: Any, data: Any, batches: int, loss: Callable[..., Tensor] | None = None
) -> tuple[Trainable, nn.Module, list[Run]]:
    """The model joined with data, its network, and a pass for each of the first batches."""
    joined = trainable(model, data, loss=loss)
    return joined, joined.model, passes(joined, first_batches(joined, batches))


def first_batches(joined: Trainable, count: int) -> list[Any]:
    """The first batches, on the device of the network."""
    device = next((p.device for p in joined.model.parameters()), torch.device("cpu"))
    first = itertools.islice(joined.batches.epoch(0), count)
    return [send_to_device(batch, device) for batch in first]


def passes(joined: Trainable, batches: list[Any]) -> list[Run]:
    """A pass for each batch: its loss, without a gradient, in evaluation mode."""

    def run(batch: Any) -> Tensor:
        with evaluating(joined.model):
            return joined.loss(joined.model, batch)

    return [partial(run, batch) for batch in batches]
