"""Machines that are fitted afterwards: on the features of a network that is trained already.

The other thing that people call CNN + SVM: the network learns with a softmax head, its features are
frozen, and liblinear finds the machines. The objective is that of the head (with the intercept
regularised too, as liblinear has it), so that its weights are put into the head and nothing else
is kept. Not in the paper.
"""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from stackwise.build.cnn_svm.head import SVMHead, summed_cost
from stackwise.learning.last_layer import called, inputs_of, labels_of

BLOCK = 256


def in_blocks(tensors: Mapping[str, Any]) -> Iterable[dict[str, Tensor]]:
    """Rows in their order, as they are: not varied as training rows are."""
    rows = len(next(iter(tensors.values())))
    for start in range(0, rows, BLOCK):
        yield {name: value[start : start + BLOCK] for name, value in tensors.items()}


@torch.no_grad()
def head_inputs(
    model: nn.Module, head: nn.Module, batches: Iterable[Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the head of a model is given for each row, and the row's class and weight.

    Returns:
        (n, d) float64, (n,) int64, (n,) float64.
    """
    was_training = model.training
    model.eval()
    labels, weights = [], []
    try:
        with inputs_of(head) as seen:
            for batch in batches:
                called(model, batch)
                labels.append(labels_of(batch))
                weights.append(batch.get("weight", torch.ones(len(labels[-1]))))
    finally:
        model.train(was_training)
    features = torch.cat(seen).double().cpu().numpy()
    return features, torch.cat(labels).cpu().numpy(), torch.cat(weights).double().cpu().numpy()


def fit_machines(
    head: SVMHead, features: np.ndarray, target: np.ndarray, weight: np.ndarray, seed: int = 0
) -> bool:
    """Put the machines that liblinear finds into a head. A class without rows keeps its own.

    Returns:
        Whether the solver came to its end.
    """
    machines = LinearSVC(
        C=summed_cost(head.C, head.reduction, features.shape[1], len(features)),
        loss="squared_hinge" if head.norm == "l2" else "hinge",
        dual=head.norm == "l1" or len(features) < features.shape[1],
        max_iter=10_000,
        random_state=seed,
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ConvergenceWarning)
        machines.fit(features, target, sample_weight=weight)
    normals, offsets = machines.coef_, machines.intercept_
    if len(machines.classes_) == 2:  # liblinear solves one problem; the other is its mirror image
        normals, offsets = np.concatenate([-normals, normals]), np.concatenate([-offsets, offsets])
    places = torch.as_tensor(machines.classes_)
    with torch.no_grad():
        head.weight[places] = torch.as_tensor(normals).to(head.weight)
        head.bias[places] = torch.as_tensor(offsets).to(head.bias)
    return not any(issubclass(one.category, ConvergenceWarning) for one in said)
