"""What a language model says of a text: the log probability of each next token."""

from typing import Any

import torch
from torch import Tensor

TOKENS = 4096
"""Tokens of a forward pass."""


@torch.no_grad()
def token_log_probabilities(learner: Any, rows: Tensor) -> tuple[Tensor, Tensor]:
    """How likely each token of a row is, given those before it.

    Args:
        learner: a causal language model, a fitted learner that holds one as `model_`, or anything
            with a method of this name.
        rows: (n, length) token numbers.

    Returns:
        (n, length - 1) log probabilities in nats, float32, and as many bools: whether the most
        likely token was the right one. Both on the CPU.
    """
    own = getattr(learner, "token_log_probabilities", None)
    if own is not None:
        found: tuple[Tensor, Tensor] = own(rows)
        return found
    model = getattr(learner, "model_", learner)
    device = next(model.parameters()).device
    logs, hits = [], []
    for part in rows.split(max(1, TOKENS // rows.shape[1])):
        ids = part.to(device)
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        target = ids[:, 1:]
        hits.append((logits.argmax(-1) == target).cpu())
        logs.append((logits.gather(-1, target[..., None])[..., 0] - logits.logsumexp(-1)).cpu())
    return torch.cat(logs), torch.cat(hits)
