"""Stage 1: of models that say nearly the same, keep the best one.

Columns are visited from the best to the worst. Column j is dropped where a column k that is
already kept is both alike and near,

    corr(P_j, P_k) >= tau_corr    and    mean_i (P_ij - P_ik)^2 <= tau_mse        (Algorithm 2)

so that the best of each cluster stays. Correlation alone would not do: good models all correlate.
Columns that hardly vary go last. Deleting columns can only raise the least singular value.
"""

from dataclasses import dataclass, field

import numpy as np

ROUNDING = 1e-12
"""How far the correlation of two equal columns may fall short of 1."""


@dataclass(frozen=True)
class Projection:
    """Which columns stay.

    Attributes:
        kept: places of the kept columns, in their own order.
        copies: for each near-copy its twin (the kept column that stands for it), their
            correlation and their mean squared difference.
        flat: places of the columns that vary too little.
    """

    kept: list[int]
    copies: dict[int, tuple[int, float, float]] = field(default_factory=dict)
    flat: list[int] = field(default_factory=list)


def project(
    columns: np.ndarray,
    risks: np.ndarray,
    *,
    tau_corr: float,
    nearness: np.ndarray,
    least_variance: float,
    weight: np.ndarray | None = None,
) -> Projection:
    """Drop near-copies of better columns, then columns that hardly vary.

    Args:
        columns: (n, M) predictions, a column a model.
        risks: (M,) the error of each model; of equal ones the first is visited first.
        tau_corr: least correlation of a near-copy with its twin.
        nearness: (M,) largest mean squared difference to each column, as the twin.
        least_variance: columns below it are dropped; a constant one always is.
        weight: (n,) how much each row counts.
    """
    mean, covariance = moments(columns, weight)
    variance = covariance.diagonal().copy()
    constant = variance <= np.square(mean) * np.finfo(np.float64).eps
    spread = np.sqrt(np.where(constant, 1.0, variance))
    correlation = covariance / np.outer(spread, spread)
    distance = variance[:, None] + variance - 2 * covariance + np.square(mean[:, None] - mean)
    chosen: list[int] = []
    copies: dict[int, tuple[int, float, float]] = {}
    for j in np.argsort(risks, kind="stable"):
        if constant[j]:
            continue
        alike = correlation[j, chosen] >= tau_corr - ROUNDING
        twins = np.flatnonzero(alike & (distance[j, chosen] <= nearness[chosen]))
        if len(twins):
            k = chosen[int(twins[0])]
            apart = max(float(distance[j, k]), 0.0)
            copies[int(j)] = (k, min(float(correlation[j, k]), 1.0), apart)
        else:
            chosen.append(int(j))
    flat = {j for j in chosen if variance[j] < least_variance} | set(np.flatnonzero(constant))
    kept = sorted(set(chosen) - flat)
    return Projection(kept, copies, sorted(int(j) for j in flat))


def moments(columns: np.ndarray, weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean (M,) and population covariance (M, M) of columns (n, M)."""
    share = np.full(len(columns), 1 / len(columns)) if weight is None else weight / weight.sum()
    mean = share @ columns
    centred = columns - mean
    return mean, (centred * share[:, None]).T @ centred


def condition_number(columns: np.ndarray) -> float:
    """Condition number of the correlation matrix of columns (n, M); constant ones are left out.

    It is the square of the condition number of the standardised columns; infinite where two
    columns are equal to rounding.
    """
    varying = columns[:, np.ptp(columns, axis=0) > 0]
    if varying.shape[1] < 2:
        return 1.0
    values = np.linalg.eigvalsh(np.corrcoef(varying.T))
    return float(values[-1] / values[0]) if values[0] > 0 else float("inf")
