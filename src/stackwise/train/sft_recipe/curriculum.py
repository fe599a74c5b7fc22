"""The samples of each phase: all at once, phase after phase, or short answers first."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stackwise.errors import KnobError
from stackwise.tasks.instructions.encode import Encoded
from stackwise.train.sft_recipe.recipes import Order


def curriculum(
    task: Any, samples: Sequence[Encoded], order: Order, replay: float, seed: int
) -> dict[str, list[Encoded]]:
    """The samples of each phase, in order; each later one with a sample of those before it.

    Raises:
        KnobError: phases are asked for and the data names fewer than two.
    """
    if order == "stacked":
        return {"train": list(samples)}
    if order == "difficulty":
        by_length = sorted(samples, key=lambda one: (task.chats[one.row].answer_length, one.row))
        half = len(by_length) // 2
        parts = {"short answers": by_length[:half], "long answers": by_length[half:]}
    else:
        if len(task.phases) < 2:
            raise KnobError(
                "phased order needs at least 2 named phases: a field 'phase', or a folder with a "
                "file each; order=difficulty makes two of the answers' lengths"
            )
        parts = {
            name: [one for one in samples if task.chats[one.row].phase == name]
            for name in task.phases
        }
        parts = {name: found for name, found in parts.items() if found}
    generator = np.random.default_rng(seed)
    found: dict[str, list[Encoded]] = {}
    before: list[Encoded] = []
    for name, own in parts.items():
        count = int(np.ceil(replay * len(before)))
        again = [before[i] for i in np.sort(generator.permutation(len(before))[:count])]
        found[name] = [*own, *again]
        before += own
    return found
