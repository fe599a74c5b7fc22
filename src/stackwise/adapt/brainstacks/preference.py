"""DPO for the domain that is being learned: the reference is the same model without it.

    L = -log sigmoid( beta ((log pi - log ref)(chosen) - (log pi - log ref)(rejected)) )

So no second model is held. Source: arXiv 2305.18290, as the last step of a domain.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.adapt.brainstacks.switch import active_off


def dpo_loss(
    log_likelihood: Callable[[nn.Module, Any], Tensor], beta: float = 0.1
) -> Callable[[nn.Module, Mapping[str, Any]], Tensor]:
    """A loss for `brainstacks(..., loss=...)` on batches `{"chosen": ..., "rejected": ...}`.

    Args:
        log_likelihood: (model, chosen or rejected) -> (B,) the log-likelihood of each answer.
        beta: how far the answers may move from the reference's.
    """

    def loss(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        with torch.no_grad(), active_off(model):
            before = log_likelihood(model, batch["chosen"]) - log_likelihood(
                model, batch["rejected"]
            )
        now = log_likelihood(model, batch["chosen"]) - log_likelihood(model, batch["rejected"])
        return -functional.logsigmoid(beta * (now - before)).mean()

    return loss
