"""What a table network's output means: its loss, its prediction, and how rows are put through.

A network returns (B, C) or, for an ensemble of k members, (B, k, C). Members are trained each on
its own loss and averaged only at prediction:

    loss       = 1 / (B k) sum_b sum_i loss(f_i(x_b), y_b)
    prediction = 1 / k sum_i value_i             or      1 / k sum_i softmax(logits_i)

The loss of the mean prediction would train one large model and lose what an ensemble gains
(arXiv 2410.24210, section 3).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCK_PRODUCT = 512
"""Rows times members of a block on a CPU: small enough for one row, large enough for many."""


def row_losses(output: Tensor, target: Tensor) -> Tensor:
    """The loss of each row, averaged over members.

    Args:
        output: (B, C) or (B, k, C).
        target: (B,) or, where each member has rows of its own, (B, k); integer codes are classes
            and get cross-entropy, standardised numbers get the squared error.

    Returns:
        (B,) losses.
    """
    if output.ndim == 2:
        output = output[:, None]
    members = output.shape[1]
    if target.ndim == 1:
        target = target[:, None].expand(-1, members)
    if target.dtype.is_floating_point:
        losses = (output.squeeze(-1).float() - target) ** 2
    else:
        flat = functional.cross_entropy(
            output.flatten(0, 1).float(), target.flatten(), reduction="none"
        )
        losses = flat.view(-1, members)
    return losses.mean(1)


def batch_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The weighted mean loss of a batch of `numeric`, `categorical`, `target`, `weight`."""
    losses = row_losses(model(batch["numeric"], batch["categorical"]), batch["target"])
    weight = batch["weight"]
    return (losses * (weight if weight.ndim == 1 else weight.mean(1))).mean()


def through_network(
    network: nn.Module,
    numeric: np.ndarray,
    categorical: np.ndarray,
    reduce: Callable[[Tensor], np.ndarray],
) -> np.ndarray:
    """Put rows through a network; no row's output depends on which others are given.

    A matrix product rounds differently for different numbers of rows, so rows go through in blocks
    of one fixed size, the last one filled up, from one aligned buffer.

    Args:
        numeric: (n, n_numeric) float32.
        categorical: (n, n_categorical) int64.
        reduce: what to keep of a block's (rows, k, C) float32 outputs: `member_values` or
            `mean_values`.

    Returns:
        What `reduce` kept, for all n rows.
    """
    device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
    size = block_rows(network, device)
    first = torch.zeros((size, numeric.shape[1]), dtype=torch.float32, device=device)
    second = torch.zeros((size, categorical.shape[1]), dtype=torch.int64, device=device)
    numbers, codes = torch.as_tensor(numeric), torch.as_tensor(categorical)
    found = []
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            for start in range(0, len(numbers), size):
                rows = min(size, len(numbers) - start)
                first[:rows] = numbers[start : start + rows]
                second[:rows] = codes[start : start + rows]
                output = network(first, second).float().cpu()
                found.append(reduce(output if output.ndim == 3 else output[:, None])[:rows])
    finally:
        network.train(was_training)
    return np.concatenate(found)


def block_rows(network: nn.Module, device: torch.device) -> int:
    """Rows of a block: fixed by the network's members and the kind of device."""
    if device.type != "cpu":
        return 4096
    arguments: dict[str, Any] = getattr(network, "arguments", {})
    return max(16, min(64, BLOCK_PRODUCT // int(arguments.get("k", 1) or 1)))


def member_values(outputs: Tensor, *, classes: bool) -> np.ndarray:
    """The value or the probabilities of each member, (n, k, C) float64."""
    values = outputs.double()
    return np.asarray((values.softmax(-1) if classes else values).numpy())


def mean_values(outputs: Tensor, *, classes: bool) -> np.ndarray:
    """The mean value or the mean probabilities, (n, C) float64.

    Added member by member: a library's sum may take another order at the end of a block.
    """
    values = member_values(outputs, classes=classes)
    total = np.zeros_like(values[:, 0])
    for member in range(values.shape[1]):
        total += values[:, member]
    return np.asarray(total / values.shape[1])


def validation_scores(
    mean: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray,
    *,
    classes: bool,
    scale: float = 1.0,
) -> dict[str, float]:
    """How good a mean prediction is: `rmse` in the target's own unit, or `log_loss`, `accuracy`.

    Args:
        mean: (n, 1) standardised values or (n, C) probabilities.
        target: (n,) standardised values or class codes.
        weight: (n,) how much each row counts.
    """
    share = weight / weight.sum()
    if not classes:
        return {"rmse": float(np.sqrt((share * (mean[:, 0] - target) ** 2).sum()) * scale)}
    chosen = mean[np.arange(len(target)), target]
    right = mean.argmax(1) == target
    return {
        "log_loss": float(-(share * np.log(np.clip(chosen, 1e-12, None))).sum()),
        "accuracy": float((share * right).sum()),
    }
