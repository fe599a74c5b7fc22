"""Passes with units scaled by powers of two: what takes exactly that is what reads them.

See wiring.py for why that is a proof on the batch that is passed.
"""

from typing import Any

import torch
from torch import Tensor, nn

from stackwise.adapt.dopamine.around import CONVOLUTIONS, NORMS, columns, outputs_of
from stackwise.adapt.dopamine.gate import Numbers, laid
from stackwise.adapt.dopamine.hooks import Onlooker, Passing, attach, detach
from stackwise.adapt.dopamine.seen import CHANNELS_FIRST, Run, Seen, leaves
from stackwise.adapt.dopamine.sites import Site


def _factors(site: Site, *, signed: bool) -> Tensor:
    """(n,) powers of two, none of them 1; half of them below 0 where `signed`."""
    powers = torch.tensor([0.5, 2.0, 4.0])
    made = powers[torch.arange(site.width) % 3]
    signs = torch.where(torch.arange(site.width) % 2 == 0, 1.0, -1.0)
    return made * signs if signed else made


def _taken_by(layer: nn.Module, factors: Tensor, like: Tensor) -> Tensor:
    """A factor for each unit, so that they meet what a layer takes."""
    count = columns(layer, len(factors))
    assert count is not None
    axis = 1 if isinstance(layer, CONVOLUTIONS) else -1
    return laid(factors.to(like).repeat_interleave(count), like, axis)


def read_by(
    network: nn.Module, sites: list[Site], run: Run, seen: Seen, *, signed: bool
) -> dict[str, tuple[str, ...]]:
    """The layers that read the units of each site, where nothing else does."""
    trying = list(sites)
    for _ in range(3):
        if not trying:
            return {}
        found, doubted, result = _scaled_pass(network, trying, run, seen, signed=signed)
        sound = result is not None and seen.result is not None and torch.equal(result, seen.result)
        if sound and not doubted:
            return {name: tuple(into) for name, into in found.items()}
        left = [s for s in trying if s.name not in doubted and found.get(s.name)]
        if len(left) == len(trying):
            return {}
        trying = left
    return {}


def _scaled_pass(
    network: nn.Module, sites: list[Site], run: Run, seen: Seen, *, signed: bool
) -> tuple[dict[str, list[str]], set[str], Tensor | None]:
    """A pass with all units of the sites scaled, each layer's input put back to what it was.

    Returns:
        the layers that took scaled units, by site; the sites of which more went on than that; and
        the result of the pass.
    """
    factors = {site.name: _factors(site, signed=signed) for site in sites}
    pending: list[Site] = []
    found: dict[str, list[str]] = {site.name: [] for site in sites}
    doubted: set[str] = set()
    place = iter(seen.calls)

    def scaled(passing: Passing) -> None:
        pending.append(next(site for site in sites if site.name == passing.site))

    def taken(layer: nn.Module, given: Any) -> Any:
        if not given or not isinstance(given[0], Tensor):
            return None
        call = next(place, None)
        if call is None or call.layer is not layer or call.given.shape != given[0].shape:
            doubted.update(site.name for site in pending)
            return None
        if torch.equal(given[0], call.given):
            return None
        for site in reversed(pending):
            if columns(layer, site.width) is None:
                continue
            if torch.equal(given[0], call.given * _taken_by(layer, factors[site.name], call.given)):
                found[site.name].append(call.name)
                break
        else:
            doubted.update(site.name for site in pending[-1:])
        return (call.given, *given[1:])

    owner = Onlooker()
    attach(network, owner, sites, lambda name, z: Numbers(gain=factors[name].to(z)), biased=False,
           watch=scaled)  # fmt: skip
    hooks = [layer.register_forward_pre_hook(taken) for layer in leaves(network).values()]
    try:
        return found, doubted, run()
    except RuntimeError:  # factors that the network does not bear
        return found, {site.name for site in sites}, None
    finally:
        for hook in hooks:
            hook.remove()
        detach(network, owner)


def fed_by(
    network: nn.Module, sites: list[Site], run: Run, seen: Seen
) -> dict[str, tuple[str, ...]]:
    """The layers whose outputs are the units: what gave z (and what a norm there took), and beside
    it what the activation is multiplied by, where a factor on that goes to the layer after, too.
    """
    found: dict[str, list[str]] = {}
    for site in sites:
        if not site.into:
            continue
        chain: list[str] = []
        z = seen.before[site.name]
        while (call := next((c for c in seen.calls if c.made is z), None)) is not None:
            chain.append(call.name)
            if not isinstance(call.layer, NORMS):
                found[site.name] = chain
                break
            z = call.taken
    fed = [site for site in sites if site.name in found]
    beside = {site.name: _beside(network, site, found[site.name]) for site in fed}
    while any(beside.values()):
        trying = {site: beside[site.name].pop() for site in fed if beside[site.name]}
        for site, name in _multiplied(network, trying, run, seen):
            found[site.name].append(name)
    return {site.name: tuple(found[site.name]) for site in fed}


def _beside(network: nn.Module, site: Site, before: list[str]) -> list[str]:
    """Layers in the module of an activation that give as many units, and do not feed it."""
    parent = site.module.rpartition(".")[0]
    return [
        name for name, layer in leaves(network).items()
        if name.rpartition(".")[0] == parent and name not in (*before, *site.into)
        and outputs_of(layer) == site.width
    ]  # fmt: skip


def _multiplied(
    network: nn.Module, trying: dict[Site, str], run: Run, seen: Seen
) -> list[tuple[Site, str]]:
    """Which of these layers' outputs an activation is multiplied by."""
    found: list[tuple[Site, str]] = []
    plain = {call.name: call.given for call in seen.calls}

    def tried(site: Site, name: str) -> list[Any]:
        factors = _factors(site, signed=True)

        def scale(layer: nn.Module, given: Any, made: Tensor) -> Tensor:
            axis = 1 if isinstance(layer, CHANNELS_FIRST) else -1
            return made * laid(factors.to(made), made, axis)

        def taken(layer: nn.Module, given: Any) -> Any:
            wanted = plain[site.into[0]]
            if torch.equal(given[0], wanted * _taken_by(layer, factors, wanted)):
                found.append((site, name))
            return (wanted, *given[1:])

        return [
            network.get_submodule(name).register_forward_hook(scale),
            network.get_submodule(site.into[0]).register_forward_pre_hook(taken),
        ]

    hooks = [hook for site, name in trying.items() for hook in tried(site, name)]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return found
