"""A linear layer on features that are there: by logistic regression, or ridge regression."""

from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from stackwise.learning.labelled_rows import LabelledRows

NEVER = -30.0
"""Logit of a class that no training row has."""


def read_labels_off(
    network: Any, features: np.ndarray, train: LabelledRows, target: np.ndarray, *, classes: bool
) -> None:
    """Fit the network's `head` on (n, d) features of the training rows.

    Args:
        target: (n,) class codes or standardised numbers. classes: which of the two.
    """
    mean, std = features.mean(0), features.std(0)
    std = np.where(std > 1e-8, std, 1.0)
    scaled = (features - mean) / std
    count = network.head.out_features
    weight, bias = np.zeros((count, features.shape[1])), np.zeros(count)
    if not classes:
        fitted: Any = Ridge(alpha=1.0).fit(scaled, target, sample_weight=train.weight)
        weight[0], bias[0] = fitted.coef_, fitted.intercept_
    else:
        known = np.unique(target)
        bias[np.setdiff1d(np.arange(count), known)] = NEVER
        if len(known) > 1:
            fitted = LogisticRegression(max_iter=300).fit(scaled, target, train.weight)
            if len(known) == 2:  # one row of weights, for the second class against the first
                weight[known] = np.stack([-fitted.coef_[0], fitted.coef_[0]]) / 2
                bias[known] = np.array([-1, 1]) * fitted.intercept_[0] / 2
            else:
                weight[known], bias[known] = fitted.coef_, fitted.intercept_
    weight = weight / std
    with torch.no_grad():
        network.head.weight.copy_(torch.as_tensor(weight))
        network.head.bias.copy_(torch.as_tensor(bias - weight @ mean))
