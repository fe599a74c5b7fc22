"""What of a network's tensors a sub-model has: the first units along every axis, by these rules.

    Linear D_in -> D_out        W[:w_out, :w_in], b[:w_out]
    Conv2d                      W[:c_out, :c_in]; depthwise: groups = c
    LayerNorm, RMSNorm          gain and shift [:w], statistics over the w units only
    BatchNorm                   gain, shift and running statistics [:c] (and see statistics.py)
    GroupNorm of one group      gain and shift [:c], statistics over the c channels only
    attention                   h heads of e: rows [:h e] of Q, K, V, columns [:h e] of the output
    Embedding, bare parameters  the last axis [:w]

Nothing is scaled by the width. A cut is a view, so that a sub-model costs no memory, and the
gradient of its weights is that of the whole ones, exactly 0 outside of the slice. The zero-padded
vector under the full LayerNorm is something else: its mean would be over D, not over w.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stackwise.errors import ModelError
from stackwise.train.sortednet.spaces import Sizes

Index = tuple[slice, ...]


@dataclass(frozen=True)
class Units:
    """Where the numbers of a tensor's axis come from: `per` units of an axis are `numbers` of it.

    A head of e numbers has Units("heads", e); where r query heads share a key, its rows have
    Units("heads", e, r).
    """

    axis: str
    numbers: int = 1
    per: int = 1

    def of(self, sizes: Sizes) -> int:
        """How many numbers stay."""
        return sizes[self.axis] * self.numbers // self.per


@dataclass(frozen=True)
class Place:
    """What the outputs and the inputs of a module are units of; None for what is never cut."""

    out: Units | None = None
    inputs: Units | None = None


@dataclass(frozen=True)
class Cut:
    """A tensor of which the first numbers stay.

    Attributes:
        name: in the network's state dict. held: the module's dict that it is in, and its key there.
        axes: for each of its axes the units, or None.
    """

    name: str
    held: dict[str, Any]
    key: str
    axes: tuple[Units | None, ...]

    @property
    def tensor(self) -> Tensor:
        """The whole tensor, or while a sub-model is open the part."""
        found: Tensor = self.held[self.key]
        return found

    def index(self, sizes: Sizes) -> Index:
        """What of it a sub-model has."""
        return tuple(
            slice(None) if units is None else slice(units.of(sizes)) for units in self.axes
        )


@dataclass(frozen=True)
class Setting:
    """An attribute that a module's forward reads, and that says its size."""

    module: nn.Module
    attribute: str
    value: Callable[[Sizes], Any]


@dataclass(frozen=True)
class Rules:
    """The cuts and settings of a network."""

    cuts: tuple[Cut, ...]
    settings: tuple[Setting, ...]


def rules_of(network: nn.Module, places: Mapping[str, Place]) -> Rules:
    """The cuts of every tensor at a place.

    Args:
        places: by name of a module, or of a parameter that is in none of these.

    Raises:
        ModelError: a module of a kind for which there is no rule, a size that is not that of the
            place, or a weight that two modules share and that would be cut in two ways.
    """
    cuts: list[Cut] = []
    settings: list[Setting] = []
    for name, place in places.items():
        parent, _, last = name.rpartition(".")
        module = network.get_submodule(parent)
        if last in module._parameters:
            tensor = module._parameters[last]
            assert tensor is not None
            cuts.append(
                Cut(name, module._parameters, last, (*[None] * (tensor.ndim - 1), place.out))
            )
            continue
        found, said = _of_module(name, network.get_submodule(name), place)
        cuts += found
        settings += said
    _check_shared(cuts)
    return Rules(tuple(cuts), tuple(settings))


def _of_module(
    name: str, module: nn.Module, place: Place
) -> tuple[list[Cut], list[Setting]]:  # fmt: skip
    out, inputs = place.out, place.inputs
    axes: dict[str, tuple[Units | None, ...]]
    settings: list[Setting] = []
    kind = type(module).__name__
    if isinstance(module, nn.Linear):
        axes = {"weight": (out, inputs), "bias": (out,)}
    elif isinstance(module, nn.Conv2d):
        depthwise = module.groups > 1
        if depthwise and module.groups != module.out_channels:
            raise ModelError(f"{name} is a Conv2d of {module.groups} groups; only depthwise is cut")
        axes = {"weight": (out, None if depthwise else inputs), "bias": (out,)}
        if depthwise and out is not None:
            settings.append(Setting(module, "groups", out.of))
    elif isinstance(module, nn.Embedding):
        axes = {"weight": (None, out)}
    elif isinstance(module, _BatchNorm):
        axes = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (out,))
    elif isinstance(module, nn.GroupNorm) and module.num_groups == 1:
        axes = {"weight": (out,), "bias": (out,)}
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
        axes = {"weight": (out,), "bias": (out,)}
        if out is not None:
            settings.append(Setting(module, "normalized_shape", lambda sizes: (out.of(sizes),)))
    elif kind.endswith("RMSNorm") and [*module._parameters] == ["weight"]:
        axes = {"weight": (out,)}
    else:
        raise ModelError(f"there is no rule to cut {name}, a {kind}")
    cuts = []
    for key, of_key in axes.items():
        held = module._parameters if key in module._parameters else module._buffers
        tensor = held.get(key)
        if tensor is None or all(units is None for units in of_key):
            continue
        cuts.append(Cut(f"{name}.{key}", held, key, of_key))
    return cuts, settings


def check_full(rules: Rules, full: Sizes) -> None:
    """See that the units at full size are the numbers that the tensors have.

    Raises:
        ModelError: they are not.
    """
    for cut in rules.cuts:
        for place, units in enumerate(cut.axes):
            if units is not None and cut.tensor.shape[place] != units.of(full):
                raise ModelError(
                    f"{cut.name} has {cut.tensor.shape[place]} numbers along axis {place}, not the "
                    f"{units.of(full)} of the {units.axis}"
                )


def _check_shared(cuts: Iterable[Cut]) -> None:
    seen: dict[int, Cut] = {}
    for cut in cuts:
        other = seen.setdefault(id(cut.tensor), cut)
        if other.axes != cut.axes:
            raise ModelError(
                f"{other.name} and {cut.name} are one tied weight, and must be cut along the same "
                "axes"
            )


@contextmanager
def cut_down(rules: Rules, sizes: Sizes) -> Iterator[None]:
    """Have every cut tensor hold its first numbers only, as a view, while the context is open."""
    whole: list[tuple[dict[str, Any], str, Tensor]] = []
    before: list[tuple[nn.Module, str, Any]] = []
    try:
        for setting in rules.settings:
            before.append(
                (setting.module, setting.attribute, getattr(setting.module, setting.attribute))
            )
            setattr(setting.module, setting.attribute, setting.value(sizes))
        for cut in rules.cuts:
            tensor = cut.tensor
            whole.append((cut.held, cut.key, tensor))
            cut.held[cut.key] = tensor[cut.index(sizes)]
        yield
    finally:
        for held, key, tensor in whole:
            held[key] = tensor
        for module, attribute, value in before:
            setattr(module, attribute, value)
