"""The loss of nested sizes: one pass of the encoder, a classifier's loss at each size, summed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from torch import Tensor, nn
from torch.nn import functional

from stackwise.knobs import Knob
from stackwise.learning.last_layer import called, inputs_of, labels_of, last_linear
from stackwise.learning.outputs import inputs_in, output_loss
from stackwise.train.matryoshka.heads import MatryoshkaHead, tied_logits
from stackwise.train.matryoshka.sizes import checked_weights, weighed_sum

OfOutput = Callable[[Tensor, Mapping[str, Tensor]], Tensor]


def nesting_knobs(
    *,
    dims: Annotated[
        Sequence[int] | None,
        Knob("nested sizes, rising to that of the embedding; none: its halvings down to 8"),
    ] = None,
    weights: Annotated[
        Sequence[float] | None, Knob("how much each size counts in the loss; none: 1 each")
    ] = None,
) -> None:
    """What is nested, in training from scratch and in going on with a trained model."""


def summed(
    logits: Mapping[int, Tensor], weights: Sequence[float], loss: Callable[[Tensor], Tensor]
) -> Tensor:
    """sum_m c_m loss(logits_m), the logits by rising size."""
    sizes = sorted(logits)
    return weighed_sum(weights, (loss(logits[m]) for m in sizes))


class NestedLoss:
    """The nested loss of a `Nested` network: (model, batch) -> scalar.

    Args:
        weights: c_m; None is 1 for each size of its head. of_output: of logits (B, C) and a batch.
    """

    def __init__(self, weights: Sequence[float] | None, of_output: OfOutput) -> None:
        self.weights, self.of_output = weights, of_output

    def __call__(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """sum_m c_m L(logits_m), of one pass of the encoder."""
        logits = model.head.nested(model.embed(**inputs_in(batch)))
        weights = checked_weights(self.weights, model.head.dims)
        return summed(logits, weights, lambda one: self.of_output(one, batch))


class ClassLoss:
    """The nested loss of a classifier: called as (model, batch) -> scalar.

    The heads are those of a `MatryoshkaHead`, wherever it stands in the model; else the model's
    last linear layer serves all sizes, cut (MRL-E).

    Args:
        dims: rising sizes that end at the features of the last layer. weights: c_m.
        layer: dotted name of the last layer.
        of_output: the loss of logits (B, C) and a batch; by default cross-entropy with its labels,
            weighed where the batch has weights.
    """

    def __init__(
        self,
        layer: str,
        dims: Sequence[int],
        weights: Sequence[float],
        of_output: OfOutput | None = None,
    ) -> None:
        self.layer, self.dims, self.weights = layer, tuple(dims), tuple(weights)
        self.of_output = of_output or cross_entropy

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum."""
        layer: Any = model.get_submodule(self.layer)
        with inputs_of(layer) as seen:
            called(model, batch)
        if isinstance(layer, MatryoshkaHead):
            logits = layer.nested(seen[0])
        else:
            logits = tied_logits(seen[0], layer.weight, layer.bias, self.dims)
        return summed(logits, self.weights, lambda one: self.of_output(one, batch))


def last_layer(network: nn.Module) -> tuple[str, Any, int]:
    """The layer that gives a classifier's logits: its name, itself, and the features it reads.

    Raises:
        ModelError: there is none.
    """
    for name, module in network.named_modules():
        if isinstance(module, MatryoshkaHead):
            return name, module, module.dims[-1]
    name, layer = last_linear(network, purpose="whose features could be nested")
    return name, layer, layer.in_features


def cross_entropy(logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """The mean over the rows of a batch, weighed where it has weights."""
    if "weight" in batch:
        return output_loss(logits, batch)
    return functional.cross_entropy(logits, labels_of(batch))
