"""What a transform needs of a model that it trains: batches, a loss and a score."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from stackwise.errors import DataError, ModelError
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
    batch_size: int = 128,
    seed: int = 0,
) -> Trainable:
    """Join a model and data.

    Args:
        model: a fitted learner (its own `trainable` is asked), or an `nn.Module`.
        data: for a module, a tuple `(x, y)` of tensors, for which `loss(output, y)` is taken, or
            a list of batches. A batch that is a dict is given as `model(**batch)` and its
            `.loss` is used, unless `loss(model, batch)` is given.

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
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(d, Tensor) for d in data):
        if loss is None:
            raise DataError("with data (x, y), give loss=, for example loss=F.cross_entropy")
        of_output = loss
        rows = ArrayBatches({"x": data[0], "y": data[1]}, batch_size, seed=seed)
        return Trainable(model, rows, lambda m, batch: of_output(m(batch["x"]), batch["y"]))
    batches = ListBatches(list(data), seed=seed)
    return Trainable(model, batches, loss or _own_loss)


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
