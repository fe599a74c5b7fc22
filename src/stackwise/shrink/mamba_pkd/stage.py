"""The loss of the student that is learned in a stage, by the chain's mode (see `chain`).

The logits of the students before are computed in each step, without gradients, rather than kept
for the training rows: they cost a fraction of the student's own step, since students grow, and
belong to the pictures as they are varied in that step.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.learning.outputs import Distilling, inputs_in, output_loss_of
from stackwise.shrink.mamba_pkd.boosting import barrier_loss, first_weights, reweigh
from stackwise.shrink.mamba_pkd.chain import SUMS, Mode, regression_loss
from stackwise.shrink.mamba_pkd.students import MambaChain

LEAST = -13.8
"""Log of the least probability of a teacher (1e-6) that logits are fitted to."""
BLOCK = 256


class StageLoss:
    """(chain, batch) -> scalar: what the chain's last student learns.

    Args:
        loss: `batch_loss`, or `Distilling` where there is a teacher.
        rows: `pixels` and `teacher` of all training rows; `boosted` has a weight for each of them,
            and its batches hold their numbers as `row`.
        eta: of `boosted`.
    """

    def __init__(
        self, loss: Any, mode: Mode, *, rows: Mapping[str, Any] | None = None, eta: float = 0.1
    ) -> None:
        self.loss, self.of_output, self.mode = loss, output_loss_of(loss), mode
        self.rows, self.eta = rows, eta
        self.weights: tuple[Tensor, Tensor] | None = None
        self.stage = 0

    def __call__(self, chain: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The loss of a batch."""
        assert isinstance(chain, MambaChain)
        *before, output = chain.outputs(**inputs_in(batch))
        if self.mode not in SUMS and self.mode != "boosted":
            return self.of_output(output, batch)
        scale = chain.shrinkage if self.mode in SUMS else 1.0
        sum_before = scale * torch.stack(before).sum(0) if before else torch.zeros_like(output)
        if self.mode == "residual":
            return self.of_output(sum_before.detach() + scale * output, batch)
        assert isinstance(self.loss, Distilling)
        teacher = fitted_logits(self.loss.answers(batch)).to(output)
        if self.mode == "regress":
            return regression_loss(scale * output, sum_before, teacher)
        above, below = self._weights(chain)
        place = batch["row"].cpu()
        return barrier_loss(
            output, teacher, above[place].to(output), below[place].to(output)
        ) / len(output)  # fmt: skip

    @torch.no_grad()
    def _weights(self, chain: MambaChain) -> tuple[Tensor, Tensor]:
        """K+ and K- (N, C) of the stage, which follow from the students before: nothing of them
        has to be kept for a resume.
        """
        if self.weights is not None and self.stage == len(chain):
            return self.weights
        assert self.rows is not None
        teacher = fitted_logits(self.rows["teacher"])
        above, below = first_weights(*teacher.shape)
        place = next(chain.parameters())
        if len(chain) > 1:
            found: list[list[Tensor]] = []
            for start in range(0, len(teacher), BLOCK):
                pixels = torch.as_tensor(self.rows["pixels"][start : start + BLOCK]).to(place)
                found.append([f.cpu() for f in chain.first(len(chain) - 1).outputs(pixels)])
            for outputs in zip(*found, strict=True):
                above, below = reweigh(torch.cat(outputs), teacher, above, below, self.eta)
            # so that losses of all stages are of one size
            above, below = above * teacher.numel(), below * teacher.numel()
        self.stage, self.weights = len(chain), (above, below)
        return self.weights


def fitted_logits(teacher: Tensor) -> Tensor:
    """A teacher's logits (N, C) as values to fit: log p, at least `LEAST`, with mean 0 a row, since
    softmax knows no other.
    """
    logits = teacher.float().log_softmax(-1).clamp_min(LEAST)
    return logits - logits.mean(-1, keepdim=True)
