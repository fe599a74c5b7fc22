"""What every task is held to: its whole protocol, on its small instance."""

import inspect
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from stackwise.catalog import TaskCard, cards, tasks
from stackwise.conformance.holding import hold
from stackwise.conformance.small_models import quick_knobs, small_learners, small_task
from stackwise.files import plain
from stackwise.findings import Findings
from stackwise.protocols import Explains, Foldable, Shows, Task, Trains

DESCRIBED = ("name", "task", "target", "problem", "rows", "metric", "options", "notes", "hash")
"""What `describe` says at least."""


def core_is_whole(of: TaskCard, folder: Path) -> None:
    """The class is what its card says, and its small instance offers the core."""
    cls = of.load()
    hold(cls.name == of.name and cls.ending == of.ending, f"{of.name}: card and class differ")
    taken = {
        name
        for name, one in inspect.signature(cls.load).parameters.items()
        if name != "source" and one.kind is one.KEYWORD_ONLY
    }
    bare = sorted(taken - set(of.options))
    hold(not bare, f"{of.name}: options without a Knob: {bare}")
    small = small_task(of.name)
    core = [name for name in (*Task.__annotations__, *vars(Task)) if not name.startswith("_")]
    absent = [name for name in dict.fromkeys(core) if not hasattr(small, name)]
    hold(isinstance(small, Task), f"{of.name} lacks of the core: {', '.join(absent)}")
    described = small.describe()
    lacking = [name for name in DESCRIBED if name not in described]
    hold(not lacking, f"{of.name}: describe says nothing of {lacking}")
    hold(described["task"] == of.name, f"{of.name} describes itself as {described['task']}")
    hold(json.loads(json.dumps(plain(described))), f"{of.name}: describe is no JSON")
    hold(small.metric.mode in ("min", "max"), f"{of.name}: its metric has no direction")
    hold(small_again(of) == small.data_hash, f"{of.name}: equal data have other hashes")
    hold(0.0 <= of.recognises("no such thing") <= 0.5, f"{of.name} knows what is not there")


def small_again(of: TaskCard) -> str:
    """The hash of a second small instance."""
    return str(of.load().small().data_hash)


def learners_are_fitted_and_judged(of: TaskCard, folder: Path) -> None:
    """A learner of the catalog learns the task and is scored on both held-out parts."""
    small = small_task(of.name)
    for card in (card for card in cards().values() if card.lacking is None):
        for entry in card.entries:
            if entry.kind == "learner" and entry.serves(of.name, small.problem) and entry.tasks:
                learner = small.fit(entry.load()(**quick_knobs(card, entry)))
                for part in ("validation", "test"):
                    judged = small.judge(learner, part)
                    first = next(iter(judged.scores))
                    hold(first == small.metric.name, f"{of.name}: {first} is scored first")
                    hold(math.isfinite(judged.scores[first]), f"{of.name}: the score is no number")
                    hold("row" in judged.samples, f"{of.name}: samples do not say their row")
                return


def capabilities_do_what_they_say(of: TaskCard, folder: Path) -> None:
    """What a task can besides works on its small instance."""
    small = small_task(of.name)
    if isinstance(small, Trains):
        for name, learner, task in small_learners():
            if task.name == of.name:
                batch = next(iter(task.batches("train", model=learner).epoch(0)))
                loss = task.loss(learner.network_, batch)
                hold(loss.ndim == 0, f"{of.name}: the loss of {name} is no single number")
                hold(math.isfinite(loss.item()), f"{of.name}: the loss of {name} is no number")
                loss.backward()
    if isinstance(small, Foldable):
        folds = small.folds(3)
        hold(set(np.unique(folds)) == {0, 1, 2}, f"{of.name}: 3 folds are {np.unique(folds)}")
    if isinstance(small, Explains):
        named = [set(item) >= {"column", "kind", "done"} for item in small.columns]
        hold(named and all(named), f"{of.name}: a column does not say what it is")
    described = small.describe()
    if isinstance(small, Shows):
        found = small.shows([], described)
        hold(isinstance(found, Findings), f"{of.name}: shows gives no findings")


def options_are_one_language(of: TaskCard, folder: Path) -> None:
    """A name is a flag everywhere or takes a value everywhere, and no command has it already."""
    from stackwise.cli.data_options import is_flag
    from stackwise.cli.options import app

    every: dict[str, bool] = {}
    for other in tasks().values():
        for specs in (other.options, other.predict):
            for name, spec in specs.items():
                hold(
                    every.setdefault(name, is_flag(spec)) == is_flag(spec),
                    f"{of.name}: --{name} is a flag in one task and takes a value in another",
                )
    for command in app.registered_commands:
        own = set(inspect.signature(command.callback).parameters) if command.callback else set()
        clash = sorted(own & set(of.options) - {"context"})
        hold(not clash, f"{of.name}: the option {clash} is one of a command's")


TASK_CHECKS: dict[str, Callable[[TaskCard, Path], None]] = {
    one.__name__: one
    for one in (
        core_is_whole,
        learners_are_fitted_and_judged,
        capabilities_do_what_they_say,
        options_are_one_language,
    )
}
"""Every check of a task, by name: (card, an empty folder) -> None."""
