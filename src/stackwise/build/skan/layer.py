"""A layer of learnable edge functions that weighs families and then drops all but the chosen.

    y_j = sum_i [ sum_m g_{i,m} phi^m_{ji}(x_i) + w_{ji} silu(x_i) ],   g = softmax(a)

Gates fold into coefficients, c~ = g c, so that a forward is one matrix product.

Source: arXiv 2408.08338. Differs from the paper: its selection rule was not readable; this form is
inferred from summaries, which agree on weighted families at each node and three phases.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stackwise.build.skan.bases import Wavelet, basis
from stackwise.errors import ModelError

POOL = ("bspline", "rbf", "cheby", "wavelet", "relu")
Per = Literal["node", "edge", "output", "layer"]


class SelectableKANLayer(nn.Module):
    """(B, n_in) -> (B, n_out), one weighted sum of edge functions an edge.

    Args:
        pool: families by name.
        per: what has a choice of its own: an input `node`, an `edge`, an `output` or the `layer`.
        gate: `softmax`, or `raw` weights that begin at 1 / M.
        base: add w silu(x).
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        pool: Sequence[str] = POOL,
        per: Per = "node",
        gate: Literal["softmax", "raw"] = "softmax",
        base: bool = True,
        grid: int = 5,
        degree: int = 4,
        wavelet: Wavelet = "mexican-hat",
    ) -> None:
        super().__init__()
        if not pool:
            raise ModelError("the pool is empty; name at least one family")
        if len(set(pool)) < len(pool):
            raise ModelError(f"the pool names a family twice: {', '.join(pool)}")
        self.pool, self.per, self.gate, count = tuple(pool), per, gate, len(pool)
        bases = {f: basis(f, n_in, grid=grid, degree=degree, wavelet=wavelet) for f in pool}
        self.bases = nn.ModuleDict(bases)
        # gates of 1 / M would leave 1 / M of one family's variance
        self.coefficients = nn.ParameterDict(
            {f: torch.randn(n_out, n_in, b.size) * 0.1 * math.sqrt(count / n_in)
             for f, b in bases.items()}
        )  # fmt: skip
        shape = {"node": (n_in,), "edge": (n_out, n_in), "output": (n_out,), "layer": ()}[per]
        start = 0.0 if gate == "softmax" else 1 / count
        self.gates = nn.Parameter(torch.full((*shape, count), start))
        self.base = nn.Linear(n_in, n_out, bias=False) if base else None
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.kept: Tensor | None
        self.register_buffer("kept", None)
        self.temperature, self.straight_through = 1.0, 0

    def weights(self) -> Tensor:
        """The gates as they act, in the shape of `gates`; the families that are out have 0."""
        soft: Tensor = self.gates
        if self.gate == "softmax":
            soft = (self.gates / self.temperature).softmax(-1)
        if self.straight_through:
            hard = self._masked(top(soft, self.straight_through))
            # zero first, so that the forward is exactly the hard choice
            return hard.detach() + (soft - soft.detach())
        return soft if self.kept is None else self._masked(self.kept)

    def _masked(self, kept: Tensor) -> Tensor:
        if self.gate == "raw":
            return self.gates * kept
        return (self.gates / self.temperature).masked_fill(~kept, -math.inf).softmax(-1)

    def select(self, scores: Tensor, keep: int = 1) -> None:
        """Keep the `keep` families of the highest score, which has the shape of `gates`."""
        if not 1 <= keep <= len(self.pool):
            raise ModelError(f"keep ({keep}) exceeds the pool ({len(self.pool)})")
        if scores.shape != self.gates.shape:
            raise ModelError(
                f"scores have shape {tuple(scores.shape)}, gates have {tuple(self.gates.shape)}"
            )
        self.kept, self.straight_through = top(scores, keep), 0

    def folded(self) -> dict[str, Tensor]:
        """c~ = g c of each family, (n_out, n_in, K_m)."""
        weights = self.weights()
        if self.per == "output":
            weights = weights[:, None]
        return {f: weights[..., m, None] * self.coefficients[f] for m, f in enumerate(self.pool)}

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in) -> (B, n_out)."""
        values = torch.cat([self.bases[f](x) for f in self.pool], -1).flatten(1)
        y = F.linear(values, torch.cat(list(self.folded().values()), -1).flatten(1), self.bias)
        return y if self.base is None else y + self.base(F.silu(x))

    def choice(self) -> Tensor:
        """(the shape of `gates`) bool: the families that act."""
        return torch.ones_like(self.gates, dtype=torch.bool) if self.kept is None else self.kept

    @torch.no_grad()
    def pruned(self) -> "PrunedKANLayer":
        """The same function without the families that no edge chose."""
        n_out, n_in, _ = next(iter(self.coefficients.values())).shape
        choice = self.choice()
        by_edge = (choice[:, None] if self.per == "output" else choice).expand(n_out, n_in, -1)
        chosen = {
            f: by_edge[..., m].any(0).nonzero().flatten().tolist() for m, f in enumerate(self.pool)
        }
        return PrunedKANLayer(self, {f: rows for f, rows in chosen.items() if rows}, by_edge)


class PrunedKANLayer(nn.Module):
    """(B, n_in) -> (B, n_out); each family is evaluated on the inputs that chose it alone."""

    def __init__(self, of: SelectableKANLayer, chosen: dict[str, list[int]], by_edge: Tensor):
        super().__init__()
        self.chosen = chosen
        folded = of.folded()
        self.bases, self.coefficients = nn.ModuleDict(), nn.ParameterDict()
        for family, inputs in chosen.items():
            kept: Any = copy.deepcopy(of.bases[family])
            kept.take(inputs)
            self.bases[family] = kept
            self.coefficients[family] = folded[family][:, inputs].clone()
            alive = by_edge[:, inputs, of.pool.index(family)].clone()
            self.register_buffer(f"alive_{family}", None if alive.all() else alive)
        self.base = copy.deepcopy(of.base)
        self.bias = nn.Parameter(of.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in) -> (B, n_out)."""
        values, weights = [], []
        for family, inputs in self.chosen.items():
            values.append(self.bases[family](x[:, inputs]).flatten(1))
            alive = getattr(self, f"alive_{family}")
            weight = self.coefficients[family]
            # edges that chose another family must not come back in training
            weights.append((weight if alive is None else weight * alive[..., None]).flatten(1))
        y = F.linear(torch.cat(values, 1), torch.cat(weights, 1), self.bias)
        return y if self.base is None else y + self.base(F.silu(x))


def top(scores: Tensor, keep: int) -> Tensor:
    """Bool mask of the `keep` highest scores along the last dimension."""
    best = scores.topk(keep, -1).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, best, True)
