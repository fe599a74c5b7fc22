"""What a transform needs of a model that it trains: batches, a loss and a score.

joined = trainable(model, data)         a learner, a module or a model of transformers, and a
train(joined.model, rule, joined.batches, ...)         task, batches, or tensors with a loss
made = joined.finish(joined.model)      of the kind that was given
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stackwise.errors import DataError, ModelError
from stackwise.protocols import Task, Trains
from stackwise.training.batches import ArrayBatches, Batches, ListBatches


@dataclass
class Trainable:
    """A model with what it takes to train it.

    Attributes:
        loss: (model, batch) -> scalar.
        validate: model -> scores, or None.
        finish: the trained module -> what the caller gets (a learner around it, say).
    """

    model: nn.Module
    batches: Batches
    loss: Callable[[nn.Module, Any], Tensor]
    validate: Callable[[nn.Module], Mapping[str, float]] | None = None
    monitor: str | None = None
    mode: Literal["min", "max"] = "min"
    finish: Callable[[nn.Module], Any] = lambda module: module


def trainable(
    model: Any,
    data: Any,
    *,
    loss: Callable[..., Tensor] | None = None,
    batch_size: int | None = None,
    seed: int = 0,
) -> Trainable:
    """Join a model and data.

    Args:
        model: a fitted learner (its own `trainable` is asked), or an `nn.Module`.
        data: a loaded task on which modules can be trained; for a learner also what its `fit`
            takes as (X, y); for a module a tuple `(x, y)` of tensors, for which `loss(output, y)`
            is taken, or a list of batches. A batch that is a dict is given as `model(**batch)` and
            its `.loss` is used, unless `loss(model, batch)` is given.
        batch_size: rows a step where batches are made here; None leaves it to the task.

    Raises:
        DataError: no data, or data of another form. ModelError: the model cannot be trained.
    """
    if data is None:
        raise DataError("this method trains: give it data")
    if hasattr(model, "trainable"):
        joined: Trainable = model.trainable(data)
        return joined
    if not isinstance(model, nn.Module):
        raise ModelError(f"a {type(model).__name__} is neither a module nor a fitted learner")
    if isinstance(data, Task):
        return of_task(model, data, batch_size=batch_size, seed=seed)
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(d, Tensor) for d in data):
        if loss is None:
            raise DataError("with data (x, y), give loss=, for example loss=F.cross_entropy")
        of_output = loss
        rows = ArrayBatches({"x": data[0], "y": data[1]}, batch_size or 128, seed=seed)
        return Trainable(model, rows, lambda m, batch: of_output(m(batch["x"]), batch["y"]))
    if not isinstance(data, (list, tuple)):
        raise DataError(
            f"a {type(model).__name__} trains on a task, a list of batches or (x, y), not on a "
            f"{type(data).__name__}"
        )
    batches = ListBatches(list(data), seed=seed)
    return Trainable(model, batches, loss or _own_loss)


def of_task(
    model: nn.Module,
    task: Any,
    *,
    reader: Any = None,
    batch_size: int | None = None,
    seed: int = 0,
    finish: Callable[[nn.Module], Any] = lambda module: module,
) -> Trainable:
    """Join a module and a task: its batches, its loss, and that loss on the validation part.

    Args:
        reader: what the task asks for a tokenizer and the like; by default the module.

    Raises:
        DataError: modules cannot be trained on this task.
    """
    if not isinstance(task, Trains):
        name = getattr(task, "name", type(task).__name__)
        raise DataError(f"a module cannot be trained on a {name}; it has no batches and no loss")
    reader = model if reader is None else reader
    given: dict[str, Any] = {"model": reader, "batch_size": batch_size}
    held = task.batches("validation", **given)

    @torch.no_grad()
    def validate(module: nn.Module) -> dict[str, float]:
        losses = [float(task.loss(module, batch)) for batch in held.epoch(0)]
        return {"loss": sum(losses) / len(losses)}

    return Trainable(
        model, task.batches("train", seed=seed, **given), task.loss, validate, "loss", "min", finish
    )


def of_the_same_kind(model: Any, joined: Trainable | None, network: nn.Module) -> Any:
    """What a transform gives back: a network as what `model` is, a learner or a module.

    Args:
        joined: of `model` and data, where there were data.
    """
    if hasattr(model, "with_network"):
        return model.with_network(network)
    network.train(model.training)
    return network if joined is None else joined.finish(network)


def _own_loss(model: nn.Module, batch: Any) -> Tensor:
    if not isinstance(batch, Mapping):
        raise DataError(
            f"a batch is a {type(batch).__name__}; give dicts for model(**batch).loss, or loss="
        )
    output = model(**batch)
    found = getattr(output, "loss", None)
    if found is None:
        raise DataError("the model returned no .loss; put labels into the batches, or give loss=")
    assert isinstance(found, Tensor)
    return found
