"""What the embedding of a model is, whatever kind of model: of which numbers a prefix is cut.

module that returns (B, d)                    that
encoder of transformers (BERT, ViT, ...)      its tokens, pooled: their mean where it reads
                                              text, the first where it sees pictures
two towers (CLIP)                             text_embeds and image_embeds, a pair
classifier                                    what its last linear layer reads

embed(model, tokenizer(texts, return_tensors="pt", padding=True), dim=64)        (n, 64)
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stackwise.errors import DataError, ModelError
from stackwise.learning.last_layer import called, inputs_of
from stackwise.learning.outputs import margin_head
from stackwise.train.matryoshka.rule import last_layer
from stackwise.train.matryoshka.sizes import checked_cut, cut

Pooling = Literal["auto", "mean", "first"]
PAIR = ("anchor", "positive")
"""The two sides of a pair in a batch, each what the model is called with."""


def embed(
    model: Any,
    inputs: Any,
    *,
    dim: int | None = None,
    normalise: bool = False,
    pooling: Pooling = "auto",
) -> Tensor:
    """The embeddings that a model gives, cut.

    Args:
        model: an encoder of transformers, a module that returns embeddings, or a classifier: a
            module with a linear last layer, or a fitted learner whose network has one.
        inputs: what the model is called with: a dict of tensors, or one tensor. For a learner what
            it predicts.
        dim: the first so many numbers. normalise: to length 1, behind the cut.
        pooling: of an encoder's tokens.

    Returns:
        (n, dim) float32.

    Raises:
        ModelError: it has no such embedding, or is an encoder of transformers that was not trained
            to be cut, where `dim` is less than all.
        DataError: the embedding has fewer numbers.
    """
    network = getattr(model, "network_", model)
    if not isinstance(network, nn.Module):
        raise ModelError(f"a {type(model).__name__} is neither a module nor a fitted learner")
    if network is not model:
        _, layer, _ = last_layer(network)
        through = _UpTo(network, layer)
        found = model._put_through(through, model._asked(inputs), _as_numbers)
        embedding = torch.as_tensor(found)
    else:
        with looked_at(network):
            embedding = embeddings_of(network, _named(inputs), pooling)[0].float()
    size = checked_cut(dim, embedding.shape[-1])
    if size < embedding.shape[-1] and not _may_be_cut(network):
        raise ModelError(
            f"this {type(network).__name__} was not trained for its first {size} numbers to serve "
            "alone; matryoshka(model, data) trains it, and cut(embed(...), dim) cuts all the same"
        )
    return cut(embedding, size, normalise=normalise)


def embeddings_of(
    model: nn.Module, batch: Mapping[str, Any], pooling: Pooling = "auto"
) -> tuple[Tensor, ...]:
    """The embeddings of a batch, with gradients: (B, d), or two where rows are pairs.

    Args:
        batch: what the model is called with, labels and weights beside it; or `anchor` and
            `positive`, each what the model is called with.

    Raises:
        ModelError: the output holds no embedding.
    """
    if set(PAIR) <= set(batch):
        return tuple(embeddings_of(model, _named(batch[side]), pooling)[0] for side in PAIR)
    return of_output(called(model, batch), batch, model, pooling)


def of_output(
    output: Any, batch: Mapping[str, Any], model: nn.Module, pooling: Pooling
) -> tuple[Tensor, ...]:
    """The embeddings in a model's output."""
    if isinstance(output, Tensor):
        if output.ndim != 2:
            raise ModelError(f"the output is {tuple(output.shape)}; embeddings are (B, d)")
        return (output,)
    text, image = (getattr(output, f"{side}_embeds", None) for side in ("text", "image"))
    if isinstance(text, Tensor) and isinstance(image, Tensor):
        return text, image
    tokens = getattr(output, "last_hidden_state", None)
    if not isinstance(tokens, Tensor):
        raise ModelError(f"a {type(output).__name__} holds no embedding")
    reads_text = "pixel_values" not in str(getattr(model, "main_input_name", ""))
    if pooling == "first" or (pooling == "auto" and not reads_text):
        return (tokens[:, 0],)
    mask = batch.get("attention_mask")
    if mask is None:
        return (tokens.mean(1),)
    share = mask[..., None].to(tokens.dtype)
    return ((tokens * share).sum(1) / share.sum(1).clamp(min=1),)


def is_classifier(model: nn.Module, batch: Mapping[str, Any]) -> bool:
    """Whether a model gives logits of classes, by what it makes of one batch."""
    if set(PAIR) <= set(batch):
        return False
    with looked_at(model):
        output = called(model, batch)
    if hasattr(output, "last_hidden_state") or hasattr(output, "text_embeds"):
        return getattr(output, "logits", None) is not None
    return True


def check_last(network: nn.Module, layer: nn.Module, batch: Mapping[str, Any]) -> None:
    """Hold a network to it that this layer gives its logits, by what it makes of one batch. Of a
    network that gives its loss alone nothing is known.

    Raises:
        ModelError: it does not, or they are margins.
    """
    if margin_head(network) is not None:
        raise ModelError(f"a {type(network).__name__} gives margins; there is no nested hinge")
    given: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _, inputs, output: given.append(output))
    try:
        with looked_at(network):
            output = called(network, batch)
    finally:
        hook.remove()
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if isinstance(logits, Tensor) and not (
        len(given) == 1 and given[0].shape == logits.shape and torch.equal(given[0], logits)
    ):
        raise ModelError(
            f"the last linear layer of a {type(network).__name__} is not what gives its output, "
            "so that no features stand before it that could be nested"
        )


@contextlib.contextmanager
def looked_at(network: nn.Module) -> Iterator[None]:
    """In eval mode, without gradients and without a draw of the random state that others see."""
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        network.train(was_training)


def _may_be_cut(network: nn.Module) -> bool:
    """Whether an encoder says that it was trained so; of others nothing is known."""
    config = getattr(network, "config", None)
    return config is None or bool(getattr(config, "matryoshka_dimensions", None))


def _named(inputs: Any) -> dict[str, Any]:
    if isinstance(inputs, Mapping):
        return dict(inputs)
    if isinstance(inputs, Tensor):
        return {"x": inputs}
    raise DataError(f"inputs are a tensor or a dict of tensors, not a {type(inputs).__name__}")


def _as_numbers(outputs: Tensor) -> Any:
    return outputs[:, 0].numpy()


class _UpTo(nn.Module):
    """A network that gives what one of its layers reads."""

    def __init__(self, network: nn.Module, layer: nn.Module) -> None:
        super().__init__()
        self.network, self.layer = network, layer

    def forward(self, **inputs: Tensor) -> Tensor:
        """The inputs -> (B, d)."""
        with inputs_of(self.layer) as seen:
            self.network(**inputs)
        return seen[0]
