"""Which methods take part in a comparison, and with which knobs: contenders."""

from collections.abc import Iterable, Mapping
from typing import Any

from stackwise import runs
from stackwise.catalog import Card, Entry, cards
from stackwise.errors import DataError, KnobError, NotInstalled, UnknownName, nearest
from stackwise.protocols import Task

Knobs = Mapping[str, Mapping[str, Any]]
EVERY = "*"
"""Stands for every method that has the knob."""


def _serving(task: Task, methods: Iterable[str] | None) -> dict[str, Card]:
    """The cards to compare: those named, or every learner that serves the task and its problem."""
    serving = _all_serving(task)
    if methods is None:
        return {slug: of for slug, of in serving.items() if _why_not(of, task) is None}
    picked = {}
    for slug in methods:
        if slug not in serving:
            raise UnknownName(
                f"no method {slug!r} serves {task.problem} on a {task.name}."
                f"{nearest(slug, serving)}"
            )
        lacking = serving[slug].lacking
        if lacking:
            raise NotInstalled(lacking)
        picked[slug] = serving[slug]
    return picked


def _all_serving(task: Task) -> dict[str, Card]:
    return {slug: of for slug, of in cards().items() if of.serves(task.name, task.problem)}


def left_out(task: Task, methods: Iterable[str] | None) -> list[str]:
    """Sentences about the methods that take no part by themselves."""
    if methods is not None:
        return []
    reasons = (_why_not(of, task) for of in _all_serving(task).values())
    return [reason for reason in reasons if reason is not None]


def _why_not(of: Card, task: Task) -> str | None:
    """Why a method takes no part unless it is named: not installed, or made for smaller tables."""
    return of.lacking or of.too_many(task.describe()["rows"]["train"])


def plan(
    task: Task, methods: Iterable[str] | None, preset: str | None, knobs: Knobs
) -> dict[str, dict[str, Any]]:
    """The methods that a comparison would fit, each with its own knobs, checked."""
    chosen = _serving(task, methods)
    if not chosen:
        raise DataError(f"no method that is installed learns {task.problem} on a {task.name}")
    for slug in knobs:
        if slug not in (*chosen, EVERY):
            raise KnobError(f"{slug!r} takes no part in this comparison.{nearest(slug, chosen)}")
    entries = {s: of.entry("learner", task.problem, task=task.name) for s, of in chosen.items()}
    known = {name for entry in entries.values() for name in entry.knobs}
    for name in knobs.get(EVERY, {}):
        if name not in known:
            raise KnobError(
                f"no method of this comparison has a knob {name!r}.{nearest(name, known)}"
            )
    values = {}
    for slug, of in chosen.items():
        entry = entries[slug]
        shared = {n: v for n, v in knobs.get(EVERY, {}).items() if n in entry.knobs}
        own = {**shared, **knobs.get(slug, {})}
        runs.chosen_knobs(of, entry, preset, own)
        values[slug] = entry.check(own, texts=True)
    return values


def cheap_first(task: Task, slugs: Iterable[str]) -> list[str]:
    """Slugs in the order of a comparison: what takes little time, then what it leaves time for.

    No network comes before a network, and of both a baseline before a method.
    """
    known = cards()

    def place(slug: str) -> tuple[bool, bool]:
        return entry_of(task, slug).budget == "max_epochs", known[slug].verb != "baseline"

    return sorted(slugs, key=place)


def entry_of(task: Task, slug: str) -> Entry:
    """The learner of a method for this task."""
    return cards()[slug].entry("learner", task.problem, task=task.name)


def contenders(
    task: Task, slug: str, preset: str | None, knobs: Mapping[str, Any]
) -> dict[str | None, dict[str, Any]]:
    """The knobs of a method by variant: one contender, or one a variant that its card has.

    A variant that the given knobs contradict takes no part, nor one that the preset makes equal to
    an earlier one.
    """
    of = cards()[slug]
    preset_of = runs.chosen_knobs(of, entry_of(task, slug), preset, knobs)
    found: dict[str | None, dict[str, Any]] = {}
    for name, own in of.variants.items():
        if any(knobs.get(knob, value) != value for knob, value in own.items()):
            continue
        if all(preset_of | own != preset_of | other for other in found.values()):
            found[name or None] = {**own, **knobs}
    return found or {None: dict(knobs)}
