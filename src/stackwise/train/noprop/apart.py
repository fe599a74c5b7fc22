"""Train blocks apart: in turn, on a pool of processes, or on a Ray cluster, to the same bits.

Each block is a fit of its own, with its own optimizer, noise, checkpoints and best weights, and so
is the readout: with a fixed embedding nothing couples them (see `stackwise.learning.apart`).
"""

import contextlib
import copy
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from stackwise.learning.apart import FitsApart
from stackwise.train.noprop.network import NoPropStack
from stackwise.train.noprop.rule import BlockRule
from stackwise.training.loop import train_phases
from stackwise.training.phases import Phase, Trained
from stackwise.training.session import current_session


@dataclass(kw_only=True)
class Blocks(FitsApart):
    """The fits of all blocks of a stack.

    Attributes:
        phases: one a block, and one for the readout.
        options: of `train_phases`, but for the time.
    """

    stack: NoPropStack
    phases: list[Phase]
    options: dict[str, Any]
    kind: ClassVar[str] = "block"

    def one(self, place: int) -> tuple[dict[str, Tensor], Trained]:
        """Train one block: its weights, and how the fit went (without a model)."""
        stack, phase = copy.deepcopy(self.stack), self.phases[place]
        rule = phase.rule
        assert isinstance(rule, BlockRule)
        for name, parameter in stack.named_parameters():  # others learn nothing, and cost nothing
            parameter.requires_grad_(name.startswith(self.prefix(place)))
        trained = train_phases(stack, [phase], **self.options)
        weights = {k: v.cpu() for k, v in rule.part(trained.model).state_dict().items()}
        trained.model = nn.Identity()
        return weights, trained

    def prefix(self, place: int) -> str:
        """How the names of a fit's parameters begin."""
        return "readout." if place == len(self.stack.blocks) else f"blocks.{place}."


def train_blocks(
    blocks: Blocks, time_limit: float | None = None
) -> tuple[NoPropStack, list[Trained]]:
    """Train every block and put them together.

    Args:
        time_limit: seconds for all blocks.

    Raises:
        TrainingError: a block's process died again and again, or its loss is no number.
        StudyError: there is no such cluster.
    """
    made = copy.deepcopy(blocks.stack)
    found: dict[int, Trained] = {}
    with contextlib.closing(blocks.results(time_limit)) as results:
        for place, (weights, trained) in results:
            part = made.readout if place == len(made.blocks) else made.blocks[place]
            part.load_state_dict(weights)
            found[place] = trained
    history = [found[place] for place in range(len(blocks.phases))]
    for place, trained in enumerate(history):
        trained.history = [line | {"fit": place} for line in trained.history]
        for line in trained.history:
            current_session().log(line)
    return made, history
