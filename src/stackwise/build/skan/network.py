"""The S-KAN network on tables: selectable layers one after the other, nothing in between.

Source: arXiv 2408.08338. Numbers are mapped to [-1, 1] by the range given (that of the training
rows); values outside stay as they are, are carried by the silu branch, and can be counted.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.build.skan.bases import Wavelet
from stackwise.build.skan.gates import POOL, Gate, Per
from stackwise.build.skan.layer import SelectableKANLayer
from stackwise.build.skan.selectable import SelectableNetwork
from stackwise.errors import ModelError
from stackwise.layers.arguments import keeps_arguments
from stackwise.layers.one_hot import one_hot


@keeps_arguments
class SKAN(SelectableNetwork):
    """Layers of selectable edge functions, (B, d) -> (B, n_outputs).

    Args:
        ranges: least and largest value of each number, mapped to -1 and 1; None maps nothing.
        hidden: nodes of each hidden layer.
        choice: families that each gate keeps, as nested lists of bools a layer, for a network that
            is pruned already; None keeps the whole pool.
        selection: how that choice was made, a record that is kept with the network.
    """

    def __init__(
        self,
        *,
        n_numeric: int,
        cardinalities: Sequence[int] = (),
        n_outputs: int = 1,
        ranges: list[list[float]] | None = None,
        hidden: Sequence[int] = (16,),
        pool: Sequence[str] = POOL,
        per: Per = "node",
        gate: Gate = "softmax",
        grid: int = 5,
        degree: int = 4,
        wavelet: Wavelet = "mexican-hat",
        choice: list[Any] | None = None,
        selection: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        width = n_numeric + sum(cardinalities)
        if width == 0:
            raise ModelError("a network needs at least one feature, got none")
        if ranges is not None and len(ranges) != n_numeric:
            raise ModelError(f"ranges are given for {len(ranges)} of {n_numeric} numbers")
        self.n_numeric, self.cardinalities = n_numeric, list(cardinalities)
        self.keep_ranges(ranges, n_numeric)
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(itertools.pairwise([width, *hidden, n_outputs])):
            layer = SelectableKANLayer(
                before, after, pool=pool, per=per, gate=gate, grid=grid, degree=degree,
                wavelet=wavelet, two_valued=0 if i else sum(self.cardinalities),
            )  # fmt: skip
            layers.append(layer)
        self.layers = nn.ModuleList(layers)
        self.made_with(choice)

    def outside(self, numeric: Tensor) -> Tensor:
        """(n_numeric,) rows whose value is outside of the range."""
        return ((numeric < self.low) | (numeric > self.high)).sum(0)

    def features(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """(B, n_numeric) and (B, n_categorical) int64 -> (B, d), what the first layer sees."""
        x = self.scaled(numeric)
        if self.cardinalities:
            x = torch.cat([x, one_hot(categorical, self.cardinalities)], -1)
        return x

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """(B, n_numeric) and (B, n_categorical) int64 -> (B, n_outputs)."""
        x = self.features(numeric, categorical)
        for layer in self.layers:
            x = layer(x)
        return x

    def places(self) -> Sequence[tuple[nn.Module, str]]:
        """Each layer of the list."""
        return [(self.layers, str(place)) for place in range(len(self.layers))]

    def first(self, rows: Mapping[str, Tensor]) -> Tensor:
        """`features` of `numeric` and `categorical`."""
        return self.features(rows["numeric"], rows["categorical"])
