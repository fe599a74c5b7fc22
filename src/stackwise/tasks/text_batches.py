"""From a text file to what a language model takes: passages, tokens, batches of one length.

Passages are tokenized, each is ended by the end-of-text token, and all are joined and cut into rows
of one length (packing). No token is wasted on padding but in the last row, and a row may hold the
end of one passage and the start of the next.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.errors import DataError, ModelError

LENGTH = 128
"""Tokens of a row, where the model takes as many."""
ROWS = 8
"""Rows of a batch."""
IGNORED = -100
"""The label that transformers' losses leave out."""


def read_passages(path: Path) -> list[str]:
    """The passages of a text file: its paragraphs where blank lines part them, else its lines.

    Raises:
        DataError: no such file, not UTF-8, or nothing in it.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file; give a text file, one passage on each line")
    try:
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    parts = re.split(r"\n\s*\n", text) if re.search(r"\n\s*\n", text) else text.splitlines()
    passages = [part.strip() for part in parts if part.strip()]
    if not passages:
        raise DataError(f"{path} holds no text; write a passage on each line")
    return passages


def tokenizer_of(model: Any) -> Any:
    """The tokenizer in the folder that `model` was loaded from, or None."""
    folder = Path(getattr(model, "name_or_path", "") or "?")
    if not any((folder / name).is_file() for name in ("tokenizer_config.json", "tokenizer.json")):
        return None
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def language_batches(model: nn.Module, path: Path, *, rows: int = ROWS) -> list[dict[str, Tensor]]:
    """A text file as batches on which `model(**batch).loss` is the loss of the next token.

    Raises:
        ModelError: the model is no causal language model, or has no tokenizer beside it.
        DataError: the file cannot be read or holds no text.
    """
    config = getattr(model, "config", None)
    generates = getattr(model, "can_generate", lambda: False)()
    if not generates or getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"a {type(model).__name__} is no causal language model, so text teaches it nothing; "
            "give it batches of its own in Python"
        )
    tokenizer = tokenizer_of(model)
    if tokenizer is None:
        place = getattr(model, "name_or_path", "") or f"the {type(model).__name__}"
        raise ModelError(
            f"{place} has no tokenizer to read {path} with; save one there with save_pretrained"
        )
    most = getattr(config, "max_position_embeddings", None) or LENGTH
    return token_batches(read_passages(path), tokenizer, length=min(LENGTH, most), rows=rows)


def token_batches(
    passages: list[str], tokenizer: Any, *, length: int = LENGTH, rows: int = ROWS
) -> list[dict[str, Tensor]]:
    """Pack passages into rows of `length` tokens, `rows` of them a batch, in their order.

    Returns:
        dicts of `input_ids`, `attention_mask` and `labels`, each (rows, length) int64; the last
        batch may have fewer rows. Labels are the ids themselves (models shift them), and -100 on
        the padding of the last row.

    Raises:
        DataError: there are fewer than two tokens, so that no next one can be predicted.
    """
    end = tokenizer.eos_token_id
    tokens: list[int] = []
    for encoded in tokenizer(passages, verbose=False)["input_ids"]:
        tokens += encoded
        if end is not None and tokens[-1:] != [end]:
            tokens.append(end)
    if len(tokens) % length == 1:  # a row of one token has nothing to predict
        tokens.pop()
    if not tokens:
        raise DataError("the text has fewer than two tokens; give more of it")
    padding = -len(tokens) % length
    fill = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end or 0
    ids = torch.tensor(tokens + [fill] * padding).view(-1, length)
    mask = torch.ones_like(ids)
    mask.view(-1)[len(tokens) :] = 0
    labels = ids.masked_fill(mask == 0, IGNORED)
    return [
        {"input_ids": one, "attention_mask": two, "labels": three}
        for one, two, three in zip(ids.split(rows), mask.split(rows), labels.split(rows))
    ]
