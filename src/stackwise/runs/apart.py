"""Judge a method by samples that did not stop it: what chooses between methods.

Where samples are few, copies of the learner over folds answer for all of them out of fold, and are
forgotten; where there are many, a part of the validation samples is kept from the fit.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackwise import processes
from stackwise.files import remove
from stackwise.protocols import Judged, Task

FOLDER = "choosing"
"""In a run's folder while it is fitted: the copies over folds, for a resume."""


@dataclass(frozen=True)
class Apart:
    """How a run's validation score is found.

    Attributes:
        task: on which the learner that is kept is fitted.
        judges: whose validation samples judge it. copies: that answer for it, or None.
        words: the same for a reader. seconds: that the copies took.
    """

    task: Task
    judges: Task
    copies: Any
    words: str
    seconds: float

    @property
    def notes(self) -> list[str]:
        """What a reader should know of the copies: whether a limit cut them."""
        cut = any("time limit" in note for note in getattr(self.copies, "notes_", []))
        return ["the time limit cut the copies that judge it in validation"] if cut else []

    def judge(self, learner: Any) -> Judged:
        """The validation scores, of samples that stopped nothing."""
        return self.judges.judge(learner if self.copies is None else self.copies, "validation")


def judged_apart(task: Any, learner: Any, out: Path) -> Apart:
    """Make ready to judge `learner`, which is not fitted yet, by samples that do not stop it.

    `task` is one that `Chooses`.

    Copies are fitted here, in the session that is open: each has its share of the time that is
    left, and so has the fit that follows.
    """
    from stackwise.training.session import current_session, session

    count = task.choosing_folds
    if count is None:
        stops, chooses = task.parted()
        rows = [part.describe()["rows"]["validation"] for part in (stops, chooses)]
        all_of_them = sum(rows) > task.describe()["rows"]["validation"]  # too few to be parted
        words = "validation rows" if all_of_them else "validation rows that stopped no fit"
        return Apart(stops, chooses, None, words, 0.0)
    outer = current_session()
    left = outer.seconds_left()
    began = time.perf_counter()
    with session(
        # processes that learn together would write one another's copies
        folder=None if processes.count() > 1 else out / FOLDER, resume=outer.resume,
        on_event=outer.on_event,
        time_limit=None if left is None else max(left, 1.0) * count / (count + 1),
    ):  # fmt: skip
        copies = task.bagged(learner, task.folds(count))
    seconds = getattr(copies, "seconds_", time.perf_counter() - began)
    words = f"cross-validation over {count} folds"
    return Apart(task, task, copies, words, seconds)


def forget_copies(out: Path) -> None:
    """Remove the copies of a run. A kill on the way leaves none that looks complete."""
    for done in (out / FOLDER).glob("*/fold.json"):
        done.unlink()
    remove(out / FOLDER)
