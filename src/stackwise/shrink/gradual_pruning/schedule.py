"""When the masks change, and how sparse they then are (equation 1 of arXiv 1710.01878)."""

from dataclasses import dataclass
from typing import Literal

from stackwise.errors import KnobError, TrainingError

Kind = Literal["gradual", "one-shot", "constant"]


def cubic_sparsity(
    step: int, *, start: int, end: int, initial: float = 0.0, final: float, exponent: float = 3.0
) -> float:
    """The sparsity that the curve reaches at `step`.

        s_t = s_f + (s_i - s_f) (1 - (t - t0) / (t1 - t0))^exponent,  held outside [t0, t1]

    It falls steeply while there is much to spare, and flattens towards the end.
    """
    progress = min(max((step - start) / (end - start), 0.0), 1.0)
    return final + (initial - final) * (1 - progress) ** exponent


@dataclass(frozen=True)
class Schedule:
    """The steps of the optimizer before which masks change.

    Attributes:
        kind: `gradual` follows the curve; `one-shot` prunes once, at `start`; `constant` holds
            the final sparsity from `start` on and chooses the weights anew every so often.
    """

    start: int
    end: int
    every: int
    exponent: float = 3.0
    kind: Kind = "gradual"

    @property
    def updates(self) -> list[int]:
        """The update steps. The last is `end` itself, so that the target is always reached."""
        if self.kind == "one-shot":
            return [self.start]
        return [*range(self.start, self.end, self.every), self.end]

    @property
    def last(self) -> int:
        """The step of the last update: from then on the masks stay."""
        return self.updates[-1]

    def sparsity(self, step: int, *, initial: float, final: float) -> float:
        """The sparsity to prune to at an update step."""
        if self.kind != "gradual":
            return final
        return cubic_sparsity(
            step, start=self.start, end=self.end, initial=initial, final=final,
            exponent=self.exponent,
        )  # fmt: skip

    @classmethod
    def within(
        cls, total: int, *, start: float, end: float, every: int, exponent: float, kind: Kind
    ) -> "Schedule":
        """Place the schedule in a run of `total` steps.

        Args:
            start, end: up to 1 a share of the run, above it a step.

        Raises:
            KnobError: start does not come before end. TrainingError: the run is too short.
        """
        first, last = (round(v * total) if v <= 1 else round(v) for v in (start, end))
        if start >= end and (start <= 1) == (end <= 1):
            raise KnobError(f"start ({start:g}) must come before end ({end:g})")
        if first >= total:
            raise TrainingError(f"the run has {total} steps, pruning starts at {first}")
        if last > total - 1:
            if end > 1:
                raise TrainingError(f"the run has {total} steps, pruning ends at {last}")
            last = total - 1
        if first >= last and kind != "one-shot":
            raise TrainingError(
                f"the run has {total} steps: too few to prune from step {first} to {last}; train "
                "for more epochs or widen start and end"
            )
        return cls(first, last, every, exponent, kind)
