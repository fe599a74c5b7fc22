"""The choice of families at the edges of a layer, whatever the layer sums them over.

    phi_e = sum_m g_m phi^m_e,   g = softmax(a / T),   c~ = g c

Gates fold into coefficients, c~ = g c, so that a forward is one product. How gates act is the
layer's `mode`: `soft` mixes, `straight` takes the largest alone and learns as if it mixed, `gumbel`
draws one a step in training and takes the largest otherwise. An edge leads from an input to an
output, and in a convolution from one tap of its window: `taps` is () or the sides of the window.

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
from stackwise.errors import ModelError

POOL = ("bspline", "rbf", "cheby", "wavelet", "relu")
Per = Literal["node", "tap", "edge", "output", "layer"]
Gate = Literal["softmax", "raw"]
Mode = Literal["soft", "straight", "gumbel"]


class SelectableEdges(nn.Module):
    """Edge functions of several families with gates; a subclass sums them.

    Args:
        n_in, n_out: nodes before and after; channels of a convolution.
        pool: families by name.
        per: what has a choice of its own: an input `node`, a `tap` (an input node at a place of
            the window), an `edge`, an `output` or the `layer`.
        gate: `softmax`, or `raw` weights that begin at 1 / M.
        taps: sides of the window of a convolution.
        groups: parts of inputs and outputs that have edges among themselves alone.
    """

    base: nn.Module | None
    kept: Tensor | None

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        pool: Sequence[str] = POOL,
        per: Per = "node",
        gate: Gate = "softmax",
        grid: int = 5,
        degree: int = 4,
        wavelet: Wavelet = "mexican-hat",
        taps: Sequence[int] = (),
        groups: int = 1,
    ) -> None:
        super().__init__()
        if not pool:
            raise ModelError("the pool is empty; name at least one family")
        if len(set(pool)) < len(pool):
            raise ModelError(f"the pool names a family twice: {', '.join(pool)}")
        if per == "tap" and not taps:
            raise ModelError("per is 'tap', and a layer without a window has no taps; use 'node'")
        if n_in % groups or n_out % groups:
            raise ModelError(f"{n_in} inputs and {n_out} outputs do not fall into {groups} groups")
        self.n_in, self.n_out, self.taps, self.groups = n_in, n_out, tuple(taps), groups
        self.pool, self.per, self.gate, count = tuple(pool), per, gate, len(pool)
        bases = {f: basis(f, n_in, grid=grid, degree=degree, wavelet=wavelet) for f in pool}
        self.bases = nn.ModuleDict(bases)
        edges, into = (n_out, n_in // groups, *self.taps), n_in // groups * math.prod(self.taps)
        # gates of 1 / M would leave 1 / M of one family's variance
        self.coefficients = nn.ParameterDict(
            {f: torch.randn(*edges, b.size) * 0.1 * math.sqrt(count / into)
             for f, b in bases.items()}
        )  # fmt: skip
        shape = {"node": (n_in,), "tap": (n_in, *self.taps), "edge": edges, "output": (n_out,),
                 "layer": ()}[per]  # fmt: skip
        start = 0.0 if gate == "softmax" else 1 / count
        self.gates = nn.Parameter(torch.full((*shape, count), start))
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

    def by_edge(self, values: Tensor) -> Tensor:
        """Values in the shape of `gates` at the edges that they are of.

        Returns:
            (n_out or 1, n_in / groups or 1, *taps or ones, M), which broadcasts over the edges.
        """
        ones, count = (1,) * len(self.taps), values.shape[-1]
        if self.per == "edge":
            return values
        if self.per == "output":
            return values.view(self.n_out, 1, *ones, count)
        if self.per == "layer":
            return values.view(1, 1, *ones, count)
        at = ones if self.per == "node" else self.taps
        of = values.view(self.groups, self.n_in // self.groups, *at, count)
        return of if self.groups == 1 else of.repeat_interleave(self.n_out // self.groups, 0)

    def places(self, family: str) -> Tensor | None:
        """The inputs of a family: None, since every one acts on all."""
        return None

    def folded(self) -> dict[str, Tensor]:
        """c~ = g c of each family, (n_out, n_in / groups, *taps, K_m)."""
        weights = self.by_edge(self.weights())
        return {f: weights[..., m, None] * self.coefficients[f] for m, f in enumerate(self.pool)}

    def choice(self) -> Tensor:
        """(the shape of `gates`) bool: the families that act."""
        return torch.ones_like(self.gates, dtype=torch.bool) if self.kept is None else self.kept

    def pruned(self) -> "PrunedEdges":
        """The same function without the families that no edge chose. Subclasses define this."""
        raise ModelError(f"{type(self).__name__} does not say what it becomes when it is pruned")


class PrunedEdges(nn.Module):
    """Edge functions of chosen families alone; a subclass sums them.

    Attributes:
        chosen: for each family the inputs, counted within a group, with an edge that chose it. Its
            basis is evaluated on these alone, in every group.
    """

    base: nn.Module | None

    @torch.no_grad()
    def __init__(self, of: SelectableEdges) -> None:
        super().__init__()
        self.n_in, self.n_out, self.taps, self.groups = of.n_in, of.n_out, of.taps, of.groups
        each = of.n_in // of.groups
        edges = (of.n_out, each, *of.taps)
        by_edge = of.by_edge(of.choice()).expand(*edges, -1)
        flat = by_edge.transpose(0, 1).flatten(1, -2)
        chosen = {f: flat[..., m].any(1).nonzero().flatten().tolist() for m, f in
                  enumerate(of.pool)}  # fmt: skip
        self.chosen: dict[str, list[int]] = {f: rows for f, rows in chosen.items() if rows}
        folded = of.folded()
        self.bases, self.coefficients = nn.ModuleDict(), nn.ParameterDict()
        for family, inputs in self.chosen.items():
            everywhere = [group * each + i for group in range(of.groups) for i in inputs]
            kept: Any = copy.deepcopy(of.bases[family])
            kept.take(everywhere)
            self.bases[family] = kept
            self.coefficients[family] = folded[family][:, inputs].clone()
            places = None if len(inputs) == each else torch.tensor(everywhere)
            self.register_buffer(f"places_{family}", places, persistent=False)
            alive = by_edge[:, inputs][..., of.pool.index(family)].clone()
            self.register_buffer(
                f"alive_{family}", None if alive.all() else alive, persistent=False
            )
        self.base = copy.deepcopy(of.base)

    def places(self, family: str) -> Tensor | None:
        """(n,) the inputs of a family, in rising order; None for all."""
        found: Tensor | None = getattr(self, f"places_{family}")
        return found

    def alive(self, family: str) -> Tensor | None:
        """(n_out, n, *taps) bool, which edges of a family's inputs chose it; None for all."""
        found: Tensor | None = getattr(self, f"alive_{family}")
        return found

    def folded(self) -> dict[str, Tensor]:
        """The coefficients of each family, (n_out, n, *taps, K_m), 0 where dropped."""
        found = {}
        for family, weight in self.coefficients.items():
            alive = self.alive(family)
            # edges that chose another family must not come back in training
            found[family] = weight if alive is None else weight * alive[..., None]
        return found


def top(scores: Tensor, keep: int) -> Tensor:
    """Bool mask of the `keep` highest scores along the last dimension."""
    best = scores.topk(keep, -1).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, best, True)
