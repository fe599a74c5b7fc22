"""What feeds the units of an activation and what reads them, measured on one batch.

A factor for each unit, all powers of two, changes no bit but the exponent. So if the units of an
activation are multiplied by s and a layer's input is, bit for bit, its old input times s, then this
layer reads these units and each through a product alone; and if dividing its input by s again
leaves all that follows as it was, bit for bit, nothing else reads them. What is found so may be
merged (a gain goes into the columns of the layer) and cut (a silent unit and its column).

    silu(a) * b      down_proj takes s silu(a) b: the gain goes through the product
    max pooling      lets factors above 0 through and no others: `signed` is False
    a norm between   mixes units: nothing is found, and the gain stays on the activation
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.adapt.dopamine.calls import units_called
from stackwise.adapt.dopamine.scaling import fed_by, read_by
from stackwise.adapt.dopamine.seen import CHANNELS_FIRST, Call, Run, Seen, leaves
from stackwise.adapt.dopamine.sites import Site, candidates, no_activation
from stackwise.errors import ModelError


def find_sites(network: nn.Module, run: Run, layers: Sequence[str] | None = None) -> list[Site]:
    """The activations of a network that a pass reaches, and what stands around each.

    Args:
        network: in evaluation mode. run: passes one batch through it.
        layers: as for `candidates`.

    Raises:
        ModelError: there is none, or the batch reaches none.
    """
    names = candidates(network, layers)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        run = _same_each_time(run)
        seen = Seen()
        shapes = _first_pass(network, names, run, seen)
        sites = [site for name in names for site in shapes.get(name, [])]
        if not names or any("()" in name for name in layers or ()):
            sites += _called(run, layers)
        if not sites and not names:
            raise ModelError(no_activation(network))
        if not sites:
            raise ModelError(
                f"the batch reaches none of {', '.join(names[:4])}: give a batch that the whole "
                "network sees"
            )
        apart = [site for site in sites if not site.function]  # of calls nothing more is known
        known = read_by(network, apart, run, seen, signed=True)
        rest = [site for site in apart if not known.get(site.name)]
        for name, into in read_by(network, rest, run, seen, signed=False).items():
            known.setdefault(name, ())
            if into and not known[name]:
                known[name] = into
                sites = [replace(s, signed=False) if s.name == name else s for s in sites]
        own = _used_once(network, seen)
        known = {name: into for name, into in known.items() if own.issuperset(into)}
        sites = [replace(site, into=known.get(site.name, ())) for site in sites]
        fed = fed_by(network, sites, run, seen)
    return [
        replace(site, out_of=fed[site.name]) if own.issuperset(fed.get(site.name, "?")) else site
        for site in sites
    ]


def _same_each_time(run: Run) -> Run:
    def again() -> Tensor:
        torch.manual_seed(0)
        return run()

    return again


def _first_pass(
    network: nn.Module, names: list[str], run: Run, seen: Seen
) -> dict[str, list[Site]]:
    """The plain pass: the width, the axis and the uses of each candidate."""
    used: dict[str, list[Tensor]] = {}
    axes: dict[str, int] = {}
    with ExitStack() as hooks:

        def watch(module: nn.Module, hook: Any) -> None:
            hooks.callback(module.register_forward_hook(hook).remove)

        for name, layer in leaves(network).items():

            def called(layer: nn.Module, given: Any, made: Any, name: str = name) -> None:
                if given and isinstance(given[0], Tensor) and isinstance(made, Tensor):
                    seen.calls.append(Call(name, layer, given[0], made, given[0].clone()))

            watch(layer, called)
        for name in names:
            first = name.partition(">")[0].partition("#")[0]
            pair = ">" in name

            def used_now(
                module: nn.Module, given: Any, made: Any, name: str = name, pair: bool = pair
            ) -> None:
                z = made if pair else given[0] if given else None
                if isinstance(z, Tensor) and z.dim() > 1:
                    used.setdefault(name, []).append(z)
                    last = seen.calls[-1].layer if seen.calls else None
                    first = isinstance(last, CHANNELS_FIRST) and z.dim() > 2
                    axes[name] = 1 if first else -1

            watch(network.get_submodule(first), used_now)
        seen.result = run()
    found: dict[str, list[Site]] = {}
    for name, tensors in used.items():
        base, _, wanted = name.partition("#")
        uses = len(tensors)
        if ">" in name and uses > 1:
            raise ModelError(f"{name.partition('>')[0]} is used {uses} times in a pass: name layers"
                             " that are used once")  # fmt: skip
        for use, z in enumerate(tensors):
            if wanted and use != int(wanted):
                continue
            whole = base if uses == 1 else f"{base}#{use}"
            seen.before[whole] = z
            found.setdefault(name, []).append(
                Site(whole, int(z.shape[axes[name]]), axes[name], uses)
            )
    return found


def _called(run: Run, layers: Sequence[str] | None) -> list[Site]:
    """The activations that are calls of functions.

    Raises:
        ModelError: `layers` names a function that no pass calls.
    """
    widths = {f"{name}()": width for name, width in units_called(run).items()}
    wanted = list(widths) if layers is None else [name for name in layers if "()" in name]
    for name in wanted:
        if name not in widths:
            raise ModelError(
                f"layers has {name!r}, and no pass calls it; it calls "
                f"{', '.join(widths) or 'no activation'}"
            )
    return [Site(name, widths[name]) for name in wanted]


def _used_once(network: nn.Module, seen: Seen) -> set[str]:
    """The layers that a pass uses once, with weights that no other layer has: those that may be
    changed for one activation.
    """
    calls = Counter(call.name for call in seen.calls)
    holders = Counter(id(weight) for _, weight in network.named_parameters(remove_duplicate=False))
    return {
        name for name, count in calls.items()
        if count == 1
        and all(holders[id(p)] == 1 for p in network.get_submodule(name).parameters())
    }  # fmt: skip
