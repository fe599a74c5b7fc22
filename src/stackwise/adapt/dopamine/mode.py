"""A mode as a delta: thresholds, gains and biases beside a base.

    legal = TauGate.load("modes/legal/delta")
    with legal.on(model):
        ...
    legal.hardened()                    the same thresholds as steps
    legal.merge(model)                  gains and biases alone: into the layers around
    0.5 * gains, gains + others         gains and biases alone, as their changes of weights

On together with other modes, gates and gains multiply, and biases add. A sum of two modes adds the
changes that they make to weights, 1 + (g - 1) + (g' - 1), and is another mode than both on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from stackwise.adapt.delta import Delta, Dense, WeightDelta
from stackwise.adapt.delta.parts import Part
from stackwise.adapt.dopamine.around import column_change, columns, inputs_of, outputs_of
from stackwise.adapt.dopamine.gate import ROLES, Numbers
from stackwise.adapt.dopamine.hooks import attach, detach
from stackwise.adapt.dopamine.sites import Site
from stackwise.errors import KnobError, ModelError


class TauGate(Delta, kind="tau-gate"):
    """A mode: what `Numbers` holds for each site.

    Args:
        name: of the mode. sites: where it stands.
        numbers: by the names of the sites.
        hard: steps in place of sigmoids. sharpness: of the sigmoids, above 0.
        scores: what was measured when it was made, by name.
    """

    in_weights: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        sites: Sequence[Site],
        numbers: Mapping[str, Numbers],
        *,
        hard: bool = False,
        sharpness: float = 10.0,
        scores: Mapping[str, float] | None = None,
        **about: Any,
    ) -> None:
        super().__init__(**about)
        if not sharpness > 0:
            raise KnobError(f"the sharpness of a gate is above 0, not {sharpness}")
        self.name, self.hard, self.sharpness = name, hard, float(sharpness)
        self.sites = {site.name: site for site in sites}
        form = "hard" if hard else "soft"
        self.numbers = {
            place: replace(numbers[place], sharpness=self.sharpness, form=form)  # type: ignore[arg-type]
            for place in self.sites
        }
        self.scores = dict(scores or {})
        for place, site in self.sites.items():
            _check(site, self.numbers[place])
        self._held: dict[tuple[Any, ...], Numbers] = {}

    def __str__(self) -> str:
        return f"mode {self.name!r}"

    @property
    def gated(self) -> bool:
        """Whether there are thresholds."""
        return any(one.tau is not None for one in self.numbers.values())

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return sum(tensor.numel() for tensor in self.tensors().values())

    def hardened(self) -> "TauGate":
        """With steps in place of sigmoids.

        Raises:
            ModelError: it has no thresholds.
        """
        return self._as(hard=True)

    def softened(self) -> "TauGate":
        """With sigmoids in place of steps.

        Raises:
            ModelError: it has no thresholds.
        """
        return self._as(hard=False)

    def _as(self, *, hard: bool) -> "TauGate":
        if not self.gated:
            raise ModelError(f"{self} has no thresholds, so that there is nothing to harden")
        return self._with(self.numbers, hard=hard, method=self.method, knobs=self.knobs)

    # ---- what a delta says of itself

    def fits(self, module: nn.Module) -> None:
        """The sites are there, as wide as they were."""
        known = dict(module.named_modules())
        for site in self.sites.values():
            for name in site.modules:
                if name not in known:
                    raise ModelError(
                        f"{self} stands at {name!r}, and this {type(module).__name__} has no such "
                        "layer"
                    )
            for name in (*site.into, *site.out_of):
                layer = known.get(name, module)
                reads = name in site.into
                width = inputs_of(layer) if reads else outputs_of(layer)
                if columns(layer, site.width) is None if reads else width != site.width:
                    raise ModelError(
                        f"{self} expects {site.width} units at layer {site.name}, and this "
                        f"{type(module).__name__} has {width or 'no such layer'} at {name}"
                    )

    def attach(self, module: nn.Module) -> None:
        """Gates on its activations."""
        biased = any(one.bias is not None for one in self.numbers.values())
        attach(module, self, list(self.sites.values()), self.at, biased=biased)

    def detach(self, module: nn.Module) -> None:
        """Take them off."""
        detach(module, self)

    def at(self, place: str, like: Tensor) -> Numbers:
        """The numbers of a site, on the device and in the type of a tensor."""
        key = (place, like.device, like.dtype)
        if key not in self._held:
            self._held[key] = self.numbers[place].to(like)
        return self._held[key]

    def tensors(self) -> dict[str, Tensor]:
        """`<site>/<role>` of each."""
        return {
            f"{place}/{role}": tensor
            for place, one in self.numbers.items()
            for role in ROLES
            if (tensor := getattr(one, role)) is not None
        }

    def settings(self) -> dict[str, Any]:
        """The name, the form, the sites, and what was measured."""
        return {
            "name": self.name, "hard": self.hard, "sharpness": self.sharpness,
            "layers": [site.as_dict() for site in self.sites.values()], "scores": self.scores,
        }  # fmt: skip

    @classmethod
    def made_of(
        cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any], **about: Any
    ) -> Self:
        """From the tensors of its sites."""
        sites = [Site.from_dict(record) for record in settings["layers"]]
        held: dict[str, dict[str, Any]] = {site.name: {} for site in sites}
        for key, tensor in tensors.items():
            place, _, role = key.rpartition("/")
            if place not in held or role not in ROLES:
                raise ModelError(f"{key} belongs to none of its layers")
            held[place][role] = tensor
        numbers = {place: Numbers(**found) for place, found in held.items()}
        return cls(
            str(settings["name"]), sites, numbers, hard=bool(settings["hard"]),
            sharpness=settings["sharpness"], scores=settings["scores"], **about,
        )  # fmt: skip

    # ---- as a change of weights

    def not_mergeable(self) -> str | None:
        """Thresholds; a gain that no known layer reads; a bias that no known layer adds."""
        for place, one in self.numbers.items():
            site = self.sites[place]
            if one.tau is not None:
                return "its thresholds depend on what comes in, and no weights do"
            if one.gain is not None and not site.into:
                return f"what reads the units of {place} takes them not through a product alone"
            if one.gain is not None and not site.signed and not bool((one.gain > 0).all()):
                return f"a gain of {place} is not above 0, and its units go through a maximum"
            if one.bias is not None and not site.out_of:
                return f"no layer is known that gives the units of {place}"
        return None

    def as_weights(self, module: nn.Module) -> WeightDelta:
        """The change of this module's weights that does the same.

        A gain multiplies the columns of what reads the units, a bias is added to that of what
        gives them.

        Raises:
            ModelError: there is none; or a layer has no bias to add to.
        """
        self.check_mergeable()
        parts: dict[str, Part] = {}
        for place, one in self.numbers.items():
            site = self.sites[place]
            if one.gain is not None:
                for name in site.into:
                    change = column_change(module.get_submodule(name), one.gain)
                    parts[f"{name}.weight"] = Dense(change)
            if one.bias is not None:
                layer = module.get_submodule(site.out_of[0])
                if getattr(layer, "bias", None) is None:
                    raise ModelError(
                        f"{self} cannot be merged: {site.out_of[0]} has no bias to which its own "
                        "could be added"
                    )
                parts[f"{site.out_of[0]}.bias"] = Dense(one.bias.detach().cpu())
        return WeightDelta(parts, base=self.base)

    def scaled(self, factor: float) -> Self:
        """`factor` times the change: 1 + factor (g - 1), factor d."""
        self._check_linear("a multiple")
        made = {
            place: Numbers(
                gain=None if one.gain is None else 1 + factor * (one.gain - 1),
                bias=None if one.bias is None else factor * one.bias,
            )
            for place, one in self.numbers.items()
        }
        return self._with(made)

    def plus(self, other: Self) -> Self:
        """The changes added: 1 + (g - 1) + (g' - 1), d + d'."""
        self._check_linear("a sum")
        other._check_linear("a sum")
        sites = self.sites | other.sites
        for place in self.sites.keys() & other.sites.keys():
            if self.sites[place] != other.sites[place]:
                raise ModelError(f"{self} and {other} take {place} for two different layers")
        nothing = Numbers()
        made = {
            place: _sum(self.numbers.get(place, nothing), other.numbers.get(place, nothing))
            for place in sites
        }
        return type(self)(f"{self.name}+{other.name}", list(sites.values()), made, base=self.base,
                          sharpness=self.sharpness)  # fmt: skip

    def _check_linear(self, what: str) -> None:
        if self.gated:
            raise ModelError(
                f"{what} of {self} means nothing, for it has thresholds: put modes on together"
            )

    def _with(self, numbers: Mapping[str, Numbers], **more: Any) -> Self:
        settings: dict[str, Any] = {
            "hard": self.hard, "sharpness": self.sharpness, "base": self.base
        } | more  # fmt: skip
        return type(self)(self.name, list(self.sites.values()), numbers, **settings)


def _check(site: Site, numbers: Numbers) -> None:
    """Numbers that a site can have.

    Raises:
        ModelError: a shape is another, or one is no number.
    """
    for role in ROLES:
        tensor = getattr(numbers, role)
        if tensor is None:
            continue
        rank = None if numbers.down is None else len(numbers.down)
        wanted = {"down": (rank, site.width), "up": (site.width, rank)}.get(role, (site.width,))
        if not tensor.is_floating_point() or tuple(tensor.shape) != wanted:
            raise ModelError(
                f"{role} of {site.name} is {tensor.dtype} of shape {tuple(tensor.shape)}, not "
                f"floats of shape {wanted}"
            )
        allowed = tensor.isfinite() if role != "tau" else ~tensor.isnan()  # -inf is always open
        if not bool(allowed.all()):
            raise ModelError(f"{role} of {site.name} holds what is no number")
    if (numbers.down is None) != (numbers.up is None) or (
        numbers.down is not None and numbers.tau is None
    ):
        raise ModelError(f"{site.name} has a part of a threshold that depends on the input alone")


def _sum(one: Numbers, other: Numbers) -> Numbers:
    def added(role: str, less: float) -> Tensor | None:
        ours, theirs = getattr(one, role), getattr(other, role)
        if ours is None or theirs is None:
            return ours if theirs is None else theirs
        return ours + theirs - less

    return Numbers(gain=added("gain", 1), bias=added("bias", 0))
