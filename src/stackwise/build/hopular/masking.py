"""Masked attributes as a task of its own: guess what was hidden of a row.

Each attribute but the target is selected with probability `noise`. A selected one is masked with
probability `mask`, replaced by a random class or a draw of N(0, 1) with probability `replace`, and
left as it is otherwise; the network answers for all selected ones. The target is always masked.

    L = lambda L_feature + (1 - lambda) L_target,    lambda from 1 to 0 along a cosine

L_feature is the mean over attributes of their mean losses, not over entries.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from stackwise.build.hopular.network import Hopular, Rows


@dataclass(frozen=True)
class Masking:
    """Probabilities of hiding attributes."""

    noise: float = 0.15
    mask: float = 0.8
    replace: float = 0.1

    def hide(
        self, network: Hopular, numeric: Tensor, categorical: Tensor, target: Tensor
    ) -> tuple[Rows, Tensor]:
        """Rows with attributes hidden, and which of them are to be guessed, (B, F) bool."""
        shape = (len(numeric), network.attributes)
        chance = torch.rand(shape, device=numeric.device)
        selected = torch.rand(shape, device=numeric.device) < self.noise
        selected[:, network.target_place] = False
        masked = selected & (chance < self.mask)
        replaced = selected & (chance >= self.mask) & (chance < self.mask + self.replace)
        masked[:, network.target_place] = True
        numbers = numeric.shape[1]
        first = numbers + (not network.by_class)  # where the categories begin
        numeric = torch.where(replaced[:, :numbers], torch.randn_like(numeric), numeric)
        count = len(network.cardinalities)
        if count:
            sizes = torch.tensor(network.cardinalities, device=numeric.device)
            draws = (torch.rand(len(numeric), count, device=numeric.device) * sizes).long()
            swapped = replaced[:, first : first + count]
            categorical = torch.where(swapped, draws, categorical)
        return Rows(numeric, categorical, target, masked), selected


def annealed(step: int, total: int, start: float = 1.0, end: float = 0.0) -> float:
    """lambda at `step` of `total`: from `start` to `end` along half a cosine."""
    progress = min(step / max(total - 1, 1), 1.0)
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))


def attribute_losses(
    network: Hopular, answers: Tensor, numeric: Tensor, categorical: Tensor, selected: Tensor
) -> Tensor:
    """(m,) the mean loss of each attribute that has selected rows with a known value."""
    parts = answers.split(network.sizes, dim=1)
    losses = []
    numbers = numeric.shape[1]
    if numbers:
        guesses = torch.cat(parts[:numbers], 1)
        asked = selected[:, :numbers] & ~numeric.isnan()
        squares = torch.where(asked, (guesses - numeric.nan_to_num()) ** 2, 0.0)
        counts = asked.sum(0)
        losses.append((squares.sum(0) / counts.clamp(min=1))[counts > 0])
    first = numbers + (not network.by_class)
    for place, size in enumerate(network.cardinalities):
        asked = selected[:, first + place] & (categorical[:, place] < size)
        if bool(asked.any()):
            codes = categorical[asked, place]
            losses.append(functional.cross_entropy(parts[first + place][asked], codes)[None])
    return torch.cat(losses) if losses else answers.new_zeros(0)


def target_loss(network: Hopular, answers: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The weighted mean loss of the target."""
    guess = answers.split(network.sizes, dim=1)[network.target_place]
    if network.by_class:
        losses = functional.cross_entropy(guess, target, reduction="none")
    else:
        losses = (guess[:, 0] - target) ** 2
    return (losses * weight).mean()
