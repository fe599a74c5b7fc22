"""Which families stay: scores of every family at every node, and a race of their choices.

    gate          g
    contribution  g * RMS over rows and outputs of the centred phi
    taylor        | g dL/dg |, the change of the loss to first order when the family goes
    ablation      L without the family - L, one forward a family and node

A score says what a family does within the mixture, not how well it would do alone, and the largest
gate chooses badly (see the evidence). So `race` lets the choice of each score, and each family
everywhere, train for a short while and keeps the one with the smallest loss on validation rows.

Source: arXiv 2408.08338, phases two and three. Differs from the paper: its rule was not readable.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stackwise.build.skan.edge_sums import slopes_of
from stackwise.build.skan.gates import SelectableEdges, top
from stackwise.build.skan.layer import SelectableKANLayer
from stackwise.build.skan.selectable import SelectableNetwork

Score = Literal["gate", "contribution", "taylor", "ablation", "random"]
Loss = Callable[[nn.Module, dict[str, Tensor]], Tensor]
Choice = list[Tensor]
"""For each layer a bool tensor in the shape of its gates: the families that stay."""


def scores(
    network: SelectableNetwork, how: Score, rows: dict[str, Tensor], loss: Loss
) -> list[Tensor]:
    """The score of every family, for each layer in the shape of its gates.

    Args:
        rows: the network's inputs by name, with what `loss(network, rows)` asks for besides.
    """
    soft = copy.deepcopy(network).eval().set_mode("soft")
    layers = soft.selectable
    if how == "gate":
        return [layer.soft().detach() for layer in layers]
    if how == "random":
        return [torch.rand_like(layer.gates) for layer in layers]
    if how == "contribution":
        return _contributions(soft, rows)
    for layer in layers:
        layer.given = layer.soft().detach().requires_grad_()
    if how == "taylor":
        loss(soft, rows).backward()
        given = [layer.given for layer in layers]
        return [(g * g.grad).abs().detach() for g in given if g is not None and g.grad is not None]
    return [_ablation(soft, layer, rows, loss) for layer in layers]


@torch.no_grad()
def _ablation(
    network: SelectableNetwork, layer: SelectableEdges, rows: dict[str, Tensor], loss: Loss
) -> Tensor:
    whole = layer.given
    assert whole is not None
    before = float(loss(network, rows))
    found = torch.empty_like(whole)
    for place in range(whole.numel()):
        without = whole.detach().clone()
        without.view(-1)[place] = 0
        layer.given = without
        found.view(-1)[place] = float(loss(network, rows)) - before
    layer.given = whole
    return found


@torch.no_grad()
def _contributions(network: SelectableNetwork, rows: Mapping[str, Tensor]) -> list[Tensor]:
    found = []
    x = network.first(rows)
    for place, layer in enumerate(network.selectable):
        by_edge = torch.stack([_variance(layer, family, x) for family in layer.pool], -1)
        found.append(layer.soft().abs() * _by_gate(layer, by_edge).clamp_min(0).sqrt())
        x = network.after(place, layer(x))
    return found


def _by_gate(layer: SelectableEdges, by_edge: Tensor) -> Tensor:
    """(n_out, n_in / groups, *taps, M) as means over the edges of each gate, in the shape of
    `gates`.
    """
    if layer.per == "edge":
        return by_edge
    if layer.per == "output":
        return by_edge.flatten(1, -2).mean(1)
    if layer.per == "layer":
        return by_edge.flatten(0, -2).mean(0)
    # the edges of an input lead to the outputs of its group
    of_tap = by_edge.unflatten(0, (layer.groups, -1)).mean(1).flatten(0, 1)
    return of_tap.flatten(1, -2).mean(1) if layer.per == "node" and layer.taps else of_tap


def _variance(layer: SelectableEdges, family: str, x: Tensor) -> Tensor:
    """(n_out, n_in / groups, *taps) of each edge function of a family over the rows of (B, n_in),
    or over the pixels of (B, n_in, H, W).
    """
    two_valued = layer.two_valued if isinstance(layer, SelectableKANLayer) else 0
    numbers = slice(0, layer.n_in - two_valued)
    flat = x if x.ndim == 2 else x.movedim(1, -1).flatten(0, -2)
    values = layer.bases[family](flat[:, numbers], numbers)
    centred = values - values.mean(0)
    spread = torch.einsum("bik,bil->ikl", centred, centred) / len(flat)
    c = layer.coefficients[family][:, numbers]
    if layer.taps:
        # a tap sees every pixel of its channel, but for those at a border
        c, spread = c.unflatten(0, (layer.groups, -1)), spread.unflatten(0, (layer.groups, -1))
        return torch.einsum("gjihwk,gikl,gjihwl->gjihw", c, spread, c).flatten(0, 1)
    found = torch.einsum("jik,ikl,jil->ji", c, spread, c)
    if not two_valued:
        return found
    # phi is a line there: of a share p of ones its variance is p (1 - p) times the slope squared
    hot = slice(numbers.stop, None)
    share = x[:, hot].mean(0)
    slopes = slopes_of(layer.bases[family], layer.coefficients[family][:, hot], hot)[1]
    return torch.cat([found, slopes.square() * share * (1 - share)], 1)


@torch.no_grad()
def prune(
    network: SelectableNetwork, choice: Choice, rows: Mapping[str, Tensor]
) -> SelectableNetwork:
    """The network of the chosen families alone; means of what goes move into the biases.

    The mean is taken over `rows`, so that the inputs of the next layer keep their place.
    """
    chosen = copy.deepcopy(network).eval()
    layers: list[Any] = [*chosen.selectable]
    x = chosen.first(rows)
    for place, (layer, kept) in enumerate(zip(layers, choice, strict=True)):
        before = layer(x)
        layer.select(kept.float(), int(kept.sum(-1).flatten()[0]))
        moved = (before - layer(x)).movedim(1, -1).flatten(0, -2).mean(0)
        bias: Any = layer.bias
        bias.add_(moved)
        x = chosen.after(place, before)
    smaller = chosen.pruned()
    smaller.settle(rows)
    return smaller.train(network.training)


def choices(
    network: SelectableNetwork,
    keep: int,
    rows: dict[str, Tensor],
    loss: Loss,
    ways: tuple[Score, ...],
) -> dict[str, Choice]:
    """The choice of each score by its name; where one family stays, also each family everywhere."""
    found: dict[str, Choice] = {
        way: [top(s, keep) for s in scores(network, way, rows, loss)] for way in ways
    }
    if keep == 1:
        for place, family in enumerate(network.arguments["pool"]):
            found |= {f"{family} everywhere": [_only(g, place) for g in network.selectable]}
    return found


def _only(layer: SelectableEdges, place: int) -> Tensor:
    mask = torch.zeros_like(layer.gates, dtype=torch.bool)
    mask[..., place] = True
    return mask


def race(
    network: SelectableNetwork,
    candidates: Mapping[str, Choice],
    rows: Mapping[str, Tensor],
    learn: Callable[[SelectableNetwork], None],
    judge: Callable[[SelectableNetwork], float],
) -> tuple[str, Choice, dict[str, float]]:
    """Prune by each choice, train shortly, and keep the choice of the smallest loss.

    Returns:
        The winner's name, its choice, and the loss of each candidate.
    """
    losses: dict[str, float] = {}
    for name, choice in candidates.items():
        twin = next((other for other in losses if _same(candidates[other], choice)), None)
        if twin is not None:
            losses[name] = losses[twin]
            continue
        smaller = prune(network, choice, rows).train()
        learn(smaller)
        losses[name] = judge(smaller.eval())
    winner = min(losses, key=lambda name: losses[name])
    return winner, candidates[winner], losses


def _same(one: Choice, other: Choice) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
