"""Gates on a network, by torch's hooks: no module is replaced and no weight is touched.

A gate on an activation is a hook on it: what goes in is z, what comes out is h. One on a pair of
layers keeps what the first gives and multiplies what the second takes. Hooks carry what put them
there (their `owner`), so that copies of a network have their own and each is found again.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.adapt.dopamine.calls import Calls
from stackwise.adapt.dopamine.gate import Numbers, gated, laid
from stackwise.adapt.dopamine.sites import Site
from stackwise.errors import ModelError

Source = Callable[[str, Tensor], "Numbers | None"]
"""(site, z) -> what holds there now, on the device and in the type of z."""


@dataclass(frozen=True)
class Passing:
    """What goes through a gate.

    Attributes:
        site: the name of where it is. z: before the activation. share: the gates m.
        h: what goes on. axis: of the units. start: the number of the first one of them.
    """

    site: str
    z: Tensor
    share: Tensor
    h: Tensor
    axis: int
    start: int

    @property
    def units(self) -> slice:
        """Which units of the site these are."""
        return slice(self.start, self.start + self.z.shape[self.axis])

    def rows(self, tensor: Tensor) -> Tensor:
        """(positions, units) of z, or of a tensor of its shape."""
        return tensor.detach().movedim(self.axis, -1).flatten(0, -2)


Watch = Callable[[Passing], None]


def gated_and_watched(
    site: Site,
    z: Tensor,
    h: Tensor,
    numbers: Numbers | None,
    watch: Watch | None,
    axis: int,
    start: int,
) -> Tensor:
    """What goes on from an activation; `watch` is told."""
    if numbers is None and watch is None:
        return h
    shares: list[Tensor] = []
    made = gated(
        z, h, numbers or Numbers(), axis, None if watch is None else shares.append,
        fresh=not site.after,  # between two layers others may read h
    )  # fmt: skip
    if watch is not None:
        share = shares[0] if shares else torch.ones_like(z)
        watch(Passing(site.name, z, share, made, axis, start))
    return made


class Onlooker:
    """An owner of gates that look and hold nothing."""

    def __str__(self) -> str:
        return "what was seen of the first batch"


class Gate:
    """What the hooks of one module share: the sites there and whose they are."""

    def __init__(self, owner: Any, source: Source, sites: Sequence[Site], watch: Watch | None):
        self.owner, self.source, self.watch = owner, source, watch
        self.sites = {site.use: site for site in sites}
        self.uses = sites[0].uses
        self.held = threading.local()  # what one pass has seen: threads have their own

    def __deepcopy__(self, memo: Any) -> "Gate":
        return memo.setdefault(
            id(self), Gate(self.owner, self.source, list(self.sites.values()), self.watch)
        )

    def site(self) -> Site | None:
        """The site of this use of the module."""
        if self.uses == 1:
            return self.sites.get(0)
        return self.sites.get(getattr(self.held, "calls", 0) % self.uses)

    def again(self) -> None:
        """A pass begins."""
        self.held.calls = 0

    def begin(self, given: tuple[Any, ...], inplace: bool) -> tuple[Any, ...] | None:
        """Before the activation: add the bias, and keep z where the activation writes over it."""
        site = self.site()
        if site is None:
            return None
        z = _first(site, given)
        numbers = self.source(site.name, z)
        moved = z if numbers is None else self.moved(site, z, numbers)
        if inplace:
            self.held.z = moved
            return (moved.clone(), *given[1:])
        return None if moved is z else (moved, *given[1:])

    def moved(self, site: Site, z: Tensor, numbers: Numbers) -> Tensor:
        """z with the bias."""
        check_width(site, z, self.owner)
        return z if numbers.bias is None else z + laid(numbers.bias, z, site.axis)

    def finish(self, given: tuple[Any, ...], h: Tensor, inplace: bool) -> Tensor:
        """After the activation: what goes on."""
        site = self.site()
        if self.uses > 1:
            self.held.calls = getattr(self.held, "calls", 0) + 1
        if site is None:
            return h
        return self.through(site, self.held.z if inplace else given[0], h)

    def through(self, site: Site, z: Tensor, h: Tensor) -> Tensor:
        """Gate h by z."""
        check_width(site, z, self.owner)
        numbers = self.source(site.name, z)
        return gated_and_watched(site, z, h, numbers, self.watch, site.axis, 0)


class _Before:
    """On an activation, before it."""

    def __init__(self, gate: Any) -> None:
        self.gate = gate

    def __call__(self, module: nn.Module, given: tuple[Any, ...]) -> Any:
        return self.gate.begin(given, bool(getattr(module, "inplace", False)))


class _After(_Before):
    """On an activation, after it."""

    def __call__(self, module: nn.Module, given: tuple[Any, ...], h: Any = None) -> Any:
        return self.gate.finish(given, h, bool(getattr(module, "inplace", False)))


class _Given(_Before):
    """On the first of a pair of layers, after it: z."""

    def __call__(self, module: nn.Module, given: tuple[Any, ...], z: Any = None) -> Any:
        site = self.gate.sites[0]
        numbers = self.gate.source(site.name, z)
        self.gate.held.z = z if numbers is None else self.gate.moved(site, z, numbers)
        return self.gate.held.z


class _Taken(_Before):
    """On the second of a pair of layers, before it: h."""

    def __call__(self, module: nn.Module, given: tuple[Any, ...]) -> Any:
        site = self.gate.sites[0]
        return (self.gate.through(site, self.gate.held.z, _first(site, given)), *given[1:])


class Functions:
    """The gates of an owner on calls of functions, by the name of the function."""

    def __init__(self, owner: Any, source: Source, sites: Sequence[Site], watch: Watch | None):
        self.owner, self.source, self.watch = owner, source, watch
        self.sites = {str(site.function): site for site in sites}
        self.held = threading.local()

    def __deepcopy__(self, memo: Any) -> "Functions":
        made = Functions(self.owner, self.source, list(self.sites.values()), self.watch)
        return memo.setdefault(id(self), made)  # type: ignore[no-any-return]

    def begin(self) -> None:
        """A pass begins: no unit was met."""
        self.held.met = dict.fromkeys(self.sites, 0)
        mode = Calls(self.see)
        self.held.__dict__.setdefault("modes", []).append(mode)
        mode.__enter__()

    def end(self, whole: bool) -> None:
        """It ends.

        Raises:
            ModelError: it is `whole`, and met fewer units than there are gates.
        """
        self.held.modes.pop().__exit__(None, None, None)
        for name, site in self.sites.items():
            if whole and self.held.met[name] != site.width:
                raise ModelError(self._other(site, self.held.met[name]))

    def see(
        self, name: str, activation: Callable[[Tensor], Tensor], z: Tensor, axis: int
    ) -> Tensor:
        """A call: gated, where there is a gate on it."""
        site = self.sites.get(name)
        if site is None:
            return activation(z)
        start = self.held.met[name]
        stop = self.held.met[name] = start + z.shape[axis]
        if stop > site.width:
            raise ModelError(self._other(site, stop))
        numbers = self.source(site.name, z)
        here = None if numbers is None else numbers.part(start, stop)
        if here is not None and here.bias is not None:
            z = z + laid(here.bias, z, axis)
        return gated_and_watched(site, z, activation(z), here, self.watch, axis, start)

    def _other(self, site: Site, met: int) -> str:
        return (
            f"{self.owner} expects {site.width} units in all calls of {site.name}, and this pass "
            f"has {met} there"
        )


class _Enter(_Before):
    """On the whole network, before it: functions are seen."""

    def __call__(self, module: nn.Module, given: tuple[Any, ...]) -> None:
        self.gate.begin()


class _Leave(_Before):
    """On the whole network, after it: no longer."""

    def __call__(self, module: nn.Module, given: tuple[Any, ...], out: Any = None) -> None:
        self.gate.end(whole=out is not None)


class _Root(_Before):
    """On the whole network, before it: uses are counted anew."""

    def __call__(self, module: nn.Module, given: tuple[Any, ...]) -> None:
        self.gate.again()


def attach(
    network: nn.Module,
    owner: Any,
    sites: Sequence[Site],
    source: Source,
    *,
    biased: bool = True,
    watch: Watch | None = None,
) -> None:
    """Put gates on a network.

    Args:
        owner: by which `detach` finds them.
        biased: whether a bias may be among the numbers; a hook is saved where none is.
    """
    called = [site for site in sites if site.function]
    if called:
        functions = Functions(owner, source, called, watch)
        network.register_forward_pre_hook(_Enter(functions))
        network.register_forward_hook(_Leave(functions), always_call=True)  # errors included
    places: dict[str, list[Site]] = {}
    for site in sites:
        if site.function:
            continue
        places.setdefault(site.name if site.after else site.module, []).append(site)
    for there in places.values():
        gate, first = Gate(owner, source, there, watch), there[0]
        module = network.get_submodule(first.module)
        if first.after:
            module.register_forward_hook(_Given(gate))
            network.get_submodule(first.after).register_forward_pre_hook(_Taken(gate))
            continue
        if biased or getattr(module, "inplace", False):
            module.register_forward_pre_hook(_Before(gate))
        module.register_forward_hook(_After(gate))
        if gate.uses > 1:
            network.register_forward_pre_hook(_Root(gate))


def detach(network: nn.Module, owner: Any) -> None:
    """Take the gates of an owner off."""
    for module in network.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            ours: Mapping[int, Any] = dict(hooks)
            for key, hook in ours.items():
                if isinstance(hook, _Before) and hook.gate.owner is owner:
                    del hooks[key]
                    module._forward_hooks_always_called.pop(key, None)


def gates_on(network: nn.Module) -> list[Any]:
    """The owners of the gates that are on a network, each once."""
    found: list[Any] = []
    for module in network.modules():
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values()):
            if isinstance(hook, _Before) and all(hook.gate.owner is not one for one in found):
                found.append(hook.gate.owner)
    return found


def check_width(site: Site, z: Tensor, owner: Any) -> None:
    """z has the units that the gate is for.

    Raises:
        ModelError: it has another number of them.
    """
    if z.shape[site.axis] != site.width:
        raise ModelError(
            f"{owner} expects {site.width} units at layer {site.name}, and this model has "
            f"{z.shape[site.axis]} there"
        )


def _first(site: Site, given: tuple[Any, ...]) -> Tensor:
    if not given or not isinstance(given[0], Tensor):
        raise ModelError(f"{site.name} is not called with a tensor as its first argument")
    return given[0]
