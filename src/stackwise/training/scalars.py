"""The scalars of an epoch: kept on their device, read together, averaged."""

import torch
from torch import Tensor


class Scalars:
    """Sums of what a rule's steps return.

    Reading a number back from a device waits for all work on it. The scalars of a step therefore
    wait in a list until `read`, which sums them one by one: however often it is called, the
    rounding is the same, and with it the means of a resumed epoch.
    """

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.waiting: dict[str, list[Tensor]] = {}

    def add(self, scalars: dict[str, Tensor]) -> None:
        """Take the scalars of one step."""
        for name, value in scalars.items():
            self.waiting.setdefault(name, []).append(value.detach())

    def read(self) -> tuple[int, float] | None:
        """Sum what waits.

        Returns:
            None, or the first loss that is not finite: how many steps ago (0: the last), and it.
        """
        bad = None
        for name, values in self.waiting.items():
            numbers = torch.stack(values).double().cpu()
            wrong = (~numbers.isfinite()).nonzero()
            if name == "loss" and len(wrong):
                first = int(wrong[0])
                bad = len(values) - 1 - first, float(numbers[first])
            total = self.sums.get(name, 0.0)
            for number in numbers.tolist():
                total += number
            self.sums[name] = total
        self.waiting = {}
        return bad

    def means(self, steps: int) -> dict[str, float]:
        """The sums over `steps`, which are then forgotten."""
        means = {name: total / max(steps, 1) for name, total in self.sums.items()}
        self.sums = {}
        return means
