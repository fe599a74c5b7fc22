"""The stacks of one or more domains as a delta: a file beside the base, put on and taken off.

    code = Delta.load("b/code")
    with code.on(model):                    # beside whatever other domains are on
        ...

What was learned over other domains was learned with them on: alone it answers as nobody measured,
and a warning says so.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from stackwise.adapt.brainstacks.experts import Experts
from stackwise.adapt.brainstacks.places import sizes_of
from stackwise.adapt.brainstacks.switch import Standing, Switch, float_type
from stackwise.adapt.delta import Delta, LoraDelta, LowRank
from stackwise.errors import KnobError, ModelError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
ROLES = ("a", "b", "router")
DIRECTIONS = "directions"


class LearnedOverOthers(UserWarning):
    """A domain is on without those that were on when it was learned."""


def check_name(name: str) -> str:
    """A domain's name, as its files and a forgetting matrix have it.

    Raises:
        KnobError: it is no plain name.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise KnobError(
            f"a domain's name is letters, digits, '_', '-' and '.', such as code, not {name!r}"
        )
    return name


@dataclass(frozen=True, eq=False)
class Domain:
    """What was learned for one domain.

    Attributes:
        rounds: the stacks of each round, by layer.
        directions: by layer, (K, d_out): the leading right singular vectors, times their singular
            values, of what all stacks together added to samples of this domain when it was done.
            The next domain is kept out of them.
        weight: how much it counts. after: the domains that were on when it was learned.
        losses: on held-out data before it and after each of its rounds; empty where none was held.
    """

    rounds: list[dict[str, Experts]]
    directions: dict[str, Tensor] = field(default_factory=dict)
    top_k: int = 2
    scale: float = 1.0
    weight: float = 1.0
    after: tuple[str, ...] = ()
    losses: tuple[float, ...] = ()

    @property
    def layers(self) -> list[str]:
        """Those beside which it stands."""
        return list(dict.fromkeys(name for one in self.rounds for name in one))

    @property
    def plain(self) -> bool:
        """One expert a stack: LoRA, whose product can be added to the weights."""
        return all(len(e.a) == 1 for one in self.rounds for e in one.values())


class ExpertDelta(Delta, kind="expert-stacks"):
    """Stacks of low-rank experts beside the layers of a frozen model, by domain.

    A multiple counts all its domains so much more; a sum holds the domains of both.
    """

    in_weights: ClassVar[bool] = False

    def __init__(self, domains: Mapping[str, Domain], **about: Any) -> None:
        super().__init__(**about)
        self.domains = {check_name(name): domain for name, domain in domains.items()}

    def fits(self, module: nn.Module) -> None:
        """Every layer is there, in its size, and no domain of that name is on."""
        layers = dict(module.named_modules())
        switch = Switch.on(module)
        for name, domain in self.domains.items():
            if switch is not None and name in switch.domains:
                raise ModelError(
                    f"a domain {name!r} is on this {type(module).__name__} already: give the other "
                    "one another name"
                )
            for layer, experts in ((k, e) for one in domain.rounds for k, e in one.items()):
                wanted = experts.a.shape[2], experts.b.shape[1]
                found = sizes_of(layers[layer]) if layer in layers else None
                if found is None:
                    raise ModelError(
                        f"this {type(module).__name__} has no linear layer {layer!r}, beside which "
                        f"{self._name} stands"
                    )
                if found != wanted:
                    raise ModelError(
                        f"{layer} takes {found[0]} numbers and gives {found[1]} in this "
                        f"{type(module).__name__}, and {self._name} is for {wanted[0]} and "
                        f"{wanted[1]}"
                    )

    def attach(self, module: nn.Module) -> None:
        """Stand beside the layers."""
        switch = Switch.of(module)
        for name, domain in self.domains.items():
            for layer in domain.layers:
                where = module.get_submodule(layer)
                rounds = [one[layer].to(float_type(where)) for one in domain.rounds if layer in one]
                scale = domain.scale * domain.weight
                switch.beside(module, layer).standing[name] = Standing(rounds, domain.top_k, scale)
            absent = sorted(set(domain.after) - set(switch.domains) - set(self.domains))
            if absent:
                warnings.warn(
                    LearnedOverOthers(
                        f"{name} was learned with {', '.join(absent)} on: without, its answers are "
                        "not those that were measured"
                    ),
                    stacklevel=3,
                )

    def detach(self, module: nn.Module) -> None:
        """Stand there no longer."""
        switch = Switch.of(module)
        for name, domain in self.domains.items():
            for layer in domain.layers:
                switch.layers[layer].standing.pop(name)
                switch.leave(module, layer)

    def not_mergeable(self) -> str | None:
        """Experts are chosen for each token; a single one is LoRA, and can be merged."""
        if all(domain.plain for domain in self.domains.values()):
            return None
        return "each token takes other experts of it; learn it with experts=1,top_k=1 for that"

    def as_weights(self, module: nn.Module) -> Delta:
        """LoRA, which it is where it can be merged."""
        return self.as_lora()

    def as_lora(self) -> LoraDelta:
        """The same as a LoRA adapter, in peft's files.

        Raises:
            ModelError: there are several experts.
        """
        self.check_mergeable()
        parts: dict[str, Any] = {}
        for domain in self.domains.values():
            for layer, (a, b, _) in ((k, e) for one in domain.rounds for k, e in one.items()):
                name = f"{layer}.weight"
                part = LowRank(a[0].float(), b[0].float(), domain.scale * domain.weight)
                parts[name] = parts[name].plus(part) if name in parts else part
        return LoraDelta(parts, base=self.base, method=self.method, knobs=self.knobs)

    def scaled(self, factor: float) -> Self:
        """Each domain counts `factor` times as much."""
        return self._with(
            {name: replace(one, weight=factor * one.weight) for name, one in self.domains.items()}
        )

    def plus(self, other: Self) -> Self:
        """The domains of both; deltas are summed and never their factors."""
        both = sorted(self.domains.keys() & other.domains.keys())
        if both:
            raise ModelError(
                f"a sum of two domains that are both called {both[0]!r} means nothing: give one of "
                "them another name"
            )
        return self._with(self.domains | other.domains)

    def _with(self, domains: Mapping[str, Domain]) -> Self:
        return type(self)(domains, base=self.base, method=self.method)

    def tensors(self) -> dict[str, Tensor]:
        """`<domain>/<round>/<layer>/<a, b or router>`, and `<domain>/directions/<layer>`."""
        found = {}
        for name, domain in self.domains.items():
            for place, one in enumerate(domain.rounds):
                for layer, experts in one.items():
                    for role, tensor in zip(ROLES, experts, strict=True):
                        found[f"{name}/{place}/{layer}/{role}"] = tensor
            for layer, rows in domain.directions.items():
                found[f"{name}/{DIRECTIONS}/{layer}"] = rows
        return found

    def settings(self) -> dict[str, Any]:
        """What each domain is besides its numbers."""
        return {
            "domains": {
                name: {"rounds": len(one.rounds), "top_k": one.top_k, "scale": one.scale,
                       "weight": one.weight, "after": list(one.after),
                       "losses": list(one.losses)}
                for name, one in self.domains.items()
            }
        }  # fmt: skip

    @classmethod
    def made_of(
        cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any], **about: Any
    ) -> Self:
        """From its tensors, and what each domain is besides."""
        domains = {}
        left = dict(tensors)
        for name, kept in settings["domains"].items():
            rounds: list[dict[str, Experts]] = []
            for place in range(int(kept["rounds"])):
                found = _under(left, f"{name}/{place}/")
                layers = dict.fromkeys(key.rpartition("/")[0] for key in found)
                rounds.append({
                    layer: _sound(layer, [found.pop(f"{layer}/{role}") for role in ROLES],
                                  int(kept["top_k"]))
                    for layer in layers
                })  # fmt: skip
                if found:
                    raise ModelError(f"{min(found)} is no part of a stack")
            domains[name] = Domain(
                rounds, _under(left, f"{name}/{DIRECTIONS}/"), int(kept["top_k"]),
                float(kept["scale"]), float(kept["weight"]), tuple(kept["after"]),
                tuple(float(loss) for loss in kept["losses"]),
            )  # fmt: skip
        if left:
            raise ModelError(f"{min(left)} belongs to no domain")
        return cls(domains, **about)


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin so, taken out, by the rest of their names."""
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in names}


def _sound(layer: str, tensors: list[Tensor], top_k: int) -> Experts:
    """The experts of a layer.

    Raises:
        ModelError: their shapes do not go together, or they are not finite.
    """
    a, b, router = tensors
    good = a.dim() == b.dim() == 3 and router.dim() == 2 and len(a) == len(b) == len(router)
    good = good and a.shape[1] == b.shape[2] and a.shape[2] == router.shape[1]
    if not good or not 1 <= top_k <= len(a):
        raise ModelError(
            f"the stack of {layer} has shapes {[tuple(one.shape) for one in tensors]} of which "
            f"{top_k} experts cannot be chosen"
        )
    if not all(bool(torch.isfinite(one).all()) for one in tensors):
        raise ModelError(f"the stack of {layer} holds numbers that are not finite")
    return Experts(a, b, router)
