"""The recipes: how many samples a step, which learning rate, which schedule, how often.

    lab     as many samples as one has (3,840), 2e-5, constant, no warm-up: the paper's
    tulu    128 samples, 2e-5, 3 % warm-up, linear to zero
    orca    phase after phase, each with the set of tulu: progressive learning
    usual   what a plain trainer does unless told otherwise: 8 samples, 5e-5, linear, 3 epochs

A batch of 3,840 is less than one step an epoch on small data; there it is a twentieth of the
samples.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from stackwise.errors import KnobError
from stackwise.training.rules import Schedule

Order = Literal["stacked", "phased", "difficulty"]
NAMES = ("lab", "tulu", "orca", "usual")
STEPS = 20
"""Steps an epoch that a recipe's batch leaves at least."""


@dataclass(frozen=True)
class Recipe:
    """The settings of a fine-tuning.

    Attributes:
        batch_size: samples a step of the optimizer, however they are laid into rows.
        warmup: share of the steps. epochs: passes over each phase.
    """

    name: str
    batch_size: int
    lr: float
    schedule: Schedule
    warmup: float
    epochs: int
    order: Order = "stacked"
    note: str | None = None

    def changed(self, **given: Any) -> "Recipe":
        """The recipe with what is not None put in its place."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    def as_dict(self) -> dict[str, Any]:
        """The recipe as JSON."""
        return asdict(self)


def lab_recipe(samples: int) -> Recipe:
    """The paper's: a large batch, a low constant learning rate, no warm-up."""
    return _fitting(Recipe("lab", 3840, 2e-5, "constant", 0.0, 10), samples)


def tulu_recipe(samples: int) -> Recipe:
    """The rival: small batches and a rate that falls."""
    return _fitting(Recipe("tulu", 128, 2e-5, "linear", 0.03, 2), samples)


def orca_recipe(samples: int) -> Recipe:
    """Progressive learning: phases in their order (by difficulty where there are none)."""
    return replace(tulu_recipe(samples), name="orca", order="phased")


def usual_recipe(samples: int) -> Recipe:
    """The defaults of a plain trainer."""
    return Recipe("usual", min(8, samples), 5e-5, "linear", 0.0, 3)


def recipe(name: str, samples: int) -> Recipe:
    """The recipe of this name for so many samples."""
    made = {"lab": lab_recipe, "tulu": tulu_recipe, "orca": orca_recipe, "usual": usual_recipe}
    if name not in made:
        raise KnobError(f"there is no recipe {name!r}; there is {', '.join(NAMES)}")
    return made[name](samples)


def _fitting(wanted: Recipe, samples: int) -> Recipe:
    most = max(1, samples // STEPS)
    if wanted.batch_size <= most:
        return wanted
    return replace(
        wanted, batch_size=most,
        note=f"a batch of {wanted.batch_size} is too large for {samples} samples; {most} is used, "
        f"so that an epoch has {STEPS} steps",
    )  # fmt: skip
