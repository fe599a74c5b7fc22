"""The transform: a trained encoder goes on until its first numbers serve by themselves."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, cast

from torch import Tensor, nn
from torch.nn import functional

from stackwise.catalog import Knob, transform
from stackwise.errors import DataError, KnobError, ModelError
from stackwise.learning.last_layer import labels_of
from stackwise.learning.outputs import output_loss_of
from stackwise.learning.trainable import Trainable, of_the_same_kind, trainable
from stackwise.train.matryoshka.contrastive import TEMPERATURE, contrastive_loss
from stackwise.train.matryoshka.embedding import (
    Pooling,
    check_last,
    embeddings_of,
    is_classifier,
    looked_at,
)
from stackwise.train.matryoshka.freezing import freeze
from stackwise.train.matryoshka.heads import MatryoshkaHead
from stackwise.train.matryoshka.learner import CARD
from stackwise.train.matryoshka.loss import MatryoshkaLoss
from stackwise.train.matryoshka.rule import ClassLoss, NestedLoss, last_layer, nesting_knobs
from stackwise.train.matryoshka.sizes import checked_sizes, checked_weights
from stackwise.training.knobs import placed, seeded, tuned
from stackwise.training.loop import train
from stackwise.training.rules import Backprop


@transform(
    "matryoshka",
    takes=("learner", "encoder", "vision", "module"),
    budget="epochs",
    shared=(nesting_knobs, tuned, placed, seeded),
    **CARD,
)
def matryoshka(
    model: Any,
    data: Any = None,
    *,
    dims: Sequence[int] | None,
    weights: Sequence[float] | None,
    blocks: Annotated[
        int | None, Knob("last blocks that learn, with what follows them; none: everything", ge=0)
    ] = None,
    temperature: Annotated[
        float | None, Knob("of the contrastive loss of pairs or labels; none is 0.07", gt=0)
    ] = None,
    pooling: Annotated[
        Pooling, Knob("an encoder's embedding: the mean or the first of its tokens; auto: by kind")
    ] = "auto",
    loss: Callable[..., Tensor] | None = None,
    epochs: int,
    lr: float,
    weight_decay: float,
    batch_size: int | None,
    device: str,
    time_limit: float | None,
    random_state: int,
) -> Any:
    """Go on training a model until the first numbers of its embedding serve by themselves.

    What is learned follows from the model and the data:

        a classifier                      cross-entropy at every size; its last layer is cut (MRL-E)
        an encoder, and batches of        pairs find each other; one of `anchor` and `positive`,
        pairs                             or two towers that give text_embeds and image_embeds
        an encoder, and labels            rows of one label find each other
        an encoder, and a task of labels  it is given a head of the classes, and is a classifier
        any module that gives (B, d)      `loss(embedding, y)`, of batches `loss(embedding, batch)`

    Args:
        model: a fitted classifier of this library, a model of transformers, or a module. It is not
            changed.
        data: what `stackwise.learning.trainable` takes: a loaded task, for a learner (X, y), for a
            module (x, y) or batches.
        loss: a loss of embeddings, in place of those above.
        epochs: passes over the data; 0 trains nothing.

    Returns:
        a new object of the same kind, of the same sizes. The config of a model of transformers says
        `matryoshka_dimensions`.

    Raises:
        ModelError: the model has no embedding. DataError: the data does not suit it.
        KnobError: sizes or weights do not fit the embedding.
    """
    bare = isinstance(model, nn.Module)
    if not bare and not hasattr(model, "classes_"):
        raise ModelError(f"a {type(model).__name__} predicts no classes; give a classifier")
    if not bare and loss is not None:
        raise DataError(
            f"loss= is for modules that give embeddings; a {type(model).__name__} has classes"
        )
    if bare and hasattr(data, "headed") and loss is None:
        model = data.headed(model)  # where it has a head of the classes, itself
    joined = trainable(
        copy.deepcopy(model) if bare else model, data, batch_size=batch_size, seed=random_state,
        loss=loss or functional.cross_entropy if isinstance(data, tuple) else None,
    )  # fmt: skip
    sizes, nested = _nested_loss(
        joined, model, dims, weights, loss, temperature=temperature, pooling=pooling
    )
    network = joined.model
    frozen = freeze(network, blocks)
    rule = Backprop(
        nested, lr=lr, weight_decay=weight_decay, validate=joined.validate,
        monitor=joined.monitor, mode=joined.mode,
    )  # fmt: skip
    if epochs:
        network = train(
            network, rule, joined.batches, max_epochs=epochs, seed=random_state, device=device,
            time_limit=time_limit, name="nest",
        ).model  # fmt: skip
        _say(network, sizes)
    for parameter in frozen:
        parameter.requires_grad_(True)
    return of_the_same_kind(model, joined, network.eval())


def _nested_loss(
    joined: Trainable, model: Any, dims: Sequence[int] | None, weights: Sequence[float] | None,
    loss: Callable[..., Tensor] | None, *, temperature: float | None, pooling: Pooling,
) -> tuple[tuple[int, ...], Any]:  # fmt: skip
    """The nested sizes, and the loss (model, batch) -> scalar."""
    network = joined.model
    first = next(iter(joined.batches.epoch(0)))
    if not isinstance(first, Mapping):
        raise DataError(f"a batch is a {type(first).__name__}; give dicts of what the model takes")
    if loss is None and (not isinstance(model, nn.Module) or is_classifier(network, first)):
        if not {"target", "labels", "y"} & set(first):
            raise DataError(
                f"a {type(network).__name__} learns classes, and its batches have no labels; give "
                "loss= for a loss of embeddings"
            )
        name, layer, size = last_layer(network)
        check_last(network, layer, first)
        if temperature is not None or pooling != "auto":
            raise KnobError(
                f"temperature and pooling are of encoders; a {type(network).__name__} is a "
                "classifier: leave them out"
            )
        own = isinstance(layer, MatryoshkaHead)
        if own and dims is not None and tuple(dims) != layer.dims:
            raise KnobError(f"the model has heads for {layer.dims}; leave dims out, or give these")
        sizes = layer.dims if own else checked_sizes(dims, size)
        if isinstance(joined.loss, NestedLoss):  # a learner of this method says its own
            nested = NestedLoss(checked_weights(weights, sizes), joined.loss.of_output)
            return sizes, nested if weights is not None else joined.loss
        of_output = None if isinstance(model, nn.Module) else output_loss_of(joined.loss)
        return sizes, ClassLoss(name, sizes, checked_weights(weights, sizes), of_output)
    if loss is not None and temperature is not None:
        raise KnobError(
            "temperature is of the contrastive loss, and loss= is another: leave it out"
        )
    with looked_at(network):
        size = embeddings_of(network, first, pooling)[0].shape[-1]
    sizes = checked_sizes(dims, size)
    return sizes, EmbeddingLoss(
        sizes, checked_weights(weights, sizes), loss, temperature=temperature, pooling=pooling
    )


class EmbeddingLoss:
    """The nested loss of an encoder's embeddings: (model, batch) -> scalar.

    Args:
        loss: (embedding, y) -> scalar, or where batches have no `y` (embedding, batch); of pairs
            (embedding, embedding). A `y` that is an embedding of as many numbers, of a teacher or
            a partner, is cut as well. None is contrastive.
    """

    def __init__(
        self, dims: Sequence[int], weights: Sequence[float], loss: Callable[..., Tensor] | None,
        *, temperature: float | None = None, pooling: Pooling = "auto",
    ) -> None:  # fmt: skip
        self.dims, self.weights, self.loss = tuple(dims), tuple(weights), loss
        self.temperature = TEMPERATURE if temperature is None else temperature
        self.pooling: Pooling = pooling

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """The weighted sum over the sizes."""
        found = embeddings_of(model, batch, self.pooling)
        if self.loss is not None:
            beside = () if len(found) == 2 else (batch.get("y", batch),)
            return self._sum(self.loss, *found, *beside)
        if len(found) == 2:
            return self._sum(partial(contrastive_loss, temperature=self.temperature), *found)
        if not {"target", "labels", "y"} & set(batch):
            raise DataError(
                "batches hold neither pairs (anchor and positive) nor labels; give loss= for "
                "another loss of embeddings"
            )
        by_label = partial(contrastive_loss, labels=labels_of(batch), temperature=self.temperature)
        return self._sum(by_label, *found)

    def _sum(self, loss: Callable[..., Tensor], *given: Any) -> Tensor:
        return cast(Tensor, MatryoshkaLoss(loss, self.dims, weights=self.weights)(*given))


def _say(network: Any, sizes: Sequence[int]) -> None:
    """Let the config of a model of transformers say which sizes serve."""
    if hasattr(network, "save_pretrained"):
        network.config.matryoshka_dimensions = list(sizes)
