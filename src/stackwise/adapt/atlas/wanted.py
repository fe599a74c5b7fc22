"""The knobs of atlas, together, and which of them go together."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from stackwise.adapt.atlas.budget import Selection
from stackwise.adapt.atlas.composition import Scaling
from stackwise.adapt.atlas.objectives import Objective
from stackwise.catalog import task_card
from stackwise.errors import DataError, KnobError
from stackwise.protocols import Task
from stackwise.tasks import open_task
from stackwise.training.rules import Schedule

UNLABELLED = ("entropy", "ufm", "simclr")


@dataclass(frozen=True)
class Wanted:
    """The knobs of `atlas`, together."""

    donors: Any
    scaling: Scaling = "block"
    parts: int = 1
    objective: Objective = "supervised"
    control: Any = None
    control_kept: float = 0.95
    l1: float = 0.0
    l2: float = 0.0
    budget: int | None = None
    select: Selection = "grad-block"
    donor_data: Any = None
    linearised: bool = False
    sharpen: float = 0.5
    alpha: float | Literal["search"] | None = None
    exclude: Sequence[str] | None = None
    keep: Literal["best", "last"] = "best"
    lr: float = 0.1
    weight_decay: float = 0.1
    schedule: Schedule = "cosine"
    min_steps: int = 0
    head_epochs: int = 0
    head_lr: float = 1e-3
    loss: Any = None
    epochs: int = 10
    batch_size: int | None = None
    time_limit: float | None = None
    device: str = "auto"
    random_state: int = 0

    def changed(self, *names: str) -> str | None:
        """The first of these knobs that is not at its default."""
        defaults = {field.name: field.default for field in fields(self)}
        return next((name for name in names if getattr(self, name) != defaults[name]), None)

    def check(self, data: Any) -> None:
        """Nothing where the knobs go together.

        Raises:
            KnobError: they do not; or a knob is given that would change nothing. DataError: what
                is learned needs data, or a control.
        """
        if self.alpha is not None:
            idle = self.changed("scaling", "parts", "control", "objective", "budget", "select",
                                "donor_data", "linearised", "l1", "l2", "keep",
                                "head_epochs")  # fmt: skip
            if idle is not None:
                raise KnobError(f"alpha adds all donors by one number, so that {idle} does nothing")
        if data is None and not isinstance(self.alpha, float):
            raise DataError(
                "coefficients are learned from data: give data, or alpha for task arithmetic"
            )
        if self.parts > 1 and self.scaling == "donor":
            raise KnobError("parts splits blocks, and scaling donor has no coefficient a block")
        if self.budget is None and self.changed("select", "donor_data"):
            raise KnobError("select and donor_data choose within a budget: give budget too")
        if (self.select == "features") != (self.donor_data is not None):
            raise KnobError("select features compares data: give donor_data, a source a donor")
        if self.objective != "negate" and self.changed("control_kept"):
            raise KnobError("control_kept is of objective negate")
        if self.head_epochs and (self.objective != "supervised" or self.control):
            raise KnobError(
                "the head is learned from the labels of one data set: head_epochs is of objective "
                "supervised without control"
            )
        if not self.head_epochs and self.changed("head_lr"):
            raise KnobError("head_lr does nothing without head_epochs")
        if self.objective == "negate" and not self.control:
            raise DataError(
                "negation without a control forgets everything: give control, data that are to be "
                "known as before"
            )
        if self.objective in UNLABELLED and (self.control is not None or self.linearised):
            idle = "control" if self.control is not None else "linearised"
            raise KnobError(f"objective {self.objective} has no use for {idle}")
        if self.objective != "ufm" and self.changed("sharpen"):
            raise KnobError("sharpen is of objective ufm")

    def sources(self, given: Any, data: Any, what: str) -> list[Any]:
        """Further data: paths are read as `data` was.

        Raises:
            DataError: `data` is no task, so that nothing says how a path is read.
        """
        found = []
        for one in given or ():
            if isinstance(one, (str, Path)):
                if not isinstance(data, Task):
                    raise DataError(
                        f"{what} names {one}, which is read as the data are: give a loaded task as "
                        "data, or data in place of the name"
                    )
                one = open_task(data.name, one, getattr(data, "options", {}) | _role(data))
            found.append(one)
        return found


def _role(task: Any) -> dict[str, Any]:
    """What a task was told that it predicts, where it is told."""
    role = task_card(task.name).role
    known = task.describe().get("target") if role is not None else None
    return {} if role is None or known is None else {role: known}
