"""Train an architecture from scratch; the weights of the search are dropped."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from stackwise.errors import KnobError, ModelError
from stackwise.learning.trainable import Trainable, trainable
from stackwise.train.bossnas.network import build
from stackwise.train.bossnas.spaces.space import Architecture, Space
from stackwise.training.loop import train
from stackwise.training.rules import Backprop


def space_of_search(model: Any) -> Space:
    """The search space of a fitted learner.

    Raises:
        ModelError: it is no search, or its space was the user's own and was not kept.
    """
    if not hasattr(model, "kept_ratings_"):
        what = type(model).__name__
        if getattr(model, "space_", 0) is None:
            raise ModelError(
                f"the space of this {what} was the user's own and is not kept in files"
            )
        raise ModelError(f"a {what} is no fitted search; fit bossnas first")
    space: Space = model._space()
    return space


def read_architecture(space: Space, words: str | Iterable[Iterable[int]]) -> Architecture:
    """An architecture from text: operations by name or number, blocks parted by bars.

    Raises:
        KnobError: it is none of the space.
    """
    if not isinstance(words, str):
        return space.checked(words)
    made: list[list[int]] = []
    for block, part in enumerate(words.split("|")):
        path = []
        for layer, word in enumerate(part.split()):
            inside = block < len(space.depths) and layer < space.depths[block]
            names = space.operations(block, layer) if inside else []
            if word in names:
                path.append(names.index(word))
            elif word.lstrip("-").isdigit():
                path.append(int(word))
            else:
                raise KnobError(
                    f"architecture {words!r}: {word!r} is no operation of layer {layer + 1} of "
                    f"block {block + 1}; there are {', '.join(names) or 'none there'}"
                )
        made.append(path)
    return space.checked(made)


def fresh(space: Space, architecture: Architecture, n_outputs: int, seed: int) -> nn.Module:
    """Its network with the weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(space, architecture, n_outputs)


def retrained(
    model: Any, joined: Trainable, architecture: Architecture, *, epochs: int, lr: float,
    weight_decay: float, min_steps: int = 0, seed: int = 0, device: str = "auto",
    time_limit: float | None = None, watch: bool = True,
) -> nn.Module:  # fmt: skip
    """The network of an architecture, trained on a learner's own batches with its own loss.

    Args:
        watch: keep the weights of the best validation score; else the last.
    """
    network = fresh(space_of_search(model), architecture, model.n_outputs_, seed)
    watched: dict[str, Any] = {}
    if watch:
        watched = {"validate": joined.validate, "monitor": joined.monitor, "mode": joined.mode}
    rule = Backprop(
        joined.loss, lr=lr, weight_decay=weight_decay, schedule="cosine", warmup=0.05, **watched
    )
    most = max(epochs, math.ceil(min_steps / max(len(joined.batches), 1)))
    done = train(
        network, rule, joined.batches, max_epochs=most, seed=seed, device=device,
        time_limit=time_limit, name="retrain",
    )  # fmt: skip
    return done.model


def joined_with(model: Any, data: Any, batch_size: int | None, seed: int) -> Trainable:
    """A search with data: its own way of reading them.

    Raises:
        ModelError: it is no fitted search with labels.
    """
    space_of_search(model)
    if not hasattr(model, "network_"):
        raise ModelError("this search saw no labels: fit it with y before its best network is made")
    if hasattr(model, "trainable") and batch_size is not None:
        made: Trainable = model.trainable(data, batch_size=batch_size, seed=seed)
        return made
    return trainable(model, data, seed=seed)
