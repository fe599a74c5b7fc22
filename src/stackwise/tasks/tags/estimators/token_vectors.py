"""The vectors that a pretrained encoder has for the words of sentences.

    x = mean over the word's pieces of the encoder's last hidden states

A sentence with more pieces than the encoder takes is read in stretches of whole words.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stackwise.learning.outputs import through_network
from stackwise.tasks.labels.estimators.pretrained import Opened
from stackwise.tasks.labels.estimators.tokens import BLOCK_TOKENS, Tokens, pad_token


class LastStates(nn.Module):
    """The last hidden states of an encoder or a decoder, without its head."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.base_model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) tokens and their mask -> (B, T, width)."""
        found = self.model(input_ids=input_ids, attention_mask=attention_mask)
        states: Tensor = found.last_hidden_state.float()
        return states


def width_of(opened: Opened) -> int:
    """Numbers of a vector."""
    return int(opened.model.config.hidden_size)


def word_vectors(opened: Opened, sentences: Sequence[Sequence[str]], most: int) -> np.ndarray:
    """(words of all sentences, width) float32; zeros of a word that has no pieces.

    Args:
        most: pieces that are read together, at most.
    """
    tokenizer = opened.tokenizer
    before = [one for one in (tokenizer.cls_token_id,) if one is not None]
    behind = [one for one in (tokenizer.sep_token_id,) if one is not None]
    room = opened.most(most) - len(before) - len(behind)
    rows: list[np.ndarray] = []
    owners: list[np.ndarray] = []  # of each piece of a row its word, -1 of none
    first = 0
    for words in sentences:
        if words:
            for pieces, whose in _stretches(tokenizer, list(words), room):
                rows.append(np.array([*before, *pieces, *behind], dtype=np.int64))
                owner = [-1] * len(before) + [first + one for one in whose] + [-1] * len(behind)
                owners.append(np.array(owner))
        first += len(words)
    found = np.zeros((first, width_of(opened)), dtype=np.float32)
    if not rows:
        return found
    counts = np.zeros(first, dtype=np.float32)
    tokens = Tokens(rows, pad_token(tokenizer), opened.most(most))
    widths, network = tokens.widths, LastStates(opened.model).eval()
    for width in np.unique(widths):
        places = np.flatnonzero(widths == width)
        inputs = tokens.padded(places, int(width))
        block = max(BLOCK_TOKENS // int(width), 1)
        states = through_network(network, inputs, _as_array, block)
        for place, of_row in zip(places, states, strict=True):
            of = owners[place]
            kept = of >= 0
            np.add.at(found, of[kept], of_row[: len(of)][kept])
            np.add.at(counts, of[kept], 1)
    return found / np.maximum(counts, 1)[:, None]


def _stretches(tokenizer: Any, words: list[str], room: int) -> list[tuple[list[int], list[int]]]:
    """The pieces of a sentence and of each its word, in stretches of at most `room` pieces."""
    encoded = tokenizer(words, is_split_into_words=True, add_special_tokens=False)
    ids, owners = list(encoded["input_ids"]), [int(one) for one in encoded.word_ids(0)]
    made, start = [], 0
    while start < len(ids):
        end = min(start + room, len(ids))
        while start < end < len(ids) and owners[end] == owners[end - 1] and end - 1 > start:
            end -= 1
        if end - 1 == start and owners[start] == owners[min(start + 1, len(ids) - 1)]:
            end = min(start + room, len(ids))  # one word of more pieces than fit
        made.append((ids[start:end], owners[start:end]))
        start = end
    return made


def _as_array(output: Tensor) -> np.ndarray:
    return output.to(torch.float32).numpy()
