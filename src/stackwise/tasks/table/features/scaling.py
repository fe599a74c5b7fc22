"""Scale numbers as networks like them: each column to a normal distribution, or standardised.

Quantile scaling follows TabM (arXiv 2410.24210): scikit-learn's `QuantileTransformer` to a normal,
fitted on the training values plus a little noise that parts equal values, with
max(min(n / 30, 1000), 10) quantiles and every row. It differs from the paper where the deviation of
a column is below 1e-3: such a column is first multiplied by a power of two that brings it near 1,
so that small units are lost neither to the noise nor to the absolute tolerance of scikit-learn.
"""

import math
from typing import Any, Literal

import numpy as np
import torch
from sklearn.preprocessing import QuantileTransformer
from torch import Tensor

Scaling = Literal["quantile", "standard"] | None
NOISE = 1e-5
SMALL, LARGE = 1e-3, 1e100
_LARGEST = float(np.finfo(np.float32).max) / 4


NEAR = (1e-30, 1e30)
"""Spreads from the first on and numbers up to the second are told apart in float32."""


class NumberScaler:
    """Column-wise scaling of (n, d) float64 numbers, missing as NaN.

    Args:
        scaling: `quantile` (to a normal), `standard` (mean 0, deviation 1) or None (as they are).
        keep_missing: leave NaN; otherwise it becomes 0, or without scaling the training mean.
    """

    def __init__(self, scaling: Scaling, *, keep_missing: bool = False) -> None:
        self.scaling = scaling
        self.keep_missing = keep_missing
        self.tensors: dict[str, Tensor] = {}
        self._transformer: QuantileTransformer | None = None

    def fit(self, columns: list[np.ndarray], seed: int | None) -> "NumberScaler":
        """Learn the scale of each column, (n,) float64 with NaN where missing."""
        known = [column[~np.isnan(column)] for column in columns]
        if self.scaling == "quantile":
            self._fit_quantiles(columns, seed)
        else:
            columns = self._in_units(known)
            known = columns
            self.tensors |= {
                "mean": torch.tensor([column.mean() for column in known], dtype=torch.float64),
                "scale": torch.tensor([_spread(column) for column in known], dtype=torch.float64),
            }
        return self

    def _in_units(self, known: list[np.ndarray]) -> list[np.ndarray]:
        """Columns that leave the range of float32, or whose squares leave that of float64, in a
        unit of their own; those of ordinary size as they are, and then no unit is kept.
        """
        units = np.array([_far_unit(column) for column in known])
        self.tensors = {}
        if (units == 1.0).all():
            return known
        self.tensors = {"units": torch.from_numpy(units)}
        return [column * unit for column, unit in zip(known, units, strict=True)]

    def _fit_quantiles(self, columns: list[np.ndarray], seed: int | None) -> None:
        generator = np.random.default_rng(seed)
        rows = len(columns[0]) if columns else 0
        count = min(rows, int(max(min(rows / 30, 1000), 10)))
        quantiles = np.empty((count, len(columns)))
        units = np.array([_unit(_spread(column[~np.isnan(column)])) for column in columns])
        references = np.linspace(0, 1, count)
        for place, column in enumerate(columns):
            noisy = _times(column, units[place]) + generator.normal(0, NOISE, rows)
            fitted = QuantileTransformer(
                n_quantiles=count, output_distribution="normal", subsample=None
            ).fit(noisy[:, None])
            quantiles[:, place] = fitted.quantiles_[:, 0]
            references = fitted.references_
        self.tensors = {
            "quantiles": torch.from_numpy(quantiles),
            "references": torch.from_numpy(np.array(references)),
            "units": torch.from_numpy(units),
        }

    def transform(self, numbers: np.ndarray) -> np.ndarray:
        """Scale (n, d) float64 numbers to (n, d) finite float32 (NaN only where kept)."""
        if not numbers.size:
            return numbers.astype(np.float32)
        if self.scaling == "quantile":
            units = self.tensors["units"].numpy()
            scaled = self._quantiles().transform(_times(numbers, units))
        elif self.scaling == "standard":
            numbers = self._counted(numbers)
            scaled = (numbers - self.tensors["mean"].numpy()) / self.tensors["scale"].numpy()
        else:
            scaled = self._counted(numbers)
        if not self.keep_missing:
            rest = self.tensors["mean"].numpy() if self.scaling is None else 0.0
            scaled = np.where(np.isnan(scaled), rest, scaled)
        return np.clip(scaled, -_LARGEST, _LARGEST).astype(np.float32)

    def _counted(self, numbers: np.ndarray) -> np.ndarray:
        """The numbers in the units of their columns."""
        if "units" not in self.tensors:
            return numbers
        return _times(numbers, self.tensors["units"].numpy())

    def _quantiles(self) -> QuantileTransformer:
        if self._transformer is None:
            quantiles = self.tensors["quantiles"].numpy()
            made: Any = QuantileTransformer(
                n_quantiles=len(quantiles), output_distribution="normal", subsample=None
            )
            made.quantiles_ = quantiles
            made.references_ = self.tensors["references"].numpy()
            made.n_quantiles_ = len(quantiles)
            made.n_features_in_ = quantiles.shape[1]
            self._transformer = made
        return self._transformer


def _unit(spread: float) -> float:
    """1, or for a small or a huge spread the power of two that brings it near 1."""
    if SMALL <= spread <= LARGE:
        return 1.0
    return 2.0 ** min(1023, -math.floor(math.log2(spread)))


def _far_unit(known: np.ndarray) -> float:
    """1, or for numbers that float32 cannot hold the power of two that brings them near 1."""
    largest = float(np.abs(known).max()) if len(known) else 0.0
    if not largest or (NEAR[0] <= _spread(known) and largest <= NEAR[1]):
        return 1.0
    return _unit(_spread(known)) if largest <= NEAR[1] else 2.0 ** -math.floor(math.log2(largest))


def _times(numbers: np.ndarray, units: np.ndarray) -> np.ndarray:
    """The product, which stays below 1e300."""
    with np.errstate(over="ignore"):  # a bound beyond the largest number bounds nothing
        most = 1e300 / units
    return np.clip(numbers, -most, most) * units


def _spread(known: np.ndarray) -> float:
    """Population standard deviation; 1 where it is 0 or no number."""
    largest = float(np.abs(known).max()) if len(known) else 0.0
    if not largest:
        return 1.0
    spread = float((known / largest).std()) * largest  # the squares of 1e200 stay finite
    return spread if spread > 0 and math.isfinite(spread) else 1.0
