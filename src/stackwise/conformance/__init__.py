"""What every method and every task is held to, whoever wrote it.

    from stackwise.conformance import check, check_task
    check("my-method")          # raises AssertionError with the sentence of the first failure
    check_task("my-task")

The checks read the card and run the method as its preset `quick` says: a learner on the small
instance of its task, a transform and a probe on a small model of each kind that the card says they
take. They are this library's own tests too.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stackwise.catalog import card, task_card
from stackwise.conformance.checks import CHECKS
from stackwise.conformance.small_models import quick_knobs, small_language_model, small_task
from stackwise.conformance.task_checks import TASK_CHECKS

__all__ = [
    "CHECKS", "TASK_CHECKS", "check", "check_task", "quick_knobs", "small_language_model",
    "small_task",
]  # fmt: skip


def check(slug: str) -> list[str]:
    """Hold a method to every check and return their names.

    Raises:
        AssertionError: the first check that fails. UnknownName: there is no such method.
    """
    return _hold_to(CHECKS, card(slug))


def check_task(name: str) -> list[str]:
    """Hold a task to its whole protocol and return the names of the checks.

    Raises:
        AssertionError: the first check that fails. UnknownName: there is no such task.
    """
    return _hold_to(TASK_CHECKS, task_card(name))


def _hold_to(checks: Mapping[str, Callable[[Any, Path], None]], of: Any) -> list[str]:
    for name, one in checks.items():
        with tempfile.TemporaryDirectory(prefix=f"stackwise-{name}-") as folder:
            one(of, Path(folder))
    return list(checks)
