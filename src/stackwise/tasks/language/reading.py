"""What a task on language must know of a model: its tokenizer, its context, its place."""

from typing import Any

import torch
from torch import nn

from stackwise.errors import DataError
from stackwise.tasks.text_batches import tokenizer_of


def tokenizer_for(model: Any, learner: Any, what: str) -> Any:
    """The tokenizer of a fitted learner, or the one in the folder that a model came from.

    Raises:
        DataError: there is none to read `what` with.
    """
    tokenizer = getattr(learner, "tokenizer_", None) or tokenizer_of(model)
    if tokenizer is None:
        raise DataError(
            f"a {type(model).__name__} has no tokenizer beside it to read {what} with; give a "
            "folder that holds one, or a fitted learner"
        )
    return tokenizer


def context_of(model: Any) -> int | None:
    """Most tokens that a model takes, where its config says so."""
    most = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    return None if most is None else int(most)


def device_of(model: nn.Module) -> torch.device:
    """Where a model's weights are."""
    return next(model.parameters()).device
