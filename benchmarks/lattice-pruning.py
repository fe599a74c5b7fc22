"""Lattice pruning: its analysis against networkx and an epoch of training, its masks against
torch.nn.utils.prune, and layers with fewer units against the whole ones.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import networkx as nx
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune

from side_by_side import alternate, line, seconds_of
from stackwise.layers.masked_weights import attach, prunable
from stackwise.shrink.lattice_pruning import (
    FewerUnits,
    adjacency_of,
    covers,
    dependency_sets,
    edge_mask,
    flow_ranks,
    lattice_of,
    transitive_closure,
    units_of,
)
from stackwise.training.masked import MaskedBackprop

SIZES = (128, 256, 512)
GRAPHS = (64, 128, 192)
ROWS, STEPS, COLUMNS = 128, 28, 28
EPOCH = 32
"""Steps of an epoch over 4,096 rows."""


def layer(size: int) -> nn.LSTM:
    """An LSTM over the rows of digits."""
    torch.manual_seed(0)
    return nn.LSTM(COLUMNS, size, batch_first=True)


def step(module: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """A forward and a backward pass."""

    def run() -> None:
        module.zero_grad(set_to_none=True)
        module(x)[0].square().mean().backward()

    return run


def masked_steps(size: int, mask: torch.Tensor, x: torch.Tensor) -> list[Callable[[], None]]:
    """A step of the optimizer with the mask of a lattice: ours, and torch's, zeros kept zero."""
    ours, theirs = layer(size), layer(size)
    places = prunable(ours, include=["weight_hh"])
    masks = attach(places)
    masks["weight_hh_l0"].set(mask)
    rule = MaskedBackprop(
        lambda m, b: m(x)[0].square().mean(), masks=masks, places=places, grad_clip=None
    )
    (optimizer,) = rule.optimizers(ours)

    class Place:
        step, total_steps, schedule_steps = 5, 10, 10

        @staticmethod
        def average_gradients(optimizer: object) -> None:
            """One process."""

    def run_ours() -> None:
        rule.loss(ours, None).backward()
        rule.update(Place, optimizer)

    prune.custom_from_mask(theirs, "weight_hh_l0", mask)
    theirs_optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-3, fused=True)

    def run_theirs() -> None:
        theirs(x)[0].square().mean().backward()
        theirs_optimizer.step()
        theirs_optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():  # else momentum moves masked weights
            weight = theirs.weight_hh_l0_orig
            weight.mul_(theirs.weight_hh_l0_mask)
            for value in theirs_optimizer.state[weight].values():
                if value.shape == weight.shape:
                    value.mul_(theirs.weight_hh_l0_mask)

    return [run_ours, run_theirs]


def widening(half: FewerUnits, x: torch.Tensor) -> float:
    """The share of a step that writing outputs as wide as before takes, both ways."""
    narrow = half.layers[0](x)[0].detach().requires_grad_()
    wide, whole = alternate(lambda: half._widen(narrow).sum().backward(), step(half, x), 5)
    return wide / whole


def orders(threads: int) -> None:
    """The closure and the Hasse diagram of the flow of a random layer."""
    for size in GRAPHS:
        (units,) = units_of(layer(size))
        edges = adjacency_of(units.influence, quantile=0.8)
        ranks = flow_ranks(units.influence * edges)
        forward = (edges > 0) & (ranks[None] <= ranks[:, None])
        sets = dependency_sets(edges, strength=units.influence.double())
        graphs = []
        for of in (forward, sets):
            graph = nx.DiGraph((j, i) for i, j in of.nonzero().tolist() if i != j)
            graph.add_nodes_from(range(size))
            graphs.append(graph)
        assert nx.transitive_reduction(graphs[1]).number_of_edges() == int(covers(sets).sum())
        found = alternate(
            lambda f=forward: transitive_closure(f),
            lambda g=graphs[0]: nx.transitive_closure_dag(g),
            5,
        )
        line(f"closure of {size} units", *found, "networkx", "s", "bool", threads)
        found = alternate(
            lambda s=sets: covers(s), lambda g=graphs[1]: nx.transitive_reduction(g), 3
        )
        line(f"Hasse diagram of {size} units", *found, "networkx", "s", "bool", threads)


def main() -> None:
    """Print a line a case."""
    threads = torch.get_num_threads()
    orders(threads)
    x = torch.randn(ROWS, STEPS, COLUMNS)
    for size in SIZES:
        whole = layer(size)
        (units,) = units_of(whole)
        lattice = lattice_of(units.influence, quantile=0.5)
        repeats = 7 if size < 512 else 3
        once = sorted(seconds_of(step(whole, x)) for _ in range(repeats))[repeats // 2]
        analysis = sorted(seconds_of(lambda u=units: edge_mask(lattice_of(u.influence)))
                          for _ in range(repeats))[repeats // 2]  # fmt: skip
        line(f"lattice and mask of {size} units", analysis, EPOCH * once,
             f"an epoch of {EPOCH} steps of {ROWS} rows", "s", "float64", threads)  # fmt: skip
        mask = units.masks(edge_mask(lattice))["weight_hh_l0"]
        line(f"training step with masks, {size} units",
             *alternate(*masked_steps(size, mask, x), repeats),
             "torch.nn.utils.prune", "s", "float32", threads,
             "as many operations on both sides")  # fmt: skip
        half = FewerUnits.of(whole, [[list(range(0, size, 2))]])
        named = f"half of {size} units"
        line(f"training step, {named}", *alternate(step(half, x), step(whole, x), repeats),
             "the whole nn.LSTM", "s", "float32", threads)  # fmt: skip
        plain, share = layer(size // 2), widening(half, x)
        line(f"training step, {named}", *alternate(step(half, x), step(plain, x), repeats),
             "nn.LSTM of half the width, whose outputs are half as wide", "s", "float32", threads,
             f"writing zeros where units went takes {share:.0%} of the step")  # fmt: skip

        def forward(module: nn.Module) -> Callable[[], None]:
            def run() -> None:
                with torch.inference_mode():
                    module(x)

            return run

        line(f"forward, {named}", *alternate(forward(half), forward(whole), repeats),
             "the whole nn.LSTM", "s", "float32", threads)  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            sizes = []
            for name, module in (("half", half), ("whole", whole)):
                path = Path(folder) / f"{name}.safetensors"
                save_file(module.state_dict(), path)
                sizes.append(path.stat().st_size)
        line(f"file, {named}", *sizes, "the whole nn.LSTM", "bytes", "float32", threads)


if __name__ == "__main__":
    main()
