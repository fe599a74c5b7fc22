"""Keep the arguments that a network was made with, so that a saved one can be made again.

    @keeps_arguments
    class Plain(nn.Module):
        def __init__(self, *, inputs: int, width: int = 64) -> None: ...

    Plain(inputs=3).arguments        {"inputs": 3, "width": 64}

`type(network)(**network.arguments)` is the same network before training. A file names the class by
its place, and that is looked up in `NETWORKS`, among the classes that were decorated so: nothing
else that can be imported is ever made of a file.

A method may put a module of its own in the place of one of a network's (`put_part`); such parts are
decorated too, and a file of the network names them beside it (`parts_of`, `with_parts`).
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch import nn

T = TypeVar("T", bound=type[nn.Module])
NETWORKS: dict[str, type[nn.Module]] = {}
"""The networks that a file may name, by `place_of`, as far as their modules are imported."""


def place_of(cls: type) -> str:
    """What a file calls the class of a network."""
    return f"{cls.__module__}:{cls.__qualname__}"


def keeps_arguments(cls: T) -> T:
    """Let each module of a class hold its constructor's arguments, as plain JSON, in `arguments`.

    They are there before the body of the constructor runs, defaults included.
    """
    made: Any = cls
    original = made.__init__
    signature = inspect.signature(original)

    @functools.wraps(original)
    def __init__(self: Any, *placed: Any, **given: Any) -> None:
        bound = signature.bind(self, *placed, **given)
        bound.apply_defaults()
        _, *values = bound.arguments.items()
        # past nn.Module's own setter, which wants its constructor first
        object.__setattr__(self, "arguments", {name: _as_json(value) for name, value in values})
        original(self, *placed, **given)

    made.__init__ = __init__
    NETWORKS[place_of(cls)] = cls
    return cls


def put_part(network: nn.Module, name: str, part: nn.Module) -> None:
    """Put a module that keeps its arguments in the place of the network's module `name`."""
    network.set_submodule(name, part)
    names = [one for one in getattr(network, "put_parts", []) if one != name]
    object.__setattr__(network, "put_parts", [*names, name])


def parts_of(network: nn.Module) -> list[dict[str, Any]]:
    """The parts that were put into a network, as JSON: name, class and arguments of each."""
    found: list[dict[str, Any]] = []
    for name in getattr(network, "put_parts", []):
        part: Any = network.get_submodule(name)
        found.append({"name": name, "class": place_of(type(part)), "arguments": part.arguments})
    return found


def with_parts(
    network: nn.Module,
    parts: Sequence[Mapping[str, Any]],
    class_of: Callable[[Any], type[nn.Module]],
) -> nn.Module:
    """A network just made, with the parts that `parts_of` named, made anew.

    Args:
        class_of: the class that a file names.
    """
    for part in parts:
        put_part(network, part["name"], class_of(part["class"])(**part["arguments"]))
    return network


def _as_json(value: Any) -> Any:
    """Sequences as lists, all the way down; anything else as it is."""
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    return value
