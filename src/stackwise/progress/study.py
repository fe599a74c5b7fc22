"""A study as one bar over all its runs, with a line for each under way, or as lines in a log."""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from stackwise.progress.board import fields, plain_line
from stackwise.progress.run import SILENCE
from stackwise.progress.words import after, said, spoken, time_left
from stackwise.shown import sentence

ENDED = ("finished", "failed", "skipped")
"""What becomes of a run; skipped is one that a time limit left no time for."""
MEASURED = 0.1  # seconds; a run that ends sooner had been finished before


@dataclass
class Counts:
    """How far a study is.

    Attributes:
        jobs: slug and weight of each run that is planned, by name.
        running: when each run that is under way began (time.monotonic).
        costs: seconds per weight of the runs that have ended, by slug.
    """

    jobs: dict[str, tuple[str, float]] = field(default_factory=dict)
    total: int = 0
    running: dict[str, float] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    failed: int = 0
    skipped: int = 0
    costs: dict[str, list[float]] = field(default_factory=dict)
    table: str = ""

    def take(self, event: dict[str, Any]) -> None:
        """Count an event that begins a study, or begins or ends one of its runs."""
        state, name, now = event["state"], event.get("run", ""), time.monotonic()
        if "tables" in event:
            self.table = f"table {event['table_index'] + 1} of {event['tables']}, "
        if state == "planned":
            self.jobs = {job["run"]: (job["slug"], job["weight"]) for job in event["runs"]}
            self.total, self.failed, self.skipped = len(self.jobs), 0, 0
            self.running, self.ended, self.costs = {}, set(), {}
        self.total = max(self.total, event.get("total", 0))
        if state in ("started", "training"):
            self.running.setdefault(name, now)
        if state in ENDED:
            began = self.running.pop(name, None)
            self.ended.add(name)
            self.failed += state == "failed"
            self.skipped += state == "skipped"
            slug, weight = self.jobs.get(name, ("", 1.0))
            if began is not None and now - began > MEASURED and state == "finished":
                self.costs.setdefault(slug, []).append((now - began) / weight)

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        skipped = f", {self.skipped} left out" if self.skipped else ""
        done = len(self.ended) - self.skipped
        return f"{self.table}{done} of {self.total} runs done{failed}{skipped}"

    def left(self) -> float | None:
        """Seconds to the last run's end, once a run of each method to come has been measured."""
        waiting = {name: job for name, job in self.jobs.items() if name not in self.ended}
        if not waiting or any(slug not in self.costs for slug, _ in waiting.values()):
            return None
        now, seconds = time.monotonic(), 0.0
        for name, (slug, weight) in waiting.items():
            cost = weight * sum(self.costs[slug]) / len(self.costs[slug])
            seconds += max(cost - (now - self.running.get(name, now)), 0.0)
        return seconds / max(len(self.running), 1)


class LiveStudy:
    """A bar over all runs, and a line for each that is under way."""

    def __init__(self, board: Progress) -> None:
        self.board = board
        self.counts = Counts()
        self.over_all = board.add_task("begins", total=None)
        self.lines: dict[str, Any] = {}  # the board's line of each run, and its last event
        self.events: dict[str, dict[str, Any]] = {}
        self.lock = threading.Lock()  # a pool tells of runs that begin from a thread of its own

    def __call__(self, event: dict[str, Any]) -> None:
        with self.lock:
            self._take(event)

    def _take(self, event: dict[str, Any]) -> None:
        state, name = event["state"], event.get("run", "")
        if state == "note":
            self.board.console.print(Text(sentence(event["note"])))
            return
        self.counts.take(event)
        if state in (*ENDED, "planned"):
            for line in [name] if state != "planned" else list(self.lines):
                if line in self.lines:
                    self.board.remove_task(self.lines.pop(line))
        else:
            event = self.events[name] = after(self.events.get(name, {}), event)
            if name not in self.lines:
                self.lines[name] = self.board.add_task("", total=None)
            words = f"{name} {said(event) or state}".strip()
            self.board.update(self.lines[name], description=words, **fields(event))
        if state == "failed":
            self.board.console.print(Text(sentence(f"{name}: failed: {event.get('problem')}")))
        if state in ("training", "concluding"):
            return  # they change no count
        left = self.counts.left()
        self.board.update(
            self.over_all, description=str(self.counts), completed=len(self.counts.ended),
            total=self.counts.total or None,
            ends=None if left is None else time.monotonic() + left,
        )  # fmt: skip


class PlainStudy:
    """A line where a run begins or ends, and one of a long run after each silence."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.counts = Counts()
        self.last = time.monotonic()
        self.lock = threading.Lock()

    def __call__(self, event: dict[str, Any]) -> None:
        with self.lock:
            began = self.counts.running.get(event.get("run", ""))
            if event["state"] != "note":
                self.counts.take(event)
            line = self._line(event, began)
            if line:
                plain_line(self.console, line)
                self.last = time.monotonic()

    def _line(self, event: dict[str, Any], began: float | None) -> str:
        state, name, now = event["state"], event.get("run", ""), time.monotonic()
        if state in ("note", "concluding") and not name:
            return str(event["note"])
        if state == "planned":
            return str(self.counts) if self.counts.table else ""
        if state in ("training", "concluding"):
            return f"{name}: {said(event)}" if now - self.last >= SILENCE else ""
        if state == "started":
            return f"{name}: started"
        took = "" if began is None else f" after {spoken(now - began)}"
        problem = f": {event['problem']}" if event.get("problem") else ""
        left = time_left(self.counts.left(), False)
        return f"{name}: {state}{took}{problem} ({self.counts}" + (left and f", {left}") + ")"
