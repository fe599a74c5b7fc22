"""Samples with a target, as they come into `fit`: checked, encoded, weighted, and parted."""

import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np

from stackwise.errors import DataError


def taken(samples: Any, rows: np.ndarray) -> Any:
    """These rows of an array, a frame of pandas, or what offers `only`."""
    if isinstance(samples, np.ndarray):
        return samples[rows]
    return samples.iloc[rows] if hasattr(samples, "iloc") else samples.only(rows)


@dataclass
class LabelledRows:
    """Samples that are ready to learn from.

    Attributes:
        samples: as they came in.
        target: (n,) float64 values, or int64 places in `classes_`.
        weight: (n,) float64, how much each counts.
    """

    samples: Any
    target: np.ndarray
    weight: np.ndarray

    def take(self, rows: np.ndarray) -> "LabelledRows":
        """These rows."""
        return LabelledRows(taken(self.samples, rows), self.target[rows], self.weight[rows])


def validation_rows(target: np.ndarray, share: float, by_class: bool, seed: int) -> np.ndarray:
    """Which rows to hold out, (n,) bool: a random `share`, of each class where `by_class`.

    Rounds down within a class, so that every class stays in the training rows; with very few rows
    nothing is held out.
    """
    generator = np.random.default_rng(seed)
    held = np.zeros(len(target), dtype=bool)
    groups = [np.flatnonzero(target == code) for code in np.unique(target)] if by_class else []
    for rows in groups or [np.arange(len(target))]:
        held[generator.permutation(rows)[: int(share * len(rows) + 1e-9)]] = True
    return held


def read_labels(estimator: Any, y: Any, rows: int) -> np.ndarray:
    """(n,) the target that `fit` learns from, read as the estimator reads it.

    Raises:
        DataError: there is none, or not one for each of the rows, or fewer than two.
    """
    if y is None:
        raise DataError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y "
            "is None."
        )
    labels = np.asarray(estimator._read_target(y))
    if len(labels) != rows:
        raise DataError(f"X has {rows} rows and y has {len(labels)}; they must agree")
    if rows < 2:
        raise DataError(f"{rows} sample is too few to learn from; give at least 2 rows")
    return labels


def read_weight(given: Any, rows: int) -> np.ndarray:
    if given is None:
        return np.ones(rows)
    if isinstance(given, numbers.Real):
        given = np.full(rows, float(given))
    weight = np.array(given, dtype=np.float64)
    if weight.shape != (rows,):
        raise DataError(f"sample_weight has shape {weight.shape}; it must be one number a row")
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise DataError("sample_weight must be finite and not negative")
    if not weight.any():
        raise DataError("every sample weight is zero; at least one row must count")
    return weight


def in_reach(weight: np.ndarray) -> np.ndarray:
    """Weights as they are, or brought near 1 by a power of two where their sums or float32 would
    not hold them: only how they compare to each other counts.

    Raises:
        DataError: the smallest would be nothing beside the largest.
    """
    if not len(weight):
        return weight
    largest, least = float(weight.max()), float(weight[weight > 0].min(initial=np.inf))
    if not np.isfinite(largest) or least < largest / FARTHEST:
        raise DataError(
            f"the weights of rows reach from {least:.3g} to {largest:.3g}, so that rows with the "
            f"smallest would not count; give weights within a factor of {FARTHEST:.0e}"
        )
    if 1 / NEAR <= largest <= NEAR:
        return weight
    return weight / 2.0 ** np.floor(np.log2(largest))


NEAR, FARTHEST = 1e15, 1e30
"""Weights up to the first, and down to one over it, are taken as they are."""
