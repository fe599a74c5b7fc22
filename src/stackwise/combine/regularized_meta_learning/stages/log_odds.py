"""Probabilities as log-odds, where weighted sums make sense.

Two classes: z = log(p / (1 - p)). C classes: centred log-probabilities,

    z_k = log p_k - mean_j log p_j

A weighted sum of logits under a softmax is a valid distribution for any signed weights (a
logarithmic opinion pool); a signed sum of probabilities leaves [0, 1].
"""

from typing import Literal

import numpy as np
from scipy.special import expit, logit, softmax
from sklearn import metrics

Space = Literal["logit", "probability"]
LEAST = 1e-6
"""Probabilities are clipped to [LEAST, 1 - LEAST] before their logarithm is taken."""
LEAST_ALIKE = 1e-3
"""The same where models are compared with each other: the tails would decide otherwise."""


def to_space(probabilities: np.ndarray, space: Space, least: float = LEAST) -> np.ndarray:
    """What the meta-models see of the base models' probabilities.

    Args:
        probabilities: (n, M, C), the classes last.
        space: `logit`, or `probability` for the probabilities themselves.

    Returns:
        (n, K, M), the models last: K = 1 for two classes (the second one's), otherwise C.
    """
    clipped = np.clip(probabilities, least, 1 - least)
    if probabilities.shape[-1] == 2:
        # of both, so that exchanging the classes changes nothing but the sign
        second = clipped[..., 1:] / clipped.sum(-1, keepdims=True)
        values = second if space == "probability" else logit(second)
    elif space == "probability":
        values = clipped
    else:
        logs = np.log(clipped)
        values = logs - logs.mean(-1, keepdims=True)
    return np.ascontiguousarray(np.swapaxes(values, 1, 2))


def to_probabilities(scores: np.ndarray) -> np.ndarray:
    """(n, 1) log-odds or (n, C) logits as (n, C) probabilities, whose rows sum to 1."""
    if scores.shape[1] == 1:
        return np.hstack([expit(-scores), expit(scores)])
    return np.asarray(softmax(scores, axis=1))


def from_decisions(decisions: np.ndarray, scale: float) -> np.ndarray:
    """Decision values (n,) or (n, C) as probabilities (n, C); `scale` is one unit of log-odds."""
    values = np.asarray(decisions, dtype=np.float64) / scale
    return to_probabilities(values[:, None] if values.ndim == 1 else values)


def from_labels(codes: np.ndarray, classes: int) -> np.ndarray:
    """Hard labels (n,) as probabilities (n, C) between 0.01 and 0.99."""
    rest = 0.01 if classes == 2 else 0.01 / (classes - 1)
    found = np.full((len(codes), classes), rest)
    found[np.arange(len(codes)), codes] = 0.99
    return found


def log_loss(
    probabilities: np.ndarray, codes: np.ndarray, weight: np.ndarray | None = None
) -> float:
    """Mean negative log probability of the true class, (n, C) and (n,) int64."""
    share = np.clip(probabilities / probabilities.sum(1, keepdims=True), 1e-12, 1)
    labels = np.arange(share.shape[1])
    return float(metrics.log_loss(codes, share, sample_weight=weight, labels=labels))
