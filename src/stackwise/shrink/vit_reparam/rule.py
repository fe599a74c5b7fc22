"""The training rule: ordinary learning while branches are pulled together.

Before each step lambda is set as the schedule says. Only from the step on at which it is 1
everywhere is the model one that can be merged, so that only then a score may count as the best.

Where time is limited, the schedule follows whichever is further, the steps or the time, so that
branches are joined and recover before the time is over. Without a limit it follows the steps
alone, and a run is the same bit for bit each time.
"""

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.shrink.vit_reparam.branches import branch_gap, branched_blocks
from stackwise.shrink.vit_reparam.schedule import JoinSchedule, set_join
from stackwise.training.rules import Backprop, Loop
from stackwise.training.session import current_session

LOOKED_AT = 32
"""Rows of a batch, of a process's own part, on which it is measured how far branches are apart."""


class JoinRule(Backprop):
    """`Backprop` on a model of branched blocks.

    Beside the validation scores it gives `joined`, the mean lambda, and `branch_gap`, the largest
    of `branch_gap` on rows of the last batch.

    Args:
        schedule: of lambda. time_limit: seconds that the fit may take, besides the session's own.
    """

    def __init__(
        self,
        loss: Any,
        *,
        schedule_of_joining: JoinSchedule,
        time_limit: float | None = None,
        **training: Any,
    ) -> None:
        super().__init__(loss, **training)
        self.joining, self.time_limit = schedule_of_joining, time_limit
        self.began = time.monotonic()
        self.reached = 0.0
        self.settled = False
        self.seen: tuple[Any, Any] | None = None

    def step(self, loop: Loop, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Set lambda, then learn as ever."""
        steps = loop.step / (loop.total_steps - 1) if loop.total_steps > 1 else 1.0
        self.reached = max(self.reached, steps, self._share_of_time())
        lam = self.joining.at_share(self.reached, len(branched_blocks(model)))
        set_join(model, lam)
        self.settled = all(value == 1 for pair in lam for value in pair)
        if loop.place + 1 == loop.epoch_steps:
            return self._watched(loop, model, batch)
        return super().step(loop, model, batch)

    def _watched(self, loop: Loop, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """The step of an epoch's last batch, with what the model is called with kept."""

        def keep(_: nn.Module, args: Any, named: Any) -> None:
            self.seen = self.seen or (_few(args), _few(named))

        self.seen = None
        hook = model.register_forward_pre_hook(keep, with_kwargs=True)
        try:
            return super().step(loop, model, batch)
        finally:
            hook.remove()

    def _share_of_time(self) -> float:
        """Of the time that the fit may take, how much is over; 0 without a limit."""
        spent = time.monotonic() - self.began
        lefts = [current_session().seconds_left()]
        lefts += [None if self.time_limit is None else self.time_limit - spent]
        left = min((seconds for seconds in lefts if seconds is not None), default=None)
        if left is None:
            return 0.0
        return min(spent / max(spent + left, 1e-9), 1.0)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """The scores, and how far the branches are apart."""
        scores = dict(super().validate(model))
        blocks = branched_blocks(model)
        lam = [float(part.lam) for block in blocks for part in (block.attention, block.ffn)]
        scores["joined"] = sum(lam) / len(lam)
        if self.seen is not None:
            args, named = self.seen
            model.eval()
            gaps = branch_gap(model, *args, **named)
            model.train()
            scores["branch_gap"] = max(value for gap in gaps for value in gap.values())
        return scores

    def state(self) -> dict[str, Tensor]:
        """How far the schedule went; lambda itself is a buffer of the model."""
        return {
            "settled": torch.tensor(self.settled),
            "reached": torch.tensor(self.reached, dtype=torch.float64),
        }

    def load_state(self, model: nn.Module, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        self.settled, self.reached = bool(state["settled"]), float(state["reached"])


def _few(given: Any) -> Any:
    """The first rows of what a model is called with."""
    if isinstance(given, Tensor):
        return given[:LOOKED_AT].detach().clone()
    if isinstance(given, dict):
        return {name: _few(value) for name, value in given.items()}
    return (
        type(given)(_few(value) for value in given) if isinstance(given, (list, tuple)) else given
    )
