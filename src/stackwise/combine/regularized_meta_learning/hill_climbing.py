"""The baseline of stacking: greedy selection with replacement (Caruana et al. 2004).

From the best model on, add the model (again, perhaps) that lowers the error of the mean most:

    s_t = s_{t-1} + P_{j*},    j* = argmin_j error((s_{t-1} + P_j) / t)

and keep the t with the smallest error. Weights are counts / t: positive, summing to 1.
"""

from dataclasses import dataclass

import numpy as np

from stackwise.errors import DataError


@dataclass(frozen=True)
class HillClimb:
    """The chosen weights.

    Attributes:
        weights: (M,) shares, summing to 1.
        order: the models in the order in which they were added.
        errors: the error after each step: RMSE, or log loss.
    """

    weights: np.ndarray
    order: list[int]
    errors: list[float]

    def predict(self, predictions: np.ndarray) -> np.ndarray:
        """(n,) or (n, C): the weighted mean of (n, M) or (n, M, C) predictions."""
        return np.asarray(np.tensordot(predictions, self.weights, axes=(1, 0)))


def hill_climb(predictions: np.ndarray, target: np.ndarray, rounds: int = 100) -> HillClimb:
    """Choose models greedily on these rows.

    Args:
        predictions: (n, M) numbers, or (n, M, C) probabilities.
        target: (n,) numbers, or int64 codes of classes.
        rounds: models that are added at most.

    Raises:
        DataError: the shapes do not fit.
    """
    if len(predictions) != len(target) or not predictions.shape[1]:
        raise DataError(
            f"hill climbing needs a column a model and a row a target; the predictions have shape "
            f"{predictions.shape} and there are {len(target)} targets"
        )
    numbers = predictions.ndim == 2
    if numbers:
        residuals = predictions - target[:, None]
        gram = residuals.T @ residuals / len(target)  # every mean's error is a sum of its entries
    else:
        chosen = predictions[np.arange(len(target)), :, target]
    order: list[int] = []
    errors: list[float] = []
    counts = np.zeros(predictions.shape[1])
    for step in range(1, rounds + 1):
        if numbers:
            squares = (counts @ gram @ counts + 2 * gram @ counts + gram.diagonal()) / step**2
            scores = np.sqrt(np.maximum(squares, 0))
        else:
            mean = ((chosen @ counts)[:, None] + chosen) / step
            scores = -np.log(np.clip(mean, 1e-12, None)).mean(0)
        order.append(int(scores.argmin()))
        errors.append(float(scores.min()))
        counts[order[-1]] += 1
    length = int(np.argmin(errors)) + 1
    weights = np.bincount(order[:length], minlength=predictions.shape[1]) / length
    return HillClimb(weights, order[:length], errors[:length])
