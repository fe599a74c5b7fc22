"""The catalog: a card for each method, made where the method is defined.

    @transform("angular-drop", title="...", paper="2403.00000")
    def angular_drop(model, data, *, keep: Annotated[int, Knob("blocks that stay", ge=1)]): ...

The decorator reads the signature, so that a new method is one module and nothing else is edited.
`cards()` reads an index that was made from the cards (`python -m stackwise.catalog`, checked in
CI) and imports no method; `Entry.load()` imports the one that is asked for. Other packages add
theirs through an entry point of the group `stackwise.methods` whose value is a module.
"""

import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
import pkgutil
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from stackwise.errors import KnobError, UnknownName, nearest
from stackwise.knobs import Knob, KnobSpec, ModelRef, check_values, knobs_of

__all__ = [
    "Card", "Entry", "Knob", "ModelRef", "baseline", "card", "cards", "check_knobs", "learner",
    "preset_values", "probe", "transform",
]  # fmt: skip

Kind = Literal["learner", "transform", "probe"]
VERBS = {
    "build": "what do I stack?",
    "train": "by which rule does the stack learn?",
    "grow": "how do I make it deeper?",
    "shrink": "how do I make it smaller or shallower?",
    "route": "in which order do the blocks run?",
    "adapt": "how do I change a frozen stack for new work?",
    "combine": "how do I join several models?",
    "probe": "what does each block do?",
}
BASELINES = ("stackwise.tasks.table.baselines", "stackwise.tasks.text.baselines")
"""Modules of learners that are no methods of ours, by task."""
INDEX = Path(__file__).with_name("index.json")
GROUP = "stackwise.methods"
OnDisk = Callable[..., bool]
T = TypeVar("T", bound=Callable[..., Any])
_NAMED = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass
class Entry:
    """One way into a method: an estimator class or a function.

    Attributes:
        kind: learner, transform or probe.
        target: where it is, "module:name".
        problem: what a learner predicts: classification, regression or None for both.
        knobs: its configuration, read off its signature.
    """

    kind: Kind
    target: str
    problem: str | None = None
    knobs: dict[str, KnobSpec] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name under which the top-level package offers it."""
        return self.target.partition(":")[2]

    def load(self) -> Any:
        """Import the method and return the class or the function."""
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)

    def check(self, values: Mapping[str, Any], *, texts: bool = False) -> dict[str, Any]:
        """Check knob values (words from a command line where `texts`); see `check_values`."""
        return check_values(self.name, self.knobs, values, texts=texts)


@dataclass
class Card:
    """What the catalog knows of a method.

    Attributes:
        verified: the test that holds it against the authors' own code.
        requires: optional packages that it needs, each with the extra that installs it.
        most_rows: training rows up to which a comparison takes it in by itself; None for any.
        variants: knob values by name, of which a comparison makes a contender each.
    """

    slug: str
    title: str
    verb: str
    summary: str
    paper: str | None = None
    tasks: tuple[str, ...] = ()
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)
    verified: str | None = None
    package: str = "stackwise"
    entries: list[Entry] = field(default_factory=list)
    requires: dict[str, str] = field(default_factory=dict)
    most_rows: int | None = None
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)

    def too_many(self, rows: int) -> str | None:
        """A sentence where a table has more training rows than this method is made for."""
        if self.most_rows is None or rows <= self.most_rows:
            return None
        return (
            f"{self.slug} is made for tables of at most {self.most_rows:,} training rows, this one "
            f"has {rows:,}; --method {self.slug} takes it in all the same"
        )

    @property
    def lacking(self) -> str | None:
        """What this method needs and is not installed, as a sentence; None where all is here."""
        for module, extra in self.requires.items():
            if importlib.util.find_spec(module) is None:
                return f"{self.slug} needs {module}: pip install 'stackwise[{extra}]'"
        return None

    @property
    def kinds(self) -> list[str]:
        """The kinds of its entries, each once, in their order."""
        return list(dict.fromkeys(entry.kind for entry in self.entries))

    def entry(self, kind: str, problem: str | None = None) -> Entry:
        """The entry of this kind, for this problem (binary and multiclass are classification)."""
        wanted = {"binary": "classification", "multiclass": "classification"}.get(
            problem or "", problem
        )
        of_kind = [entry for entry in self.entries if entry.kind == kind]
        if not of_kind:
            raise UnknownName(
                f"{self.slug} is a {' and a '.join(self.kinds)}, not a {kind}; "
                f"try 'stackwise show {self.slug}'"
            )
        for entry in of_kind:
            if wanted is None or entry.problem in (None, wanted):
                return entry
        raise UnknownName(f"{self.slug} does not serve {wanted}")

    def as_dict(self) -> dict[str, Any]:
        """The card as JSON, its knobs included."""
        record = asdict(self) | {"kinds": self.kinds, "tasks": list(self.tasks)}
        record["entries"] = [
            {
                "kind": entry.kind,
                "target": entry.target,
                "problem": entry.problem,
                "knobs": [spec.as_dict() for spec in entry.knobs.values()],
            }
            for entry in self.entries
        ]
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Card":
        """The inverse of `as_dict`."""
        entries = [
            Entry(
                kind=item["kind"],
                target=item["target"],
                problem=item["problem"],
                knobs={knob["name"]: KnobSpec.from_dict(knob) for knob in item["knobs"]},
            )
            for item in record["entries"]
        ]
        own = {key: value for key, value in record.items() if key not in ("kinds", "entries")}
        return cls(**own | {"tasks": tuple(record["tasks"]), "entries": entries})


_registered: dict[str, Card] = {}


def learner(
    slug: str,
    *,
    title: str,
    tasks: tuple[str, ...] = ("table",),
    problem: Literal["classification", "regression"] | None = None,
    paper: str | None = None,
    training: Mapping[str, Any] | None = None,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    verified: str | None = None,
    verb: str | None = None,
    requires: Mapping[str, str] | None = None,
    most_rows: int | None = None,
    variants: Mapping[str, Mapping[str, Any]] | None = None,
) -> Callable[[T], T]:
    """Register an estimator class.

    Its `__init__` takes keyword arguments (and before them positional ones, where scikit-learn's
    counterpart has them) and has an empty body. The decorator joins them
    with the shared ones (`cls.shared_knobs`, then `training_knobs` unless the class sets
    `uses_training_loop = False`), lets `training` override their defaults, and writes an
    `__init__` that stores them all, as scikit-learn asks.
    """

    def register(cls: T) -> T:
        _write_init(typing.cast(type, cls), training or {})
        of = _add(slug, title, "learner", cls, paper, tasks, presets, verified, verb, problem)
        of.requires |= dict(requires or {})
        of.most_rows = most_rows
        of.variants |= {name: dict(values) for name, values in (variants or {}).items()}
        return cls

    return register


def baseline(
    slug: str,
    *,
    title: str,
    tasks: tuple[str, ...] = ("table",),
    problem: Literal["classification", "regression"] | None = None,
    training: Mapping[str, Any] | None = None,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    requires: Mapping[str, str] | None = None,
) -> Callable[[T], T]:
    """Register a learner that is not a method of ours: every comparison includes it."""
    return learner(
        slug, title=title, tasks=tasks, problem=problem, training=training, presets=presets,
        verb="baseline", requires=requires,
    )  # fmt: skip


def transform(
    slug: str,
    *,
    title: str,
    paper: str | None = None,
    tasks: tuple[str, ...] = (),
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    verified: str | None = None,
    verb: str | None = None,
    on_disk: OnDisk | None = None,
) -> Callable[[T], T]:
    """Register a function `(model, data=None, *, knobs) -> model`. Its knobs are checked.

    Args:
        on_disk: does the same from a model folder to a new one, `(folder, out, **knobs)`, without
            opening the model; False where these knobs want it opened.
    """
    register = _function("transform", slug, title, paper, tasks, presets, verified, verb)

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
    tasks: tuple[str, ...] = (),
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    verified: str | None = None,
    verb: str | None = None,
) -> Callable[[T], T]:
    """Register a function `(model, data=None, *, knobs) -> Findings`. Its knobs are checked."""
    return _function("probe", slug, title, paper, tasks, presets, verified, verb)


def _function(
    kind: Kind,
    slug: str,
    title: str,
    paper: str | None,
    tasks: tuple[str, ...],
    presets: Mapping[str, Mapping[str, Any]] | None,
    verified: str | None,
    verb: str | None,
) -> Callable[[T], T]:
    def register(function: T) -> T:
        specs = knobs_of(function)
        others = set(inspect.signature(function).parameters) - set(specs)

        @functools.wraps(function)
        def checked(*args: Any, **given: Any) -> Any:
            values = {name: value for name, value in given.items() if name not in others}
            return function(*args, **given | check_values(slug, specs, values))

        _add(slug, title, kind, checked, paper, tasks, presets, verified, verb, None)
        return typing.cast(T, checked)

    return register


def _add(
    slug: str,
    title: str,
    kind: Kind,
    target: Any,
    paper: str | None,
    tasks: tuple[str, ...],
    presets: Mapping[str, Mapping[str, Any]] | None,
    verified: str | None,
    verb: str | None,
    problem: str | None,
) -> Card:
    module = target.__module__
    parts = module.split(".")
    if verb is None:
        if parts[0] != "stackwise" or len(parts) < 3:
            raise KnobError(
                f"{slug} is defined in {module}: name its verb, one of {', '.join(VERBS)}"
            )
        verb = parts[1]
    text = inspect.getdoc(target) or inspect.getdoc(sys.modules[module]) or title
    entry = Entry(kind, f"{module}:{target.__qualname__}", problem, knobs_of(_callable(target)))
    known = _registered.get(slug)
    if known is None or any(item.target == entry.target for item in known.entries):
        known = _registered[slug] = Card(
            slug=slug,
            title=title,
            verb=verb,
            summary=" ".join(text.split("\n\n")[0].split()),
            package=parts[0],
        )
    known.paper = known.paper or paper
    known.tasks = tuple(dict.fromkeys((*known.tasks, *tasks)))
    known.presets |= {name: dict(values) for name, values in (presets or {}).items()}
    known.verified = known.verified or verified
    known.entries.append(entry)
    target.__stackwise_slug__ = slug
    return known


def _callable(target: Any) -> Callable[..., Any]:
    return typing.cast(Callable[..., Any], target.__init__ if inspect.isclass(target) else target)


def _write_init(cls: type, overrides: Mapping[str, Any]) -> None:
    """Give `cls` an `__init__` that stores its own, the shared and the training knobs."""
    from stackwise.training.knobs import training_knobs

    parameters: dict[str, inspect.Parameter] = {}
    hints: dict[str, Any] = {}
    original = cls.__dict__.get("__init__") or cls.__init__  # type: ignore[misc]
    sources: list[Callable[..., Any]] = [original, *getattr(cls, "shared_knobs", ())]
    if getattr(cls, "uses_training_loop", True):
        sources.append(training_knobs)
    for source in sources:
        source_hints = getattr(source, "__knob_hints__", None)
        if source_hints is None:
            source_hints = typing.get_type_hints(source, include_extras=True)
        for name, parameter in inspect.signature(source).parameters.items():
            if name == "self" or name in parameters or parameter.kind not in _NAMED:
                continue
            default = overrides.get(name, parameter.default)
            parameters[name] = parameter.replace(default=default)
            hints[name] = source_hints.get(name, Any)
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
    __init__.__signature__ = inspect.Signature([own, *parameters.values()])  # type: ignore[attr-defined]
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
    """The knob values that a preset names. `standard` is the defaults where the card has none."""
    if preset is None or (preset == "standard" and preset not in of.presets):
        return {}
    if preset not in of.presets and preset not in ("quick", "best"):
        names = sorted({*of.presets, "quick", "standard", "best"})
        raise KnobError(f"{of.slug} has no preset {preset!r}.{nearest(preset, names)}")
    values = of.presets.get(preset, {})
    # a card's entries of several kinds share its presets: each takes the knobs that it has
    elsewhere = {name for other in of.entries for name in other.knobs} - set(entry.knobs)
    return entry.check({name: v for name, v in values.items() if name not in elsewhere})


def cards(*, baselines: bool = True) -> dict[str, Card]:
    """Every card by slug: this library's from the index, other packages' from the cache."""
    found = dict(_own_cards())
    for point in importlib.metadata.entry_points(group=GROUP):
        found |= {item.slug: item for item in _outside_cards(point)}
    return {slug: of for slug, of in found.items() if baselines or of.verb != "baseline"}


def card(slug: str) -> Card:
    """The card of `slug`; `UnknownName` names the nearest one."""
    known = cards()
    if slug not in known:
        raise UnknownName(f"there is no method {slug!r}.{nearest(slug, known)}")
    return known[slug]


@functools.cache
def _own_cards() -> dict[str, Card]:
    records = json.loads(INDEX.read_text(encoding="utf-8")) if INDEX.exists() else []
    return {record["slug"]: Card.from_dict(record) for record in records}


def cache_folder() -> Path:
    """Where stackwise keeps what it can make again: STACKWISE_CACHE or the user's cache folder."""
    given = os.environ.get("STACKWISE_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stackwise"


def _outside_cards(point: importlib.metadata.EntryPoint) -> list[Card]:
    """The cards of another package, kept in the cache by its name, version and file's time."""
    from stackwise.files import write_json

    dist = point.dist
    spec = importlib.util.find_spec(point.value)
    origin = spec.origin if spec and spec.origin else ""
    stamp = os.stat(origin).st_mtime_ns if origin and os.path.exists(origin) else 0
    key = (
        f"{dist.name if dist else ''} {dist.version if dist else ''} {point.value} {origin} {stamp}"
    )
    path = cache_folder() / "methods" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    if path.exists():
        return [Card.from_dict(record) for record in json.loads(path.read_text(encoding="utf-8"))]
    importlib.import_module(point.value)
    top = point.value.partition(".")[0]
    found = [of for of in _registered.values() if of.package == top]
    write_json(path, [of.as_dict() for of in found])
    return found


def collect() -> list[Card]:
    """Import every module under the verbs, and the baselines, and return their cards."""
    import stackwise

    for verb in VERBS:
        for root in stackwise.__path__:
            for module in pkgutil.iter_modules([os.path.join(root, verb)]):
                importlib.import_module(f"stackwise.{verb}.{module.name}")
    for name in BASELINES:
        importlib.import_module(name)
    found = [of for of in _registered.values() if of.package == "stackwise"]
    return sorted(found, key=lambda of: (of.verb == "baseline", of.slug))


def index_text() -> str:
    """The text of the index file, made from the cards."""
    from stackwise.files import plain

    return json.dumps(plain([of.as_dict() for of in collect()]), indent=1) + "\n"


if __name__ == "__main__":
    from stackwise.files import write_text

    # this module under its own name, which is where the methods register themselves
    catalog = importlib.import_module("stackwise.catalog")

    made = catalog.index_text()
    if "--check" in sys.argv:
        if not INDEX.exists() or INDEX.read_text(encoding="utf-8") != made:
            sys.exit("src/stackwise/index.json is not up to date: run 'make index'")
    else:
        write_text(INDEX, made)
