"""Masked attributes as a task of its own: guess what was hidden of a row.

Each attribute but the target is selected with probability `noise`. A selected one is masked with
probability `mask`, replaced by a random class or a draw of N(0, 1) with probability `replace`, and
left as it is otherwise; the network answers for all selected ones. The target is always masked.

    L = lambda L_feature + (1 - lambda) L_target,    lambda from 1 to 0 along a cosine

L_feature is the mean over attributes of their mean losses, not over entries. Where several
processes divide a batch, the means are those of the whole batch, and a row is hidden by the same
random numbers as in one process.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from stackwise.build.hopular.network import Hopular, Rows
from stackwise.learning.outputs import output_loss

Draw = Callable[[int], Tensor]
"""Random numbers for so many rows."""


def draw_here(rows: int, draw: Draw) -> Tensor:
    """Random numbers for rows that are the whole batch."""
    return draw(rows)


@dataclass(frozen=True)
class Masking:
    """Probabilities of hiding attributes."""

    noise: float = 0.15
    mask: float = 0.8
    replace: float = 0.1

    def hide(
        self,
        network: Hopular,
        numeric: Tensor,
        categorical: Tensor,
        target: Tensor,
        *,
        for_each_row: Callable[[int, Draw], Tensor] = draw_here,
    ) -> tuple[Rows, Tensor]:
        """Rows with attributes hidden, and which of them are to be guessed, (B, F) bool.

        Args:
            for_each_row: (rows, draw) -> their random numbers; the loop's, where processes divide
                a batch.
        """
        size, device = len(numeric), numeric.device

        def uniform(columns: int) -> Tensor:
            return for_each_row(size, lambda rows: torch.rand(rows, columns, device=device))

        chance = uniform(network.attributes)
        selected = uniform(network.attributes) < self.noise
        selected[:, network.target_place] = False
        masked = selected & (chance < self.mask)
        replaced = selected & (chance >= self.mask) & (chance < self.mask + self.replace)
        masked[:, network.target_place] = True
        numbers = numeric.shape[1]
        first = numbers + (not network.by_class)  # where the categories begin
        normal = for_each_row(size, lambda rows: torch.randn(rows, numbers, device=device))
        numeric = torch.where(replaced[:, :numbers], normal, numeric)
        count = len(network.cardinalities)
        if count:
            sizes = torch.tensor(network.cardinalities, device=device)
            draws = (uniform(count) * sizes).long()
            swapped = replaced[:, first : first + count]
            categorical = torch.where(swapped, draws, categorical)
        return Rows(numeric, categorical, target, masked), selected


def annealed(step: int, total: int, start: float = 1.0, end: float = 0.0) -> float:
    """lambda at `step` of `total`: from `start` to `end` along half a cosine."""
    progress = min(step / max(total - 1, 1), 1.0)
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))


def attribute_losses(
    network: Hopular,
    answers: Tensor,
    numeric: Tensor,
    categorical: Tensor,
    selected: Tensor,
    *,
    sum_over_processes: Callable[[Tensor], Tensor] = lambda counts: counts,
) -> Tensor:
    """(m,) the loss of each attribute that has selected rows with a known value: their sum here
    over their number in all processes, which is the mean where there is one.
    """
    parts = answers.split(network.sizes, dim=1)
    numbers = numeric.shape[1]
    first = numbers + (not network.by_class)
    places = list(range(numbers)) + [first + place for place in range(len(network.cardinalities))]
    sizes = categorical.new_tensor(network.cardinalities)
    known = torch.cat([~numeric.isnan(), categorical < sizes], 1)
    asked = selected[:, places] & known
    counts = sum_over_processes(asked.sum(0))
    losses = []
    if numbers:
        guesses = torch.cat(parts[:numbers], 1)
        squares = torch.where(asked[:, :numbers], (guesses - numeric.nan_to_num()) ** 2, 0.0)
        of_numbers = counts[:numbers]
        losses.append((squares.sum(0) / of_numbers.clamp(min=1))[of_numbers > 0])
    for place, count in enumerate(counts[numbers:].tolist()):
        if count:
            rows = asked[:, numbers + place]
            total = functional.cross_entropy(
                parts[first + place][rows], categorical[rows, place], reduction="sum"
            )
            losses.append(total[None] / count)
    return torch.cat(losses) if losses else answers.new_zeros(0)


def target_output(network: Hopular, answers: Tensor) -> Tensor:
    """(B, C) what a batch's answers say of the target."""
    return answers.split(network.sizes, dim=1)[network.target_place]


def target_loss(network: Hopular, answers: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The weighted mean loss of the target."""
    return output_loss(target_output(network, answers), {"target": target, "weight": weight})
