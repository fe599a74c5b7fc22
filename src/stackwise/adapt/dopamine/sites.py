"""Where a mode may stand in a network: its activations, by name.

"model.layers.0.mlp.act_fn"     a module that is an activation
"relu#1"                        the second use in a pass of a module that is used more than once
"gelu()"                        all calls of a function in a pass, their units one after the other
"fc1>fc2"                       z is what fc1 gives, h is what fc2 takes, whatever lies between
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from stackwise.errors import ModelError
from stackwise.stack import Stack

ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Tanh, nn.Softplus, nn.Hardswish, nn.Hardtanh,
)  # fmt: skip
SHOWN = 8
"""Names that an error lists."""


@dataclass(frozen=True)
class Site:
    """An activation, and what is known of what stands around it.

    Attributes:
        name: as in the docstring above.
        width: its units. axis: where they lie in z, -1, or 1 of a convolution.
        uses: how often the module is used in a pass.
        into: the layers whose inputs are its units and nothing else is; empty where unknown.
        signed: whether a factor of any sign goes through to them, or one above 0 alone.
        out_of: the layers whose outputs are its units, those next to it first; likewise.
    """

    name: str
    width: int
    axis: int = -1
    uses: int = 1
    into: tuple[str, ...] = ()
    signed: bool = True
    out_of: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The name of the module at which z is read."""
        return self.name.partition(">")[0].partition("#")[0]

    @property
    def function(self) -> str | None:
        """The name of the function whose calls it is."""
        name, call, _ = self.name.partition("()")
        return name if call else None

    @property
    def modules(self) -> list[str]:
        """The names of the modules at which it stands."""
        return [] if self.function else [self.module, *([self.after] if self.after else [])]

    @property
    def after(self) -> str | None:
        """The name of the layer whose input is gated, where it is no activation's output."""
        return self.name.partition(">")[2] or None

    @property
    def use(self) -> int:
        """Which use of the module, from 0."""
        return int(self.name.partition("#")[2] or 0)

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "name": self.name, "width": self.width, "axis": self.axis, "uses": self.uses,
            "into": list(self.into), "signed": self.signed, "out_of": list(self.out_of),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "Site":
        """The inverse of `as_dict`.

        Raises:
            ModelError: a value is none that a site has.
        """
        texts = [record["name"], *record["into"], *record["out_of"]]
        counts = [record["width"], record["uses"]]
        sound = all(isinstance(text, str) for text in texts)
        sound &= all(type(count) is int and count > 0 for count in counts)
        if not sound or record["axis"] not in (-1, 1) or type(record["signed"]) is not bool:
            raise ModelError(f"{record} describes no layer of a mode")
        made = cls(**record | {name: tuple(record[name]) for name in ("into", "out_of")})
        if not 0 <= made.use < made.uses:
            raise ModelError(f"{made.name} is none of the {made.uses} uses of its module")
        return made


def candidates(network: nn.Module, layers: Sequence[str] | None) -> list[str]:
    """The names of the modules, or pairs of them, at which gates may stand.

    Args:
        layers: names or patterns (`model.layers.3.*`) of activations, other modules by their whole
            name, or pairs `before>after`. None takes every activation; of a model of transformers,
            those within its blocks, which are the MLPs' (a pooler's is none of them).

    Returns:
        none where None was given and no module is an activation.

    Raises:
        ModelError: a name is none of the network's; the sentence lists what was seen.
    """
    known = dict(network.named_modules())
    found = [name for name, module in known.items() if is_activation(module)]
    if layers is None:
        return _in_blocks(network, found)
    chosen: list[str] = []
    for wanted in layers:
        if "()" in wanted:
            continue
        if ">" in wanted:
            for name in wanted.split(">"):
                if name not in known:
                    raise ModelError(_unknown(wanted, name, known))
            named = [wanted]
        else:
            plain = wanted.partition("#")[0]
            named = [wanted] if plain in known else [n for n in found if fnmatchcase(n, wanted)]
        if not named:
            raise ModelError(_unknown(wanted, wanted, {name: known[name] for name in found}))
        chosen += [name for name in named if name not in chosen]
    return chosen


def is_activation(module: nn.Module) -> bool:
    """Whether a module is an activation of torch or of transformers."""
    if isinstance(module, ACTIVATIONS):
        return True
    kind = type(module)
    if not kind.__module__.startswith("transformers.activations"):
        return kind.__name__ in ("BloomGelu",)
    return kind.__name__ != "LinearActivation"


def _in_blocks(network: nn.Module, names: list[str]) -> list[str]:
    if not hasattr(network, "config"):
        return names
    heads = [f"{block}." for side in _sides(network) for block in side]
    return [name for name in names if name.startswith(tuple(heads))] if heads else names


def _sides(network: nn.Module) -> list[list[str]]:
    """The names of the blocks; of an encoder and a decoder both."""
    encoder_decoder = getattr(network.config, "is_encoder_decoder", False)
    sides = ("encoder", "decoder") if encoder_decoder else (None,)
    try:
        return [Stack.of(network, side=side).names for side in sides]
    except ModelError:
        return []


def no_activation(network: nn.Module) -> str:
    """That there is none, as a sentence."""
    layers = [name for name, one in network.named_modules() if hasattr(one, "weight") and name]
    return (
        f"this {type(network).__name__} has no activation, neither a module nor a call of a known "
        "function: make it a module such as nn.ReLU, or name the layers around it, "
        f"layers=['before>after']; seen: {_listed(layers)}"
    )


def _unknown(wanted: str, name: str, known: dict[str, nn.Module]) -> str:
    seen = [one for one in known if one]
    return f"layers has {wanted!r}, and there is no {name!r}; seen: {_listed(seen)}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(names[:SHOWN]) or "nothing") + more
