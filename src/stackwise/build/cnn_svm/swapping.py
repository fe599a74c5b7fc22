"""Put machines in the place of the last linear layer of any classifier.

    swapped = swap_head(model, "svm-l2")                 to train in a loop of your own
    swapped = swap_head(model, "svm-l2", data=task)      and trained further, with its machines

What comes out is of the kind that went in: a module, or a fitted learner that has
`decision_function` in place of `predict_proba`. The trunk's weights are those of the model, bit for
bit, and the machines begin with the weights of the layer whose place they take: logits order the
classes as margins do, so that a swap by itself changes no prediction.
"""

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stackwise.build.cnn_svm.head import SVMHead
from stackwise.build.cnn_svm.posthoc import fit_machines, head_inputs, in_blocks
from stackwise.errors import KnobError, ModelError
from stackwise.layers.arguments import put_part
from stackwise.learning.last_layer import called, labels_of, last_linear
from stackwise.learning.outputs import batch_loss, margin_head
from stackwise.learning.trainable import trainable
from stackwise.training.batches import ArrayBatches
from stackwise.training.loop import train
from stackwise.training.rules import Backprop

HEADS: dict[str, Literal["l1", "l2"]] = {"svm-l2": "l2", "svm-l1": "l1"}


def swap_head(
    model: Any,
    head: str = "svm-l2",
    *,
    data: Any = None,
    C: float = 1.0,
    reduction: Literal["mean", "sum"] = "mean",
    fit_head: Literal["joint", "posthoc"] = "joint",
    layer: str | None = None,
    epochs: int = 10,
    lr: float = 1e-3,
    batch_size: int | None = None,
    random_state: int = 0,
) -> Any:
    """A copy of a classifier whose last linear layer is a head of machines.

    Args:
        model: a fitted learner on samples with a class, or a module; it is left as it was.
        head: "svm-l2" (squared hinge) or "svm-l1".
        data: None swaps and trains nothing. A loaded task, or (X, y): of a module tensors.
        C, reduction: see `SVMHead`.
        fit_head: with data, "joint" trains trunk and machines; "posthoc" leaves the trunk as it is
            and lets liblinear find the machines on its features.
        layer: the dotted name of the layer to replace; by default the last `nn.Linear`.
        epochs, lr, batch_size, random_state: of the training.

    Raises:
        ModelError: there is no linear layer, or the model gives no classes.
        KnobError: there is no such head, or C is not above 0.
    """
    if head not in HEADS:
        raise KnobError(f"there is no head {head!r}; there are {', '.join(HEADS)}")
    fitted = getattr(model, "network_", None)
    network = copy.deepcopy(model if fitted is None else fitted)
    if not isinstance(network, nn.Module) or (
        fitted is not None and not hasattr(model, "classes_")
    ):
        raise ModelError(f"swap_head takes a module or a fitted classifier, not {_named(model)}")
    name, old = last_linear(network, layer, purpose="whose place machines could take")
    machines = SVMHead(
        old.in_features, old.out_features, norm=HEADS[head], C=C, reduction=reduction
    ).to(old.weight)
    with torch.no_grad():
        machines.weight.copy_(old.weight)
        machines.bias.copy_(torch.zeros_like(machines.bias) if old.bias is None else old.bias)
    put_part(network, name, machines)
    swapped = network if fitted is None else model.with_network(network)
    if data is None:
        return swapped
    joined = trainable(
        swapped, data, loss=lambda scores, y: machines.objective(scores, y),
        batch_size=batch_size, seed=random_state,
    )  # fmt: skip
    batches, trained = joined.batches, joined.model
    own: Any = margin_head(trained)
    if isinstance(batches, ArrayBatches):
        own.rows = batches.rows
        own.arguments["rows"] = batches.rows
    if fit_head == "posthoc":
        rows = in_blocks(batches.tensors) if isinstance(batches, ArrayBatches) else batches.epoch(0)
        fit_machines(own, *head_inputs(trained, own, rows), seed=random_state)
        return joined.finish(trained.eval())
    rule = Backprop(
        batch_loss if fitted is not None else svm_loss, lr=lr, validate=None, monitor=None
    )
    return joined.finish(train(trained, rule, batches, max_epochs=epochs, seed=random_state).model)


def svm_loss(model: nn.Module, batch: Any) -> Tensor:
    """The machines' loss of a batch for a module that holds a head: a mean over its rows, so that
    batches of any size weigh alike. The batch is a dict with `target`, `labels` or `y`; the module
    returns scores, or has them as `logits`.
    """
    head = margin_head(model)
    if head is None:
        raise ModelError(f"{_named(model)} has no head of machines; swap_head puts one on it")
    output = called(model, batch)
    scores = output if isinstance(output, Tensor) else output.logits
    return head.row_losses(scores, labels_of(batch)).mean() + head.row_penalty()


def _named(model: Any) -> str:
    return f"a {type(model).__name__}"
