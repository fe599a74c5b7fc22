"""A layer of learnable edge functions that weighs families and then drops all but the chosen.

    y_j = b_j + sum_i [ sum_m g_{i,m} phi^m_{ji}(x_i) + w_{ji} silu(x_i) ],   g = softmax(a / T)

The gates are in `gates`, which the convolution shares.

Source: arXiv 2408.08338.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stackwise.build.skan.bases import Wavelet
from stackwise.build.skan.edge_sums import Family, edge_sum, one
from stackwise.build.skan.gates import POOL, Gate, Per, PrunedEdges, SelectableEdges


class SelectableKANLayer(SelectableEdges):
    """(B, n_in) -> (B, n_out), one weighted sum of edge functions an edge.

    Args:
        pool, per, gate: see `SelectableEdges`.
        base: add w silu(x).
        two_valued: how many of the last inputs are 0 or 1 (see `edge_sums`).
    """

    base: nn.Linear | None

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        pool: Sequence[str] = POOL,
        per: Per = "node",
        gate: Gate = "softmax",
        base: bool = True,
        grid: int = 5,
        degree: int = 4,
        wavelet: Wavelet = "mexican-hat",
        two_valued: int = 0,
    ) -> None:
        super().__init__(
            n_in, n_out, pool=pool, per=per, gate=gate, grid=grid, degree=degree, wavelet=wavelet
        )
        self.two_valued = two_valued
        self.base = nn.Linear(n_in, n_out, bias=False) if base else None
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in) -> (B, n_out)."""
        whole = Family(
            self._values, one(list(self.folded().values())), None, self.n_in - self.two_valued
        )
        base = None if self.base is None else self.base.weight
        return edge_sum(x, [whole], self.bias, base, self.two_valued)

    def _values(self, x: Tensor, at: slice) -> Tensor:
        """The bases of all families beside each other, (B, n) -> (B, n, sum of K_m)."""
        return one([self.bases[f](x, at) for f in self.pool])

    def pruned(self) -> "PrunedKANLayer":
        """The same function without the families that no edge chose."""
        return PrunedKANLayer(self)


class PrunedKANLayer(PrunedEdges):
    """(B, n_in) -> (B, n_out); each family is evaluated on the inputs that chose it alone."""

    base: nn.Linear | None

    def __init__(self, of: SelectableKANLayer) -> None:
        super().__init__(of)
        self.two_valued, first = of.two_valued, of.n_in - of.two_valued
        self.numbers = {f: sum(i < first for i in of_it) for f, of_it in self.chosen.items()}
        self.bias = copy.deepcopy(of.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in) -> (B, n_out)."""
        families = [
            Family(self.bases[family], weight, self.places(family), self.numbers[family])
            for family, weight in self.folded().items()
        ]
        base = None if self.base is None else self.base.weight
        return edge_sum(x, families, self.bias, base, self.two_valued)
