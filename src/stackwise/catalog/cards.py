"""The cards: what the catalog knows of a method and of a task, without importing either."""

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from stackwise.errors import UnknownName
from stackwise.knobs import KnobSpec, check_values

Kind = Literal["learner", "transform", "probe", "ensemble"]
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
FURTHER_VERBS = ("generate", "search", "transform", "serve")
"""What a learner may do besides `fit` and `predict`; a card says which."""
MODEL_KINDS = ("learner", "decoder", "encoder", "vision", "module")
"""Kinds of models that a transform or a probe may take, and a transform may give."""


def load_target(target: str) -> Any:
    """Import what "module:name" names."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


@dataclass
class Entry:
    """One way into a method: an estimator class or a function.

    Attributes:
        kind: learner, transform, probe, or ensemble: a learner that is made of fitted ones, which
            commands make and load, and nobody fits by its name.
        target: where it is, "module:name".
        problem: what a learner predicts: classification, regression or None for both.
        tasks: those that a learner serves, or that a transform or a probe reads its data as.
        knobs: its configuration, read off its signature.
        budget: the knob that says how long it learns; None where it looks once.
        floor: knob values under those of every preset, unless the budget is given.
        verbs: what it does besides, each with its options: `generate`, `search`, ...
        exporter: where the function is that writes a fitted learner as ONNX, or None.
        wraps: a learner that can be put around a bare model, by `around`.
        joins: an ensemble that joins finished runs of a comparison, by `join`.
        takes: the kinds of models that a transform or a probe takes. gives: what a transform
            makes of them; "same" for a model of the kind that it took, "delta" for a change of it.
        having: what a model of these kinds must have, in words ("recurrent layers"); "" is nothing.
        reads: "task" where its data is a task; "source" where it reads a file by itself.
        presets: its own, by name, where they differ from those of the card.
    """

    kind: Kind
    target: str
    problem: str | None = None
    tasks: tuple[str, ...] = ()
    knobs: dict[str, KnobSpec] = field(default_factory=dict)
    budget: str | None = None
    floor: dict[str, Any] = field(default_factory=dict)
    verbs: dict[str, dict[str, KnobSpec]] = field(default_factory=dict)
    exporter: str | None = None
    wraps: bool = False
    joins: bool = False
    takes: tuple[str, ...] = ()
    gives: str = "same"
    having: str = ""
    reads: Literal["task", "source"] = "task"
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name under which the top-level package offers it."""
        return self.target.partition(":")[2]

    def load(self) -> Any:
        """Import the method and return the class or the function."""
        return load_target(self.target)

    def check(self, values: Mapping[str, Any], *, texts: bool = False) -> dict[str, Any]:
        """Check knob values (words from a command line where `texts`); see `check_values`."""
        return check_values(self.name, self.knobs, values, texts=texts)

    def serves(self, task: str | None, problem: str | None) -> bool:
        """Whether it does this task and this problem (None: whatever they are)."""
        wanted = {"binary": "classification", "multiclass": "classification"}.get(
            problem or "", problem
        )
        right_task = task is None or not self.tasks or task in self.tasks
        return right_task and (wanted is None or self.problem in (None, wanted))

    def as_dict(self) -> dict[str, Any]:
        """The entry as JSON."""
        return {
            "kind": self.kind,
            "target": self.target,
            "problem": self.problem,
            "tasks": list(self.tasks),
            "knobs": specs_as_json(self.knobs),
            "budget": self.budget,
            "floor": self.floor,
            "verbs": {verb: specs_as_json(specs) for verb, specs in self.verbs.items()},
            "exporter": self.exporter,
            "wraps": self.wraps,
            "joins": self.joins,
            "takes": list(self.takes),
            "gives": self.gives,
            "having": self.having,
            "reads": self.reads,
            "presets": self.presets,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Entry":
        """The inverse of `as_dict`."""
        verbs = {verb: specs_from_json(specs) for verb, specs in record["verbs"].items()}
        tuples = {name: tuple(record[name]) for name in ("tasks", "takes")}
        knobs = specs_from_json(record["knobs"])
        return cls(**{**record, **tuples, "knobs": knobs, "verbs": verbs})


@dataclass
class Card:
    """What the catalog knows of a method.

    Attributes:
        cost: what it costs, in a few words.
        verified: the test that holds it against the authors' own code.
        requires: optional packages that it needs, each with the extra that installs it.
        missing: where the function is that says what else it needs and is not here; importing it
            imports nothing heavy.
        most_rows: training rows up to which a comparison takes it in by itself; None for any.
        variants: knob values by name, of which a comparison makes a contender each; "" is the
            method as it is.
        names: further public names of the method, each with where it is ("module:name").
    """

    slug: str
    title: str
    verb: str
    summary: str
    paper: str | None = None
    cost: str = ""
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)
    verified: str | None = None
    package: str = "stackwise"
    entries: list[Entry] = field(default_factory=list)
    requires: dict[str, str] = field(default_factory=dict)
    missing: str | None = None
    most_rows: int | None = None
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    @property
    def knobs(self) -> dict[str, KnobSpec]:
        """The knobs of its entries, each as the first has it."""
        found: dict[str, KnobSpec] = {}
        for entry in self.entries:
            found = {**entry.knobs, **found}
        return {name: found[name] for entry in self.entries for name in entry.knobs}

    def own_defaults(self, entry: Entry) -> dict[str, Any]:
        """The defaults of an entry that are others than those of `knobs`."""
        first = self.knobs
        return {
            name: spec.default for name, spec in entry.knobs.items()
            if spec.default != first[name].default
        }  # fmt: skip

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of its entries, each once, in their order."""
        return tuple(dict.fromkeys(name for entry in self.entries for name in entry.tasks))

    def too_many(self, rows: int) -> str | None:
        """A sentence where there are more training rows than this method is made for."""
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
        found = load_target(self.missing)() if self.missing else None
        return f"{self.slug} needs {found}" if found else None

    @property
    def kinds(self) -> list[str]:
        """The kinds of its entries, each once, in their order."""
        return list(dict.fromkeys(entry.kind for entry in self.entries))

    def entry(self, kind: str, problem: str | None = None, *, task: str | None = None) -> Entry:
        """The entry of this kind, for this task and problem.

        Raises:
            UnknownName: there is none, or two fit.
        """
        of_kind = [entry for entry in self.entries if entry.kind == kind]
        if not of_kind:
            raise UnknownName(
                f"{self.slug} is a {' and a '.join(self.kinds)}, not a {kind}; "
                f"try 'stackwise show {self.slug}'"
            )
        fitting = [entry for entry in of_kind if entry.serves(task, problem)]
        if not fitting:
            on = "" if task is None else f" on a {task}"
            raise UnknownName(f"{self.slug} does not serve {problem or 'it'}{on}")
        if len(fitting) > 1 and task is not None and problem is not None:
            names = " and ".join(entry.name for entry in fitting)
            raise UnknownName(f"{self.slug} has two entries for {problem} on a {task}: {names}")
        return fitting[0]

    def serves(self, task: str, problem: str | None) -> bool:
        """Whether it has a learner for this task and this problem."""
        return any(e.kind == "learner" and e.serves(task, problem) for e in self.entries)

    def as_dict(self) -> dict[str, Any]:
        """The card as JSON, its knobs included."""
        record = asdict(self) | {"kinds": self.kinds, "tasks": list(self.tasks)}
        record["entries"] = [entry.as_dict() for entry in self.entries]
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Card":
        """The inverse of `as_dict`."""
        own = {key: value for key, value in record.items() if key not in ("kinds", "tasks")}
        return cls(**own | {"entries": [Entry.from_dict(item) for item in record["entries"]]})


@dataclass
class TaskCard:
    """What the catalog knows of a task.

    Attributes:
        target: where its class is, "module:name". marks: where the function is that recognises a
            source; importing it imports nothing heavy.
        options: those of `load`. predict: those of `write_predictions`.
        role: the option that names what is predicted, where there is one: VALUE of SOURCE:VALUE.
        ending: of its prediction files.
        sample: how a command of the documentation names such data. class_sample: the same with
            classes to predict, where `sample` has none.
        first: records that were written before tasks had names are of it.
    """

    name: str
    title: str
    summary: str
    target: str
    marks: str
    options: dict[str, KnobSpec]
    predict: dict[str, KnobSpec]
    ending: str
    sample: str = "data"
    first: bool = False
    class_sample: str | None = None
    package: str = "stackwise"

    @property
    def role(self) -> str | None:
        """The option that names what is predicted; None where the task has none."""
        return next((name for name, spec in self.options.items() if spec.knob.role), None)

    def load(self) -> Any:
        """Import the task and return its class."""
        return load_target(self.target)

    def recognises(self, source: Any) -> float:
        """How sure the task is that a source is of its kind, 0 to 1."""
        return float(load_target(self.marks)(source))

    def as_dict(self) -> dict[str, Any]:
        """The card as JSON."""
        record = dict(vars(self))
        return record | {
            "options": specs_as_json(self.options), "predict": specs_as_json(self.predict)
        }  # fmt: skip

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "TaskCard":
        """The inverse of `as_dict`."""
        own = {name: specs_from_json(record[name]) for name in ("options", "predict")}
        return cls(**{**record, **own})


def specs_as_json(specs: Mapping[str, KnobSpec]) -> list[dict[str, Any]]:
    """Knobs as JSON."""
    return [spec.as_dict() for spec in specs.values()]


def specs_from_json(records: list[dict[str, Any]]) -> dict[str, KnobSpec]:
    """The inverse of `specs_as_json`."""
    return {record["name"]: KnobSpec.from_dict(record) for record in records}
