"""Embeddings of numbers: each of F numeric features becomes a vector (arXiv 2203.05556).

    piecewise   z_j = w_j x + c_j + V_j e(x),  V_j = 0 at the start   (version B, 2410.24210)
                z_j = V_j e(x) + c_j                                  (version A)
    periodic    z_j = ReLU(L_j [cos(2 pi c_j x), sin(2 pi c_j x)]);  lite: one L for all features
    linear-relu z_j = ReLU(w_j x + c_j)

e(x) says how far x has come through each bin: 1 for bins below it, a share for its own, 0 above.
Every embedding maps (..., F) to (..., F, d).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from stackwise.errors import DataError
from stackwise.layers.ensemble import uniform_

MOST_QUANTILE_ROWS = 2**24
"""torch.quantile takes at most this many rows; more are thinned evenly."""


def compute_bins(
    x: np.ndarray,
    n_bins: int = 48,
    *,
    target: np.ndarray | None = None,
    classes: bool = False,
    seed: int = 0,
) -> list[list[float]]:
    """The edges of each column's bins.

    Args:
        x: (n, F) training numbers, as the network will see them.
        target: (n,) gives bins whose edges are the thresholds of a decision tree with `n_bins`
            leaves; without it they are quantiles.
        classes: the target holds class codes.

    Returns:
        F increasing lists of at most n_bins + 1 edges; equal quantiles are one edge.

    Raises:
        DataError: `n_bins` is not between 2 and n - 1, or a column holds a single value.
    """
    if not 2 <= n_bins <= len(x) - 1:
        raise DataError(f"n_bins must be between 2 and {len(x) - 1} (rows - 1), got {n_bins}")
    edges = []
    for j in range(x.shape[1]):
        column = torch.as_tensor(np.ascontiguousarray(x[:, j]), dtype=torch.float32)
        found = (
            _quantile_edges(column, n_bins)
            if target is None
            else _tree_edges(column.numpy(), target, n_bins, classes, seed)
        )
        if len(found) < 2:
            raise DataError(f"need at least 2 distinct values for bins in column {j}")
        edges.append(found)
    return edges


def _quantile_edges(column: Tensor, n_bins: int) -> list[float]:
    step = -(-len(column) // MOST_QUANTILE_ROWS)
    at = torch.linspace(0.0, 1.0, n_bins + 1)
    return [float(edge) for edge in torch.quantile(column[::step], at).unique()]


def _tree_edges(
    column: np.ndarray, target: np.ndarray, n_bins: int, classes: bool, seed: int
) -> list[float]:
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    build = DecisionTreeClassifier if classes else DecisionTreeRegressor
    tree = build(max_leaf_nodes=n_bins, random_state=seed).fit(column[:, None], target).tree_
    cuts = tree.threshold[tree.children_left != tree.children_right]
    return [float(e) for e in np.unique(np.array([column.min(), column.max(), *cuts], np.float32))]


class PiecewiseLinearEncoding(nn.Module):
    """e(x): (..., F) -> (..., F, T), T the largest number of bins; unused places are 0.

    The first bin is open below and the last one above, so that values outside the training range
    go on in a straight line. A column with one bin is not clipped at all.
    """

    def __init__(self, bins: Sequence[Sequence[float]]) -> None:
        super().__init__()
        most = max(len(edges) - 1 for edges in bins)
        shape = (len(bins), most)
        scale, shift = torch.zeros(shape), torch.zeros(shape)
        low, high = torch.zeros(shape), torch.ones(shape)
        for j, given in enumerate(bins):
            edges = torch.tensor(list(given), dtype=torch.float32)
            widths = edges.diff()
            if len(edges) < 2 or bool((widths <= 0).any()):
                raise DataError(f"piecewise bins must increase; those of column {j} do not")
            count = len(widths)
            scale[j, :count] = 1 / widths
            shift[j, :count] = -edges[:-1] / widths
            low[j, 0] = -math.inf
            high[j, count - 1] = math.inf
        for name, tensor in (("scale", scale), ("shift", shift), ("low", low), ("high", high)):
            self.register_buffer(name, tensor, persistent=False)

    scale: Tensor
    shift: Tensor
    low: Tensor
    high: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift, x[..., None], self.scale).clamp(self.low, self.high)


def per_feature(x: Tensor, weight: Tensor) -> Tensor:
    """Each feature's own matrix: (..., F, a) and (F, a, b) -> (..., F, b)."""
    flat = x.flatten(0, -3).transpose(0, 1)
    return torch.bmm(flat, weight).transpose(0, 1).unflatten(0, x.shape[:-2])


class LinearEmbedding(nn.Module):
    """z_j = w_j x + c_j: (..., F) -> (..., F, d)."""

    def __init__(self, n_features: int, d: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(uniform_(torch.empty(n_features, d), d))
        self.bias = nn.Parameter(uniform_(torch.empty(n_features, d), d))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias, x[..., None], self.weight)


class LinearReLUEmbedding(LinearEmbedding):
    """z_j = ReLU(w_j x + c_j): (..., F) -> (..., F, d)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


class PiecewiseLinearEmbedding(nn.Module):
    """(..., F) -> (..., F, d); see the module's docstring.

    Args:
        bins: F increasing lists of edges (`compute_bins`).
        version: B begins as a plain linear embedding; A begins at random.
    """

    def __init__(self, bins: Sequence[Sequence[float]], d: int, *, version: str = "B") -> None:
        super().__init__()
        self.encoding = PiecewiseLinearEncoding(bins)
        features, most = self.encoding.scale.shape
        self.weight = nn.Parameter(torch.zeros(features, most, d))
        self.linear = LinearEmbedding(features, d) if version == "B" else None
        self.bias = None
        if version == "A":
            uniform_(self.weight, most)
            self.bias = nn.Parameter(uniform_(torch.empty(features, d), most))

    def forward(self, x: Tensor) -> Tensor:
        z = per_feature(self.encoding(x), self.weight)
        if self.linear is not None:
            return z + self.linear(x)
        return z if self.bias is None else z + self.bias


class PeriodicEmbedding(nn.Module):
    """(..., F) -> (..., F, d); see the module's docstring.

    Args:
        n_frequencies: m. frequency_scale: sigma of the initial c_j, cut at 3 sigma.
        lite: one linear layer for all features.
    """

    def __init__(
        self,
        n_features: int,
        d: int = 24,
        *,
        n_frequencies: int = 48,
        frequency_scale: float = 0.01,
        lite: bool = False,
    ) -> None:
        super().__init__()
        frequencies = torch.empty(n_features, n_frequencies)
        reach = 3 * frequency_scale
        nn.init.trunc_normal_(frequencies, 0.0, frequency_scale, -reach, reach)
        self.frequencies = nn.Parameter(frequencies)
        rows = 1 if lite else n_features
        self.weight = nn.Parameter(
            uniform_(torch.empty(rows, 2 * n_frequencies, d), 2 * n_frequencies)
        )
        self.bias = nn.Parameter(uniform_(torch.empty(rows, d), 2 * n_frequencies))

    def forward(self, x: Tensor) -> Tensor:
        angle = 2 * math.pi * self.frequencies * x[..., None]
        waves = torch.cat([angle.cos(), angle.sin()], dim=-1)
        if len(self.weight) == 1:
            return (waves @ self.weight[0] + self.bias[0]).relu()
        return (per_feature(waves, self.weight) + self.bias).relu()
