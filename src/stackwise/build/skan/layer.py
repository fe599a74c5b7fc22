"""A layer of learnable edge functions that weighs families and then drops all but the chosen.

    y_j = b_j + sum_i [ sum_m g_{i,m} phi^m_{ji}(x_i) + w_{ji} silu(x_i) ],   g = softmax(a / T)

Gates fold into coefficients, c~ = g c, so that a forward is one matrix product. How gates act is
the layer's `mode`: `soft` mixes, `straight` takes the largest alone and learns as if it mixed,
`gumbel` draws one a step in training and takes the largest otherwise.

Source: arXiv 2408.08338. Differs from the paper: its selection rule was not readable; this form is
inferred from summaries, which agree on weighted families at each node and three phases.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stackwise.build.skan.bases import Wavelet, basis
from stackwise.build.skan.edge_sums import Family, edge_sum, one
from stackwise.errors import ModelError

POOL = ("bspline", "rbf", "cheby", "wavelet", "relu")
Per = Literal["node", "edge", "output", "layer"]
Gate = Literal["softmax", "raw"]
Mode = Literal["soft", "straight", "gumbel"]


class SelectableKANLayer(nn.Module):
    """(B, n_in) -> (B, n_out), one weighted sum of edge functions an edge.

    Args:
        pool: families by name.
        per: what has a choice of its own: an input `node`, an `edge`, an `output` or the `layer`.
        gate: `softmax`, or `raw` weights that begin at 1 / M.
        base: add w silu(x).
        two_valued: how many of the last inputs are 0 or 1 (see `edge_sums`).
    """

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
        super().__init__()
        self.two_valued = two_valued
        if not pool:
            raise ModelError("the pool is empty; name at least one family")
        if len(set(pool)) < len(pool):
            raise ModelError(f"the pool names a family twice: {', '.join(pool)}")
        self.n_in, self.n_out = n_in, n_out
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
        self.mode: Mode = "soft"
        self.keep, self.temperature = 1, 1.0
        self.given: Tensor | None = None
        """Weights that act in place of the gates, while a score is taken."""

    def soft(self) -> Tensor:
        """The gates as weights of the mixture, in the shape of `gates`."""
        if self.gate == "raw":
            return self.gates
        return (self.gates / self.temperature).softmax(-1)

    def weights(self) -> Tensor:
        """The gates as they act, in the shape of `gates`; the families that are out have 0."""
        if self.given is not None:
            return self.given
        if self.kept is not None:
            return self._masked(self.kept)
        soft = self.soft()
        if self.mode == "soft":
            return soft
        hard = top(soft, self.keep)
        if self.mode == "gumbel" and self.training:
            noise = -torch.empty_like(self.gates).exponential_().log()
            soft = ((self.gates + noise) / self.temperature).softmax(-1)
            hard = top(soft, self.keep)
        # zero first, so that the forward is exactly the hard choice
        return self._masked(hard).detach() + (soft - soft.detach())

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
        self.kept, self.mode, self.temperature = top(scores, keep), "soft", 1.0

    def entropy(self) -> Tensor:
        """Mean entropy of the gates in nats, a scalar: log M where all are equal."""
        p = self.gates.softmax(-1)
        return -(p * p.clamp_min(1e-12).log()).sum(-1).mean()

    def folded(self) -> dict[str, Tensor]:
        """c~ = g c of each family, (n_out, n_in, K_m)."""
        weights = self.weights()
        if self.per == "output":
            weights = weights[:, None]
        return {f: weights[..., m, None] * self.coefficients[f] for m, f in enumerate(self.pool)}

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

    def choice(self) -> Tensor:
        """(the shape of `gates`) bool: the families that act."""
        return torch.ones_like(self.gates, dtype=torch.bool) if self.kept is None else self.kept

    @torch.no_grad()
    def pruned(self) -> "PrunedKANLayer":
        """The same function without the families that no edge chose."""
        choice = self.choice()
        by_edge = (choice[:, None] if self.per == "output" else choice).expand(
            self.n_out, self.n_in, -1
        )
        chosen = {
            f: by_edge[..., m].any(0).nonzero().flatten().tolist() for m, f in enumerate(self.pool)
        }
        return PrunedKANLayer(self, {f: rows for f, rows in chosen.items() if rows}, by_edge)


class PrunedKANLayer(nn.Module):
    """(B, n_in) -> (B, n_out); each family is evaluated on the inputs that chose it alone."""

    def __init__(
        self, of: SelectableKANLayer, chosen: dict[str, list[int]], by_edge: Tensor
    ) -> None:
        super().__init__()
        self.n_in, self.n_out, self.chosen = of.n_in, of.n_out, chosen
        self.two_valued, first = of.two_valued, of.n_in - of.two_valued
        self.numbers = {f: sum(place < first for place in of_it) for f, of_it in chosen.items()}
        folded = of.folded()
        self.bases, self.coefficients = nn.ModuleDict(), nn.ParameterDict()
        for family, inputs in chosen.items():
            kept: Any = copy.deepcopy(of.bases[family])
            kept.take(inputs)
            self.bases[family] = kept
            self.coefficients[family] = folded[family][:, inputs].clone()
            places = None if len(inputs) == of.n_in else torch.tensor(inputs)
            self.register_buffer(f"places_{family}", places, persistent=False)
            alive = by_edge[:, inputs, of.pool.index(family)].clone()
            self.register_buffer(
                f"alive_{family}", None if alive.all() else alive, persistent=False
            )
        self.base = copy.deepcopy(of.base)
        self.bias = nn.Parameter(of.bias.detach().clone())

    def folded(self) -> dict[str, Tensor]:
        """The coefficients of each family, (n_out, inputs that chose it, K_m), 0 where dropped."""
        found = {}
        for family, weight in self.coefficients.items():
            alive = getattr(self, f"alive_{family}")
            # edges that chose another family must not come back in training
            found[family] = weight if alive is None else weight * alive[..., None]
        return found

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in) -> (B, n_out)."""
        families = [
            Family(
                self.bases[family], weight, getattr(self, f"places_{family}"), self.numbers[family]
            )
            for family, weight in self.folded().items()
        ]
        base = None if self.base is None else self.base.weight
        return edge_sum(x, families, self.bias, base, self.two_valued)


def top(scores: Tensor, keep: int) -> Tensor:
    """Bool mask of the `keep` highest scores along the last dimension."""
    best = scores.topk(keep, -1).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, best, True)
