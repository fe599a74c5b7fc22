"""What a run records about its data: the core, which is the same of every task."""

from collections.abc import Mapping
from typing import Any


def described(
    task: Any, rows: Mapping[Any, int], *, classes: list[str] | None = None,
    shares: dict[str, float] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The core of `describe`, as JSON; a task adds what is its own.

    Args:
        rows: samples of each part. classes: where there are any.
        shares: of the training rows, that the largest classes have.
    """
    return {
        "name": task.title,
        "task": task.name,
        "target": task.target,
        "problem": task.problem,
        "classes": classes,
        "shares": shares,
        "rows": dict(rows),
        "metric": task.metric.name,
        "options": task.options,
        "notes": task.notes,
        "hash": task.data_hash,
    }
