"""A linear chain over the classes of a sentence's words: a conditional random field.

    score(y) = start[y_1] + sum_i emission[i, y_i] + sum_i transition[y_i, y_{i+1}] + end[y_n]
    log p(y) = score(y) - log sum_y' exp score(y')

The sum over all sequences goes through the sentence once, forward; the likeliest sequence likewise
(Viterbi), and the probability of each class at each word forward and back.
"""

import torch
from torch import Tensor, nn


class CRF(nn.Module):
    """A chain over `classes` classes; sentences are padded at their ends.

    Parameters: `start` (C,), `transition` (C, C) from a class to the next, `end` (C,).
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(classes))
        self.transition = nn.Parameter(torch.zeros(classes, classes))
        self.end = nn.Parameter(torch.zeros(classes))

    def log_likelihood(self, emissions: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """(B,) log p of the classes of each sentence.

        Args:
            emissions: (B, T, C). target: (B, T) int64; behind a sentence's end it does not count.
            mask: (B, T) bool, which are words.
        """
        y = torch.where(mask, target, 0)
        rows = torch.arange(len(y), device=y.device)
        found = emissions.gather(2, y[..., None])[..., 0]
        score = self.start[y[:, 0]] + (found * mask).sum(1)
        score = score + (self.transition[y[:, :-1], y[:, 1:]] * mask[:, 1:]).sum(1)
        score = score + self.end[y[rows, mask.sum(1) - 1]]
        return score - self._forward(emissions, mask)[1]

    def _forward(self, emissions: Tensor, mask: Tensor) -> tuple[list[Tensor], Tensor]:
        """The logarithms of the sums up to each word, (B, C) each, and (B,) over all of them."""
        alpha = self.start + emissions[:, 0]
        alphas = [alpha]
        for step in range(1, emissions.shape[1]):
            further = torch.logsumexp(alpha[:, :, None] + self.transition, dim=1)
            further = further + emissions[:, step]
            alpha = torch.where(mask[:, step, None], further, alpha)
            alphas.append(alpha)
        return alphas, torch.logsumexp(alpha + self.end, dim=1)

    @torch.no_grad()
    def marginals(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """(B, T, C) the probability of each class at each word."""
        alphas, whole = self._forward(emissions, mask)
        length = emissions.shape[1]
        beta = self.end.expand(len(emissions), -1)
        betas = [beta]
        for step in range(length - 2, -1, -1):
            follow = self.transition + (emissions[:, step + 1] + beta)[:, None, :]
            before = torch.logsumexp(follow, dim=2)
            beta = torch.where(mask[:, step + 1, None], before, beta)
            betas.append(beta)
        joint = torch.stack(alphas, 1) + torch.stack(betas[::-1], 1) - whole[:, None, None]
        return torch.where(mask[..., None], joint.exp(), 0.0)

    @torch.no_grad()
    def decode(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """(B, T) int64 the likeliest classes of each sentence; 0 behind its end."""
        best = self.start + emissions[:, 0]
        came: list[Tensor] = []
        stay = torch.arange(best.shape[1], device=best.device)
        for step in range(1, emissions.shape[1]):
            scores, place = (best[:, :, None] + self.transition).max(dim=1)
            on = mask[:, step, None]
            best = torch.where(on, scores + emissions[:, step], best)
            came.append(torch.where(on, place, stay))
        last = (best + self.end).argmax(1)
        found = [last]
        for place in reversed(came):
            last = place.gather(1, last[:, None])[:, 0]
            found.append(last)
        return torch.stack(found[::-1], 1) * mask
