"""The decorators that make cards: each reads the signature of what it stands above."""

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from stackwise.catalog.cards import FURTHER_VERBS, MODEL_KINDS, VERBS, Card, Entry, Kind, TaskCard
from stackwise.catalog.describing import plain_parameters, with_parameters
from stackwise.errors import KnobError, nearest
from stackwise.knobs import argument_hints, check_values, knobs_of

OnDisk = Callable[..., bool]
Presets = Mapping[str, Mapping[str, Any]] | None
T = TypeVar("T", bound=Callable[..., Any])
_NAMED = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

_cards: dict[str, Card] = {}
_tasks: dict[str, TaskCard] = {}


def registered_cards() -> dict[str, Card]:
    """The cards of all methods whose modules were imported."""
    return _cards


def registered_tasks() -> dict[str, TaskCard]:
    """The cards of all tasks whose modules were imported."""
    return _tasks


def task(
    *,
    title: str,
    recognises: Callable[[Any], float],
    sample: str = "data",
    class_sample: str | None = None,
    first: bool = False,
) -> Callable[[T], T]:
    """Register a task's class; its `name` is what the catalog calls it.

    Args:
        recognises: source -> how sure it is that this is the task's, 0 to 1. A function of a
            module that imports nothing heavy: it is asked before anything is read.
        sample: how a command of the documentation names such data. class_sample: the same with
            classes to predict, where `sample` has none.
        first: records of before tasks had names are of this one.
    """

    def register(cls: T) -> T:
        found: Any = cls
        name = str(found.name)
        _tasks[name] = TaskCard(
            name=name,
            title=title,
            summary=_summary(cls, title),
            target=_target(cls),
            marks=_target(recognises),
            options=knobs_of(found.load),
            predict=knobs_of(found.write_predictions),
            ending=str(found.ending),
            sample=sample,
            class_sample=class_sample,
            first=first,
            package=cls.__module__.partition(".")[0],
        )
        found.recognises = staticmethod(recognises)
        return cls

    return register


def learner(
    slug: str,
    *,
    title: str,
    tasks: Sequence[str] | None = None,
    problem: Literal["classification", "regression"] | None = None,
    paper: str | None = None,
    cost: str = "",
    training: Mapping[str, Any] | None = None,
    presets: Presets = None,
    verified: str | None = None,
    verb: str | None = None,
    requires: Mapping[str, str] | None = None,
    missing: Callable[[], str | None] | None = None,
    most_rows: int | None = None,
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    names: Mapping[str, str] | None = None,
) -> Callable[[T], T]:
    """Register an estimator class.

    Its `__init__` takes keyword arguments (and before them positional ones, where scikit-learn's
    counterpart has them) and has an empty body. The decorator joins them with the shared ones
    (`cls.shared_knobs`: functions whose signatures count), lets `training` override their
    defaults, and writes an `__init__` that stores them all, as scikit-learn asks. What a kind of
    learners shares, its base class says: `tasks`, `budget` (the knob that says how long it learns)
    `verbs` (methods such as `generate`, whose typed arguments become options) and `exporter`.

    Args:
        tasks: those that it serves, where not the base class's.
        cost: what it costs, in a few words; for the chooser of the documentation.
        missing: what else it needs and is not here, "what: the command that brings it", or None. A
            function of a module that imports nothing heavy.
        variants: knob values by name, each a contender of a comparison; the name "" is the method
            as it is, beside its variants.
    """

    def register(cls: T) -> T:
        made: Any = cls
        own = knobs_of(made.__init__)
        write_init(made, training or {})
        made.__doc__ = with_parameters(cls.__doc__, knobs_of(made.__init__), own)
        entry = Entry(
            "learner", _target(cls), problem, tuple(getattr(made, "tasks", ()) if tasks is None
                                                    else tasks), knobs_of(made.__init__),
            budget=getattr(made, "budget", None), floor=dict(getattr(made, "floor", {})),
            verbs=_verbs_of(made), exporter=getattr(made, "exporter", None),
            wraps=hasattr(made, "around"),
        )  # fmt: skip
        of = _add(_Said(slug, title, paper, cost, presets, verified, verb), cls, entry)
        of.requires |= dict(requires or {})
        of.missing = of.missing or (missing and _target(missing))
        of.most_rows = most_rows
        of.variants |= {name: dict(values) for name, values in (variants or {}).items()}
        of.names |= dict(names or {})
        return cls

    return register


def baseline(
    slug: str,
    *,
    title: str,
    tasks: Sequence[str] | None = None,
    problem: Literal["classification", "regression"] | None = None,
    training: Mapping[str, Any] | None = None,
    presets: Presets = None,
    requires: Mapping[str, str] | None = None,
    missing: Callable[[], str | None] | None = None,
    variants: Mapping[str, Mapping[str, Any]] | None = None,
) -> Callable[[T], T]:
    """Register a learner that is not a method of ours: every comparison includes it."""
    return learner(
        slug, title=title, tasks=tasks, problem=problem, training=training, presets=presets,
        verb="baseline", requires=requires, missing=missing, variants=variants,
    )  # fmt: skip


def ensemble(
    slug: str, *, title: str, tasks: Sequence[str] = (), verb: str | None = "baseline"
) -> Callable[[T], T]:
    """Register a class of learners that are made of fitted ones: commands make them.

    One with a class method `join(task, members, seed=...)` joins finished runs, for --stack.
    """

    def register(cls: T) -> T:
        joins = hasattr(cls, "join")
        entry = Entry("ensemble", _target(cls), tasks=tuple(tasks), joins=joins)
        _add(_Said(slug, title, verb=verb), cls, entry)
        return cls

    return register


def transform(
    slug: str,
    *,
    title: str,
    paper: str | None = None,
    tasks: Sequence[str] = (),
    takes: Sequence[str] = MODEL_KINDS,
    having: str = "",
    gives: str = "same",
    cost: str = "",
    presets: Presets = None,
    verified: str | None = None,
    verb: str | None = None,
    shared: Sequence[Callable[..., Any]] = (),
    on_disk: OnDisk | None = None,
    budget: str | None = None,
    floor: Mapping[str, Any] | None = None,
) -> Callable[[T], T]:
    """Register a function `(model, data=None, *, knobs) -> model`. Its knobs are checked.

    Args:
        tasks: those that its data may be; empty for any on which a module can be trained.
        takes: the kinds of models that it takes, of `MODEL_KINDS`. gives: what comes out, of
            these, or "same", or "delta" where it is a small change beside the model.
        cost: what it costs, in a few words.
        shared: functions whose knobs it takes besides its own, for example `seeded`; the function
            gets them as keyword arguments.
        having: what a model must have, in words such as "recurrent layers"; one
            that has it not is refused with a ModelError.
        on_disk: does the same from a model folder to a new one, `(folder, out, **knobs)`, without
            opening the model; False where these knobs want it opened.
        budget, floor: the knob that says how long it trains, and knob values under those of every
            preset, unless the user gives that knob.
    """
    about: dict[str, Any] = {
        "takes": tuple(takes), "having": having, "gives": gives, "tasks": tuple(tasks),
        "budget": budget, "floor": dict(floor or {}),
    }  # fmt: skip
    said = _Said(slug, title, paper, cost, presets, verified, verb)
    register = _function("transform", said, about, shared)

    def with_files(function: T) -> T:
        checked: Any = register(function)
        checked.on_disk = on_disk
        return typing.cast(T, checked)

    return with_files


def probe(
    slug: str,
    *,
    title: str,
    paper: str | None = None,
    tasks: Sequence[str] = (),
    takes: Sequence[str] = MODEL_KINDS,
    having: str = "",
    reads: Literal["task", "source"] = "task",
    cost: str = "",
    presets: Presets = None,
    verified: str | None = None,
    verb: str | None = None,
    shared: Sequence[Callable[..., Any]] = (),
) -> Callable[[T], T]:
    """Register a function `(model, data=None, *, knobs) -> Findings`. Its knobs are checked.

    Args:
        having: what a model must have, as for `transform`.
        reads: "source" where it reads a file by itself and is not given a task.
    """
    about = {"takes": tuple(takes), "having": having, "tasks": tuple(tasks), "reads": reads}
    said = _Said(slug, title, paper, cost, presets, verified, verb)
    return _function("probe", said, about, shared)


@dataclass(frozen=True)
class _Said:
    """What a decorator says of a method's card."""

    slug: str
    title: str
    paper: str | None = None
    cost: str = ""
    presets: Presets = None
    verified: str | None = None
    verb: str | None = None


def _function(
    kind: Kind, said: _Said, about: Mapping[str, Any], shared: Sequence[Callable[..., Any]]
) -> Callable[[T], T]:
    def register(function: T) -> T:
        parameters, hints = _joined(function, shared, {})
        given_by_us = {name for source in shared for name in knobs_of(source)}
        defaults = {name: one.default for name, one in parameters.items() if name in given_by_us}

        @functools.wraps(function)
        def checked(*args: Any, **given: Any) -> Any:
            values = {name: value for name, value in given.items() if name not in others}
            return function(*args, **defaults | given | check_values(said.slug, specs, values))

        checked.__signature__ = inspect.Signature(plain_parameters(parameters))  # type: ignore[attr-defined]
        checked.__knob_hints__ = hints  # type: ignore[attr-defined]
        specs = knobs_of(checked)
        others = set(parameters) - set(specs)
        entry = Entry(kind, _target(function), None, knobs=specs, **about)
        strange = sorted(set(entry.takes) - set(MODEL_KINDS))
        if strange:
            raise KnobError(f"{said.slug} takes {strange[0]!r}; kinds are {', '.join(MODEL_KINDS)}")
        _add(said, checked, entry)
        return typing.cast(T, checked)

    return register


def _add(said: _Said, target: Any, entry: Entry) -> Card:
    module, slug, verb = target.__module__, said.slug, said.verb
    parts = module.split(".")
    if verb is None:
        if parts[0] != "stackwise" or len(parts) < 3:
            raise KnobError(
                f"{slug} is defined in {module}: name its verb, one of {', '.join(VERBS)}"
            )
        verb = parts[1]
    known = _cards.get(slug)
    if known is None or any(item.target == entry.target for item in known.entries):
        known = _cards[slug] = Card(
            slug=slug, title=said.title, verb=verb, summary=_summary(target, said.title),
            package=parts[0],
        )  # fmt: skip
    known.paper = known.paper or said.paper
    known.cost = known.cost or said.cost
    presets = {name: dict(values) for name, values in (said.presets or {}).items()}
    if known.presets and presets and presets != known.presets:
        entry.presets = presets  # on other data other values serve
    else:
        known.presets |= presets
    known.verified = known.verified or said.verified
    known.entries.append(entry)
    target.__stackwise_slug__ = slug
    return known


def _target(thing: Any) -> str:
    return f"{thing.__module__}:{thing.__qualname__}"


def _summary(target: Any, title: str) -> str:
    text = inspect.getdoc(target) or inspect.getdoc(sys.modules[target.__module__]) or title
    return " ".join(text.split("\n\n")[0].split())


def _verbs_of(cls: Any) -> dict[str, Any]:
    """The options of each further verb that a learner has."""
    strange = sorted(set(getattr(cls, "verbs", ())) - set(FURTHER_VERBS))
    if strange:
        raise KnobError(f"{cls.__name__} has the verb {strange[0]!r}; there is {FURTHER_VERBS}")
    return {verb: knobs_of(getattr(cls, verb)) for verb in getattr(cls, "verbs", ())}


def _callable(target: Any) -> Callable[..., Any]:
    return typing.cast(Callable[..., Any], target.__init__ if inspect.isclass(target) else target)


def _joined(
    own: Callable[..., Any], shared: Sequence[Callable[..., Any]], overrides: Mapping[str, Any]
) -> tuple[dict[str, inspect.Parameter], dict[str, Any]]:
    """The arguments of a function and the shared ones. A shared knob that the function names itself
    is its own where it says what it means, and the shared one where it only takes it.
    """
    parameters: dict[str, inspect.Parameter] = {}
    hints: dict[str, Any] = {}
    described = set(knobs_of(own))
    for source in (own, *shared):
        source_hints = argument_hints(source)
        for name, parameter in inspect.signature(source).parameters.items():
            known = name in described if source is not own else name in parameters
            if name == "self" or known or parameter.kind not in _NAMED:
                continue
            described |= {name} if source is not own else set()
            default = overrides.get(name, parameter.default)
            parameters[name] = parameter.replace(default=default)
            hints[name] = source_hints.get(name, Any)
    return parameters, hints


def write_init(cls: type, overrides: Mapping[str, Any]) -> None:
    """Give `cls` an `__init__` that stores its own knobs and those of its `shared_knobs`."""
    original = cls.__dict__.get("__init__") or cls.__init__  # type: ignore[misc]
    parameters, hints = _joined(original, getattr(cls, "shared_knobs", ()), overrides)
    unknown = set(overrides) - set(parameters)
    if unknown:
        raise KnobError(f"{cls.__name__} overrides {sorted(unknown)}, which it does not have")

    positional = [name for name, one in parameters.items() if one.kind is not one.KEYWORD_ONLY]

    def __init__(self: Any, *placed: Any, **given: Any) -> None:
        if len(placed) > len(positional):
            raise TypeError(f"{cls.__name__} takes its knobs by name, such as random_state=0")
        for name in given:
            if name not in parameters:
                raise TypeError(f"{cls.__name__} has no knob {name!r}.{nearest(name, parameters)}")
            if name in positional[: len(placed)]:
                raise TypeError(f"{cls.__name__} got the knob {name!r} twice")
        given |= zip(positional, placed, strict=False)
        for name, parameter in parameters.items():
            if parameter.default is parameter.empty and name not in given:
                raise TypeError(f"{cls.__name__} needs the knob {name!r}")
        for name, parameter in parameters.items():
            setattr(self, name, given.get(name, parameter.default))

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    plain = plain_parameters(parameters)
    __init__.__signature__ = inspect.Signature([own, *plain])  # type: ignore[attr-defined]
    __init__.__knob_hints__ = hints  # type: ignore[attr-defined]
    __init__.__qualname__ = f"{cls.__qualname__}.__init__"
    __init__.__doc__ = original.__doc__
    cls.__init__ = __init__  # type: ignore[misc]


def check_knobs(owner: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Check `values` against the knobs of a learner (instance or class) or of a function.

    Values of arguments that are no knobs pass through unchanged.

    Raises:
        KnobError: a value is out of its bounds, not a choice, or of another type.
    """
    target = owner if inspect.isclass(owner) or inspect.isfunction(owner) else type(owner)
    specs = knobs_of(_callable(target))
    known = {name: value for name, value in values.items() if name in specs}
    return {**values, **check_values(target.__name__, specs, known)}


def preset_values(of: Card, preset: str | None, entry: Entry) -> dict[str, Any]:
    """The knob values that a preset names: `standard` where none is named, which is the defaults
    where the card has none.
    """
    preset = preset or "standard"
    if preset == "standard" and preset not in of.presets:
        return {}
    if preset not in of.presets and preset not in ("quick", "best"):
        names = sorted({*of.presets, "quick", "standard", "best"})
        raise KnobError(f"{of.slug} has no preset {preset!r}.{nearest(preset, names)}")
    values = (entry.presets or of.presets).get(preset, {})
    # a card's entries of several kinds share its presets: each takes the knobs that it has
    elsewhere = {name for other in of.entries for name in other.knobs} - set(entry.knobs)
    return entry.check({name: v for name, v in values.items() if name not in elsewhere})
