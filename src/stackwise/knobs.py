"""Knobs: the typed keyword arguments that configure a method.

A method has no configuration class: its signature is its configuration. An argument becomes a
knob by its annotation,

    k: Annotated[int, Knob("members of the ensemble", ge=1)] = 32

and everything else is derived from it: the command line's `--set k=16`, the check of its bounds,
the table in the docs, the tuning space and the record of a run.
"""

import inspect
import json
import math
import numbers
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union

from stackwise.errors import KnobError, nearest


class ModelRef:
    """The type of a knob that takes a model: a run, a model folder or an object."""


@dataclass(frozen=True)
class Knob:
    """What an argument means and which values it takes.

    Args:
        help: one line, lower case, without a full stop.
        ge, gt, le, lt: bounds of a number (at least, above, at most, below).
        log: the natural scale is logarithmic.
        search: values that tuning tries: (low, high) of a number, or a tuple of choices.
        short: a letter for a command line, `short="k"` for `-k`.
        role: of a task's option: it names what is predicted, VALUE of SOURCE:VALUE.
    """

    help: str
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    log: bool = False
    search: tuple[Any, ...] | None = None
    short: str | None = None
    role: bool = False

    def problem_with(self, value: float) -> str | None:
        """Say which bound `value` breaks, or None."""
        bounds: tuple[tuple[float | None, str, bool], ...] = (
            (self.ge, "at least", self.ge is None or value >= self.ge),
            (self.gt, "above", self.gt is None or value > self.gt),
            (self.le, "at most", self.le is None or value <= self.le),
            (self.lt, "below", self.lt is None or value < self.lt),
        )
        if all(fine for _, _, fine in bounds):
            return None
        return " and ".join(f"{word} {bound:g}" for bound, word, _ in bounds if bound is not None)


@dataclass(frozen=True)
class KnobSpec:
    """A knob as read from a signature.

    Attributes:
        types: names of the accepted types: int, float, bool, str, list, dict, model, models (a list
            of them), any.
        choices: words that are accepted beside (or in place of) the types.
        optional: None is accepted.
        required: the argument has no default.
    """

    name: str
    knob: Knob
    types: tuple[str, ...]
    choices: tuple[Any, ...] = ()
    optional: bool = False
    required: bool = False
    default: Any = None

    def describe(self) -> str:
        """The accepted values in words: `int, at least 1`, `constant or cosine`."""
        words = [", ".join(str(choice) for choice in self.choices)] if self.choices else []
        words += [name for name in self.types if name != "any"]
        text = " or ".join(word for word in words if word) or "any value"
        bounds = [
            f"{word} {bound:g}"
            for word, bound in (
                ("at least", self.knob.ge),
                ("above", self.knob.gt),
                ("at most", self.knob.le),
                ("below", self.knob.lt),
            )
            if bound is not None
        ]
        return ", ".join([text, *bounds]) + (" or none" if self.optional else "")

    def as_dict(self) -> dict[str, Any]:
        """The knob as JSON: what `stackwise show --json` prints and the index keeps."""
        return {
            "name": self.name,
            "help": self.knob.help,
            "types": list(self.types),
            "choices": list(self.choices),
            "optional": self.optional,
            "required": self.required,
            "default": self.default if _is_plain(self.default) else repr(self.default),
            **{
                bound: value
                for bound in ("ge", "gt", "le", "lt", "log", "search", "short", "role")
                if (value := getattr(self.knob, bound)) is not None and value is not False
            },
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "KnobSpec":
        """The inverse of `as_dict`."""
        bounds = {key: record.get(key) for key in ("ge", "gt", "le", "lt")}
        search = record.get("search")
        return cls(
            name=record["name"],
            knob=Knob(
                record["help"],
                **bounds,
                log=record.get("log", False),
                search=None if search is None else tuple(search),
                short=record.get("short"),
                role=record.get("role", False),
            ),
            types=tuple(record["types"]),
            choices=tuple(record["choices"]),
            optional=record["optional"],
            required=record["required"],
            default=record["default"],
        )

    def check(self, value: Any) -> Any:
        """Return `value` as its own Python type; raise `KnobError` where it does not fit."""
        if value is None and self.optional:
            return None
        if any(
            value is choice or (type(value) is type(choice) and value == choice)
            for choice in self.choices
        ):
            return value
        fitting = _fit(value, self.types)
        if fitting is _NO_FIT:
            raise KnobError(f"{self.name} must be {self.describe()}, got {value!r}")
        if isinstance(fitting, numbers.Real) and not isinstance(fitting, bool):
            problem = self.knob.problem_with(float(fitting))
            if problem:
                raise KnobError(f"{self.name} must be {problem}, got {value!r}")
        return fitting

    def parse(self, text: str) -> Any:
        """Read the text of `--set name=text` and check it."""
        if text.lower() in ("none", "null", "") and self.optional:
            return None
        for choice in self.choices:
            if text == str(choice):
                return choice
        for name in self.types:
            if name == "list" and "str" in self.types and not set("[,") & set(text):
                continue  # a bare word is no list of one
            value = _READERS[name](text)
            if value is not _NO_FIT:
                return self.check(value)
        raise KnobError(f"{self.name} must be {self.describe()}, got {text!r}")


_NO_FIT: Any = object()


def _is_plain(value: Any) -> bool:
    return isinstance(value, (type(None), bool, int, float, str, list, tuple, dict))


def _fit(value: Any, names: Iterable[str]) -> Any:
    for name in names:
        if name == "bool" and (
            isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")
        ):
            return bool(value)
        if isinstance(value, bool) and name in ("int", "float"):
            continue
        if name == "int" and isinstance(value, numbers.Integral):
            return int(value)
        if name == "float" and isinstance(value, numbers.Real) and not math.isnan(value):
            return float(value)
        if name == "str" and isinstance(value, str):
            return value
        if name in ("list", "models") and isinstance(value, (list, tuple)):
            return list(value)
        if name == "dict" and isinstance(value, Mapping):
            return dict(value)
        if name in ("model", "any"):
            return value
    return _NO_FIT


def _read_with(reader: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return reader(text)
        except ValueError:
            return _NO_FIT

    return read


def _read_bool(text: str) -> Any:
    return {
        "true": True,
        "yes": True,
        "1": True,
        "on": True,
        "false": False,
        "no": False,
        "0": False,
        "off": False,
    }.get(text.lower(), _NO_FIT)


def _read_list(text: str) -> Any:
    if text.startswith("["):
        return _read_with(json.loads)(text)
    return [_read_scalar(part.strip()) for part in text.split(",") if part.strip()]


def _read_texts(text: str) -> Any:
    if text.startswith("["):
        return _read_with(json.loads)(text)
    return [part.strip() for part in text.split(",") if part.strip()]


def _read_scalar(text: str) -> Any:
    for reader in (_read_with(int), _read_with(float)):
        value = reader(text)
        if value is not _NO_FIT:
            return value
    return text


_READERS: dict[str, Callable[[str], Any]] = {
    "int": _read_with(int),
    "float": _read_with(float),
    "bool": _read_bool,
    "str": str,
    "list": _read_list,
    "dict": _read_with(json.loads),
    "model": str,
    "models": _read_texts,
    "any": _read_scalar,
}


@dataclass
class _Parts:
    """What an annotation is made of."""

    knob: Knob | None = None
    types: list[str] = field(default_factory=list)
    choices: list[Any] = field(default_factory=list)
    optional: bool = False


def _take_apart(annotation: Any, parts: _Parts) -> _Parts:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        inner, *extras = typing.get_args(annotation)
        parts.knob = next((extra for extra in extras if isinstance(extra, Knob)), parts.knob)
        return _take_apart(inner, parts)
    if origin is Literal:
        parts.choices += typing.get_args(annotation)
    elif origin in (Union, types.UnionType):
        for inner in typing.get_args(annotation):
            _take_apart(inner, parts)
    elif annotation in (None, type(None)):
        parts.optional = True
    elif annotation in (int, float, bool, str):
        parts.types.append(annotation.__name__)
    elif annotation is ModelRef:
        parts.types.append("model")
    elif (origin or annotation) in (list, tuple) or origin in _SEQUENCES:
        parts.types.append("models" if ModelRef in typing.get_args(annotation) else "list")
    elif (origin or annotation) is dict or origin in _MAPPINGS:
        parts.types.append("dict")
    else:
        parts.types.append("any")
    return parts


_SEQUENCES = tuple(typing.get_origin(t) for t in (typing.Sequence[int], typing.Iterable[int]))
_MAPPINGS = tuple(typing.get_origin(t) for t in (typing.Mapping[str, int],))


def argument_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function's arguments, their names looked up where it is defined. What
    it returns is not looked at: a class method may name the class that is still being made.
    """
    ready: dict[str, Any] | None = getattr(function, "__knob_hints__", None)
    if ready is not None:
        return ready
    plain = inspect.unwrap(getattr(function, "__func__", function))
    given = {n: a for n, a in getattr(plain, "__annotations__", {}).items() if n != "return"}
    arguments = types.SimpleNamespace(__annotations__=given)
    names = getattr(plain, "__globals__", {})
    return typing.get_type_hints(arguments, globalns=names, include_extras=True)


def knobs_of(function: Callable[..., Any]) -> dict[str, KnobSpec]:
    """Read the knobs off a signature. Arguments whose annotation holds no `Knob` are left out."""
    hints = argument_hints(function)
    specs = {}
    for name, parameter in inspect.signature(function).parameters.items():
        parts = _take_apart(hints[name], _Parts()) if name in hints else _Parts()
        if parts.knob is None:
            continue
        order = {"bool": 0, "int": 1, "float": 2, "list": 3, "models": 3, "dict": 3, "model": 4,
                 "str": 5}  # fmt: skip
        required = parameter.default is parameter.empty
        specs[name] = KnobSpec(
            name=name,
            knob=parts.knob,
            types=tuple(sorted(parts.types, key=lambda word: order.get(word, 9))),
            choices=tuple(parts.choices),
            optional=parts.optional,
            required=required,
            default=None if required else parameter.default,
        )
    return specs


def check_values(
    owner: str, specs: Mapping[str, KnobSpec], values: Mapping[str, Any], *, texts: bool = False
) -> dict[str, Any]:
    """Check values against their knobs and return them in their own types.

    Args:
        owner: the method's name, for the error.
        texts: the values are words from a command line and are read first.

    Raises:
        KnobError: an unknown knob (the nearest one is named with its range) or a bad value.
    """
    checked = {}
    for name, value in values.items():
        if name not in specs:
            hint = nearest(name, specs)
            close = hint.removeprefix(" Did you mean '").removesuffix("'?")
            if close in specs:
                hint += f" ({specs[close].knob.help}; {specs[close].describe()})"
            raise KnobError(f"{owner} has no knob {name!r}.{hint}")
        spec = specs[name]
        several = isinstance(value, list) and all(isinstance(one, str) for one in value)
        if texts and several and set(spec.types) & {"int", "float"}:
            value = ",".join(value)  # a number or several: an option given once, or repeated
        checked[name] = spec.parse(value) if texts and isinstance(value, str) else spec.check(value)
    return checked
