"""Tasks: what data asks of a model. Each is a folder here, and found by being there.

A task reads a source, parts its samples, says how far a prediction is from the truth, and writes
the predictions of new ones. What shared code may ask of it stands in `stackwise.protocols`; its
`load` signature is what a command line offers about the data.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stackwise.catalog import TaskCard, task_card, tasks
from stackwise.errors import DataError, KnobError, UnknownName, nearest
from stackwise.knobs import check_values
from stackwise.protocols import Judged, Part, Task

__all__ = [
    "Judged", "Part", "Task", "called", "choose_task", "having_option", "open_task", "small_task",
    "task_class",
]  # fmt: skip

RENAMED = {"seed": "split_seed"}
"""Options of `load` under the names that older records have."""


def task_class(name: str) -> Any:
    """The class of the task `name`; `UnknownName` names the nearest one."""
    return task_card(name).load()


def open_task(name: str, source: Any, options: Mapping[str, Any]) -> Any:
    """Load the task `name`. Words from a command line are read as the option's type.

    Raises:
        KnobError: the task has no such option, or a value is out of its bounds.
        DataError: the source cannot be used.
    """
    known = task_card(name).options
    given = {
        key if key in known else RENAMED.get(key, key): value for key, value in options.items()
    }
    for key in given:
        if key not in known:
            if others := having_option(key):
                raise KnobError(f"{key} is an option of {others}; this data is {called(name)}")
            raise KnobError(f"{called(name)} has no option {key!r}.{nearest(key, known)}")
    return task_class(name).load(source, **check_values(f"a {name}", known, given, texts=True))


def called(name: str) -> str:
    """A task in a sentence: a table, an image, questions."""
    if name.endswith("s"):
        return name
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def having_option(option: str) -> str:
    """The tasks that have an option, in a sentence; empty where none has it."""
    return " or ".join(called(name) for name, of in tasks().items() if option in of.options)


def small_task(name: str) -> Any:
    """A tiny instance of the task `name`."""
    return task_class(name).small()


def choose_task(
    source: Any,
    options: Iterable[str] = (),
    *,
    asked: str | None = None,
    among: Iterable[str] | None = None,
    who: str = "",
    named: bool = False,
) -> TaskCard:
    """Which task a source is.

    The one that was asked for; else the only one of `among`; else, of those that have every option
    that was given, the one that recognises the source best by its marks.

    Args:
        options: the names of the options that were given.
        among: names of tasks, such as those that a method serves; None for all.
        who: what serves them, for the error: a method's slug.
        named: whether it is said what is predicted, so that only tasks with such a role fit.

    Raises:
        UnknownName: no such task, or one that is not served. KnobError: no task has the options.
        DataError: none recognises the source, or two do alike.
    """
    known = tasks()
    served = list(known) if among is None else list(among)
    if asked is not None:
        found = task_card(asked)
        if asked not in served:
            raise UnknownName(f"{who} serves {', '.join(served) or 'no task'}, not {asked}")
        return found
    fitting = [known[name] for name in served if name in known]
    if len(fitting) == 1:
        return fitting[0]
    wanted = list(options)
    having = [
        of
        for of in fitting
        if all(name in of.options for name in wanted) and (of.role or not named)
    ]
    if not having:
        names = {name for of in fitting for name in of.options}
        strange = next((name for name in wanted if name not in names), None)
        if strange is not None:
            raise KnobError(f"no task has an option {strange!r}.{nearest(strange, names)}")
        raise KnobError(f"no task has all of {', '.join('--' + n for n in wanted)} together")
    if len(having) == 1:
        return having[0]
    sure = {of.name: of.recognises(source) for of in having}
    best = max(sure.values())
    first = [of for of in having if sure[of.name] == best]
    either = " or ".join(of.name for of in (first if best > 0 else having))
    if best <= 0 and isinstance(source, (str, os.PathLike)) and not Path(source).exists():
        raise DataError(_not_known(source))
    if best <= 0:
        raise DataError(f"{_not_known(source)} Or say what it is with --task {either}")
    if len(first) > 1:
        raise DataError(f"{source} may be {either}: say which with --task")
    return first[0]


def _not_known(source: Any) -> str:
    """What to say of a source that no task knows."""
    if not isinstance(source, (str, os.PathLike)):
        return f"a {type(source).__name__} is no data that is known."
    if Path(source).exists():
        return f"{source} is not recognised: nothing about it says what data it holds."
    from stackwise import data

    known = [entry.name for entry in data.names()]
    hint = nearest(str(source), known)
    if "mean" not in hint:
        hint = " `stackwise data` lists the data sets."
    return f"there is no file, folder or data set {str(source)!r}.{hint}"
