"""The checks that every method is held to, each by itself: (card, an empty folder) -> None."""

import copy
import inspect
import math
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stackwise.adapt import Delta
from stackwise.catalog import VERBS, Card, Entry, cards, tasks
from stackwise.conformance.holding import hold, model_state, refused, result_state, same
from stackwise.conformance.small_models import (
    data_after,
    fitted,
    half_language_model,
    kind_of,
    left_out,
    models_of,
    others_for,
    quick_knobs,
    small_language_model,
    small_task,
)
from stackwise.errors import DataError, ModelError, NothingLearned
from stackwise.files import read_tensors, write_tensors
from stackwise.findings import Findings
from stackwise.models import load_learner, open_model, save_model

DATA_ONLY = {
    ".json", ".jsonl", ".safetensors", ".skops", ".ubj", ".cbm", ".txt", ".csv", ".png",
    ".npy", ".parquet", ".jinja",
}  # fmt: skip
"""Endings of files that hold data and run nothing when they are read."""


def card_is_complete(of: Card, folder: Path) -> None:
    """The card says what the method is, and its knobs and presets are valid."""
    hold(re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", of.slug), f"{of.slug!r} is no slug")
    hold(of.verb in {*VERBS, "baseline"}, f"{of.slug}: there is no verb {of.verb!r}")
    hold(len(of.title) > 3, f"{of.slug} has no title")
    hold(of.summary.endswith("."), f"{of.slug}: its docstring begins with no whole sentence")
    hold(of.entries, f"{of.slug} has no entry point")
    hold(
        of.paper is None or re.fullmatch(r"\d{4}\.\d{4,5}", of.paper),
        f"{of.slug}: {of.paper!r} is no arXiv id",
    )
    for entry in of.entries:
        target = entry.load()
        hold(target.__doc__, f"{entry.name} has no docstring")
        if entry.kind == "learner":
            hold(entry.tasks, f"{entry.name} says no task that it serves")
            if entry.budget is not None:
                hold(entry.budget in entry.knobs, f"{entry.name} has no knob {entry.budget}")
                hold("random_state" in entry.knobs, f"{entry.name} has no knob random_state")
            takes = set(inspect.signature(target.fit).parameters)
            hold("X" in takes and "y" in takes, f"{entry.name}.fit takes no X and y")
        for name, spec in entry.knobs.items():
            hold(len(spec.knob.help) > 3, f"{entry.name}: the knob {name} says not what it is")
            if not spec.required:
                spec.check(spec.default)
        for preset in of.presets:
            quick_knobs(of, entry) if preset == "quick" else entry.check({})
    learns = any(entry.kind == "learner" for entry in of.entries)
    hold(
        "quick" in of.presets or of.verb != "build" or not learns, f"{of.slug} has no preset quick"
    )


def same_seed_same_result(of: Card, folder: Path) -> None:
    """The same seed gives the same numbers, bit for bit."""
    for done in _runs(of):
        again = _run(of, done.entry)
        what = f"{done.entry.name}, run twice"
        same(result_state(done.result, done.data), result_state(again.result, again.data), what)


def input_is_left_alone(of: Card, folder: Path) -> None:
    """A transform and a probe leave the model as it was."""
    for done in _runs(of):
        if done.model is not None:
            what = f"the model given to {done.entry.name}"
            same(done.before, model_state(done.model), what)


def survives_a_round_trip(of: Card, folder: Path) -> None:
    """What comes out can be written, read back and is the same; the files are data only."""
    for place, done in enumerate(_runs(of)):
        result, entry = done.result, done.entry
        at = folder / f"{place}-{entry.name}"
        data = done.data
        if isinstance(result, Findings):
            result.save(at)
            again: Any = Findings.load(at)
        elif isinstance(result, Delta):
            result.save(at)
            again = Delta.load(at)
            hold(again == result, f"{entry.name}: the delta read back is another one")
        elif hasattr(result, "save"):
            save_model(result, at)
            again = load_learner(at)
        elif hasattr(result, "save_pretrained"):
            save_model(result, at)
            again = open_model(at)
        else:  # a bare module: its weights are what is kept, and made other before they are read
            write_tensors(at / "model.safetensors", result.state_dict())
            again = copy.deepcopy(result)
            for parameter in again.parameters():
                torch.nn.init.constant_(parameter, math.pi)
            again.load_state_dict(read_tensors(at / "model.safetensors"))
        digits = 1e-12 if isinstance(result, Findings) else 0.0  # tables are kept as text
        what = f"{entry.name}, written and read back"
        same(result_state(result, data), result_state(again, data), what, digits)
        foreign = sorted(
            path.name for path in at.rglob("*") if path.is_file() and path.suffix not in DATA_ONLY
        )
        hold(not foreign, f"{entry.name} writes {foreign}, which are no data files")


def refuses_bad_input(of: Card, folder: Path) -> None:
    """Bad input is an error of the caller's, a ValueError or TypeError, never a number."""
    for entry in of.entries:
        target, name = entry.load(), entry.name
        if entry.kind == "ensemble":
            continue
        refused(f"{name} with an unknown knob", target, no_such_knob=1)
        if entry.kind != "learner":
            refused(f"{name} on an object that is no model", target, object(), [])
            continue
        knobs = quick_knobs(of, entry)
        task = small_task(entry.tasks[0], entry.problem)
        if entry.budget is not None:
            broken = target(**knobs | {entry.budget: -1})
            refused(f"{name} with {entry.budget}=-1", task.fit, broken)
        refused(f"{name}, kept before it is fitted", target(**knobs).save, folder / "unfitted")
        if hasattr(task, "part") and hasattr(target, "predict"):
            _refuses_bad_rows(entry, knobs, task)


def _refuses_bad_rows(entry: Entry, knobs: dict[str, Any], task: Any) -> None:
    """What a learner on rows refuses besides."""
    fresh, name = entry.load()(**knobs), entry.name
    X, y = task.part("train")
    refused(f"{name}, asked before it is fitted", fresh.predict, X)
    refused(f"{name} on no rows", fresh.fit, X[:0], y[:0])
    refused(f"{name} on a y of another length", fresh.fit, X, y[:-1])
    if entry.problem == "regression":
        infinite = np.where(np.arange(len(y)) == 0, np.inf, y)
        refused(f"{name} on an infinite y", fresh.fit, X, infinite)
    if hasattr(X, "columns"):
        told = _done[entry.load()].result if entry.load() in _done else task.fit(fresh)
        refused(f"{name} on a table without a column", told.predict, X.drop(columns=X.columns[0]))


def takes_what_it_says(of: Card, folder: Path) -> None:
    """A transform and a probe run on each kind of model that the card names, and a transform gives
    the kind that it says.
    """
    for entry in of.entries:
        for place, kind in enumerate(entry.takes):
            done = _first_of(of, entry, kind, place)
            if entry.kind == "transform":
                wanted = kind if entry.gives == "same" else entry.gives
                found = kind_of(done.result)
                hold(found == wanted, f"{entry.name} made a {found} of a {kind}, not a {wanted}")


def what_it_gives_the_next_takes(of: Card, folder: Path) -> None:
    """Every other transform and probe that takes the kind that comes out runs on it."""
    for entry in of.entries:
        if entry.kind != "transform":
            continue
        for place, kind in enumerate(entry.takes):
            made = _first_of(of, entry, kind, place)
            gives = kind if entry.gives in ("same", "delta") else entry.gives
            for other in cards().values():
                for after in other.entries:
                    if gives not in after.takes or other.slug == of.slug:
                        continue
                    if gives == "learner" and any(e.kind == "learner" for e in other.entries):
                        continue  # a probe of one's own learners
                    if (
                        after.tasks
                        and getattr(made.data, "name", after.tasks[0]) not in after.tasks
                    ):
                        continue  # it reads other data than this model learned from
                    _follow(made, entry, other, after, gives)


def _follow(made: "_Done", entry: Entry, other: Card, after: Entry, kind: str) -> None:
    try:
        _quietly(
            after.load(), made.comes_out, data_after(kind, made.data, after),
            **quick_knobs(other, after) | others_for(after, made.comes_out),
        )  # fmt: skip
    except NothingLearned:
        return  # it ran, and so few steps taught it nothing
    except Exception as error:
        if after.having and isinstance(error, ModelError):
            return  # it has not what the next one wants, and is told so
        beside = isinstance(made.result, Delta) and not made.result.in_weights
        if beside and isinstance(error, ModelError):
            return  # what is learned beside weights alone is not learned beside another such delta
        raise AssertionError(
            f"{after.name} does not run on the {kind} that {entry.name} gives: {error}"
        ) from error


def keeps_what_belongs_to_a_model(of: Card, folder: Path) -> None:
    """What is made of a language model's folder keeps what lies beside the weights there: the
    tokenizer, its chat template, how it generates; and the number type of the weights.
    """
    source = half_language_model(folder / "source")
    for place, entry in enumerate(of.entries):
        at = folder / f"{place}-{entry.name}"
        if entry.kind == "transform" and "decoder" in entry.takes and entry.gives == "same":
            _derived(of, entry, source, at)
        elif entry.kind == "learner" and small_language_model() in quick_knobs(of, entry).values():
            begins = {
                name: str(source) for name, value in quick_knobs(of, entry).items()
                if value == small_language_model()
            }  # fmt: skip
            learner = entry.load()(**quick_knobs(of, entry) | begins)
            _quietly(small_task(entry.tasks[0], entry.problem).fit, learner).save(at)
        else:
            continue
        for name in left_out(source, at / "model"):
            raise AssertionError(f"{entry.name} does not keep {name}")


def _derived(of: Card, entry: Entry, source: Path, out: Path) -> None:
    """Apply a transform to a folder, with the first small task that it takes."""
    from stackwise.runs import derive_run

    knobs = quick_knobs(of, entry) | others_for(entry, source)
    knobs.pop("random_state", None)
    refusals = []
    for name in entry.tasks or tasks():
        try:
            _quietly(
                derive_run, "transform", of.slug, source, out=out, data=small_task(name),
                knobs=knobs,
            )  # fmt: skip
        except (ModelError, DataError) as error:
            refusals.append(f"{name}: {error}")
        else:
            return
    raise AssertionError(f"{entry.name} does nothing with a decoder ({'; '.join(refusals)})")


CHECKS: dict[str, Callable[[Card, Path], None]] = {
    one.__name__: one
    for one in (
        card_is_complete,
        same_seed_same_result,
        input_is_left_alone,
        survives_a_round_trip,
        refuses_bad_input,
        takes_what_it_says,
        what_it_gives_the_next_takes,
        keeps_what_belongs_to_a_model,
    )
}
"""Every check, by name: (card, an empty folder) -> None."""


@dataclass
class _Done:
    """A method's result, and what it was given."""

    entry: Entry
    result: Any
    data: Any
    model: Any = None
    before: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def comes_out(self) -> Any:
        """The model that others go on with: the result, or the model with the delta put on."""
        if isinstance(self.result, Delta):
            return self.result.put(copy.deepcopy(self.model))
        return self.result


def _quietly(action: Callable[..., Any], *given: Any, **named: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return action(*given, **named)


_done: dict[Any, _Done] = {}
"""The first result of each entry, by its class or function: several checks look at it."""


def _runs(of: Card) -> Iterator[_Done]:
    """Each entry of a method, run once, however many checks ask."""
    for entry in of.entries:
        if entry.kind == "ensemble":
            continue
        target = entry.load()
        if target not in _done:
            _done[target] = _run(of, entry)
        yield _done[target]


def _run(of: Card, entry: Entry) -> _Done:
    """Run an entry: a learner on its first task, another on the first kind that it takes."""
    if entry.kind != "learner":
        return _first(of, entry, entry.takes[0])
    name = entry.tasks[0]
    return _Done(entry, _quietly(fitted, of, entry, name), small_task(name, entry.problem))


def _first_of(of: Card, entry: Entry, kind: str, place: int) -> _Done:
    """What an entry made of a kind that it takes; the first kind is run already."""
    key = entry.load() if place == 0 else (entry.load(), kind)
    if key not in _done:
        _done[key] = _first(of, entry, kind)
    return _done[key]


def _first(of: Card, entry: Entry, kind: str) -> _Done:
    """Run a transform or a probe on the first small model of a kind that it takes; of learners its
    method's own come first.
    """
    refusals = []
    for name, model, data in _candidates(of, entry, kind):
        before = model_state(model)
        try:
            knobs = quick_knobs(of, entry) | others_for(entry, model)
            result = _quietly(entry.load(), model, data, **knobs)
            return _Done(entry, result, data, model, before)
        except (ModelError, DataError) as error:
            refusals.append(f"{name}: {error}")
    raise AssertionError(f"{entry.name} takes no {kind} ({'; '.join(refusals)})")


def _candidates(of: Card, entry: Entry, kind: str) -> Iterator[tuple[str, Any, Any]]:
    """Small models of a kind with data for them: (name, model, data)."""
    own = [e for e in of.entries if e.kind == "learner" and kind == "learner"]
    for learner in own:
        name = learner.tasks[0]
        model = _quietly(fitted, of, learner, name)
        yield f"a fitted {learner.name}", model, small_task(name, learner.problem)
    if not own:
        yield from models_of(kind, entry)
