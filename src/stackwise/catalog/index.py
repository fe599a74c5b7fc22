"""The index: the cards of all methods and tasks, read without importing any of them.

`index.json` is made from the cards (`python -m stackwise.catalog`, checked in CI), a line a card.
Other packages add theirs through entry points of the groups `stackwise.methods` and
`stackwise.tasks`, whose value is a module; their cards are kept in the user's cache.
"""

import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import pkgutil
import sys
from pathlib import Path
from typing import Any

from stackwise.catalog.cards import VERBS, Card, TaskCard
from stackwise.catalog.registering import registered_cards, registered_tasks
from stackwise.errors import RunError, StorageError, UnknownName, nearest
from stackwise.files import cache_folder, plain, read_json, write_json

INDEX = Path(__file__).parents[1] / "index.json"
METHODS, TASKS = "stackwise.methods", "stackwise.tasks"
"""Groups of entry points."""


def cards(*, baselines: bool = True) -> dict[str, Card]:
    """Every card by slug: this library's from the index, other packages' from the cache."""
    found = dict(_own()[0])
    for point in _points():
        found |= {item.slug: item for item in _outside(point)[0]}
    return {slug: of for slug, of in found.items() if baselines or of.verb != "baseline"}


def card(slug: str) -> Card:
    """The card of `slug`; `UnknownName` names the nearest one."""
    known = cards()
    if slug not in known:
        raise UnknownName(f"there is no method {slug!r}.{nearest(slug, known)}")
    return known[slug]


def tasks() -> dict[str, TaskCard]:
    """Every task's card by its name."""
    found = dict(_own()[1])
    for point in _points():
        found |= {item.name: item for item in _outside(point)[1]}
    return found


def task_card(name: str) -> TaskCard:
    """The card of the task `name`; `UnknownName` names the nearest one."""
    known = tasks()
    if name not in known:
        raise UnknownName(f"there is no task {name!r}.{nearest(name, known)}")
    return known[name]


def public_names() -> dict[str, str]:
    """The names of all methods at the top of the package, each with where it is."""
    found: dict[str, str] = {}
    for of in cards().values():
        found |= {entry.name: entry.target for entry in of.entries} | of.names
    return found


def _points() -> list[importlib.metadata.EntryPoint]:
    return _points_on(tuple(sys.path))


@functools.cache
def _points_on(path: tuple[str, ...]) -> list[importlib.metadata.EntryPoint]:
    """The entry points of the packages on the path, which takes a walk over all of them."""
    found = importlib.metadata.entry_points()
    return [point for group in (METHODS, TASKS) for point in found.select(group=group)]


@functools.cache
def _own() -> tuple[dict[str, Card], dict[str, TaskCard]]:
    content = json.loads(INDEX.read_text(encoding="utf-8")) if INDEX.exists() else {}
    methods = [Card.from_dict(record) for record in content.get("methods", ())]
    known = [TaskCard.from_dict(record) for record in content.get("tasks", ())]
    return {of.slug: of for of in methods}, {of.name: of for of in known}


def _outside(point: importlib.metadata.EntryPoint) -> tuple[list[Card], list[TaskCard]]:
    """The cards of another package, kept in the cache by its name, version and file's time."""
    dist = point.dist
    try:
        spec = importlib.util.find_spec(point.value)
    except Exception as error:  # another package's code: whatever it raises stays its own trouble
        return _left_out(point, error)
    origin = spec.origin if spec and spec.origin else ""
    stamp = os.stat(origin).st_mtime_ns if origin and os.path.exists(origin) else 0
    about = (dist.name, dist.version) if dist else ("", "")
    key = " ".join([*about, point.value, origin, str(stamp), str(INDEX.stat().st_mtime_ns)])
    path = cache_folder() / "methods" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    try:
        content = read_json(path, {"methods": [dict], "tasks": [dict]})
    except (RunError, OSError):  # it was not kept yet, is damaged, or may not be read
        try:
            importlib.import_module(point.value)
        except Exception as error:
            return _left_out(point, error)
        content = plain(_content(*_of_package(point.value.partition(".")[0])))
        with contextlib.suppress(StorageError):  # it is made again each time
            write_json(path, content)
    return (
        [Card.from_dict(record) for record in content["methods"]],
        [TaskCard.from_dict(record) for record in content["tasks"]],
    )


def _left_out(
    point: importlib.metadata.EntryPoint, error: Exception
) -> tuple[list[Any], list[Any]]:
    """Nothing of a package that cannot be imported, and a warning, once a process."""
    _warn_once(f"{point.value} of {point.group} is left out: {type(error).__name__}: {error}")
    return [], []


@functools.cache
def _warn_once(text: str) -> None:
    logging.getLogger(__name__).warning(text)


def _of_package(name: str) -> tuple[list[Card], list[TaskCard]]:
    """What a package has registered, in a fixed order."""
    methods = [of for of in registered_cards().values() if of.package == name]
    known = [of for of in registered_tasks().values() if of.package == name]
    return (
        sorted(methods, key=lambda of: (of.verb == "baseline", of.slug)),
        sorted(known, key=lambda of: of.name),
    )


def _content(methods: list[Card], known: list[TaskCard]) -> dict[str, Any]:
    made = {
        "tasks": [of.as_dict() for of in known],
        "methods": [of.as_dict() for of in methods],
    }
    return dict(plain(made))


def collect() -> tuple[list[Card], list[TaskCard]]:
    """Import every module under the verbs and every task's folder, and return their cards."""
    import stackwise

    for root in stackwise.__path__:
        for verb in VERBS:
            for module in pkgutil.iter_modules([os.path.join(root, verb)]):
                importlib.import_module(f"stackwise.{verb}.{module.name}")
        # a task's baselines are those in its folder
        for found in pkgutil.walk_packages([os.path.join(root, "tasks")], "stackwise.tasks."):
            importlib.import_module(found.name)
    return _of_package("stackwise")


def index_text() -> str:
    """The text of the index file, made from the cards: a line a card."""
    content = _content(*collect())
    parts = [
        f'"{name}": [\n' + ",\n".join(json.dumps(record) for record in records) + "\n]"
        for name, records in content.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"
