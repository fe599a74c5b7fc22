"""What a task on language must know of a model: its tokenizer, its context, its place."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from stackwise.errors import DataError, ModelError
from stackwise.optional import needs


def tokenizer_of(model: Any) -> Any:
    """The tokenizer in the folder that `model` was loaded from, or None."""
    folder = Path(getattr(model, "name_or_path", "") or "?")
    if not any((folder / name).is_file() for name in ("tokenizer_config.json", "tokenizer.json")):
        return None
    needs("transformers", "a tokenizer")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def tokenizer_for(model: Any, learner: Any, what: str) -> Any:
    """The tokenizer of a fitted learner, or the one in the folder that a model came from.

    Raises:
        DataError: there is none to read `what` with.
    """
    tokenizer = getattr(learner, "tokenizer_", None) or tokenizer_of(model)
    if tokenizer is None:
        place = getattr(model, "name_or_path", "") or f"a {type(model).__name__}"
        raise DataError(
            f"{place} has no tokenizer beside it to read {what} with; give a folder that holds "
            "one, or a fitted learner"
        )
    return tokenizer


def context_of(model: Any) -> int | None:
    """Most tokens that a model takes, where its config says so."""
    model = getattr(model, "model_", model)
    most = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    return None if most is None else int(most)


def device_of(model: nn.Module) -> torch.device:
    """Where a model's weights are."""
    return next(model.parameters()).device


def check_causal(model: Any) -> None:
    """Refuse a model of transformers that does not predict the next token.

    Raises:
        ModelError: the sentence says what it is.
    """
    config = getattr(model, "config", None)
    if config is None:
        return
    generates = getattr(model, "can_generate", lambda: False)()
    if not generates or getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"a {type(model).__name__} is no causal language model, so text teaches it nothing; "
            "give it batches of its own in Python"
        )
