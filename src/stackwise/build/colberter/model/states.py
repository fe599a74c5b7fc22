"""What an encoder says of texts: pooled by word in flat arrays, or tokens to go through it.

    states = pooled_states(encoder, reader, texts)      a frozen encoder runs once
    states.padded([3, 8])                               cls (2, d), states (2, w, d), words (2, w)

Rows of every text lie one after the other (`offsets`), in half precision: a document of 80 tokens
and 37 words takes 28 KB at a width of 384.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stackwise.build.colberter.model.words import ReadText, WholeWords
from stackwise.learning.outputs import through_network
from stackwise.tasks.labels.estimators.tokens import Tokens, pad_token

BLOCK_TOKENS = 512
"""Tokens that go through an encoder together; of one fixed shape for each width, so that what comes
out of a text depends on nothing but the text."""


class LastState(nn.Module):
    """An encoder's last hidden states: (B, n) tokens -> (B, n, width)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.base_model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The states, in single precision."""
        found: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask)[0]
        return found.float()


@dataclass(frozen=True)
class PooledStates:
    """Texts as the pooled states of their words.

    Attributes:
        cls: (n, width). states: (words of all, width). words: their ids. offsets: (n + 1,).
    """

    cls: np.ndarray
    states: np.ndarray
    words: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.cls)

    def padded(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """`cls` (B, width), `states` (B, w, width) and `words` (B, w) of some texts."""
        rows = np.asarray(rows)
        counts = self.offsets[rows + 1] - self.offsets[rows]
        widest = int(counts.max())
        states = np.zeros((len(rows), widest, self.states.shape[1]), self.states.dtype)
        words = np.zeros((len(rows), widest), np.int64)
        for place, row in enumerate(rows):
            own = slice(self.offsets[row], self.offsets[row + 1])
            states[place, : counts[place]] = self.states[own]
            words[place, : counts[place]] = self.words[own]
        given = {"cls": self.cls[rows], "states": states, "words": words}
        return {name: torch.from_numpy(array) for name, array in given.items()}


@dataclass(frozen=True)
class TokenTexts:
    """Texts as tokens, for an encoder that learns."""

    read: list[ReadText]
    pad: int
    whole: bool

    def __len__(self) -> int:
        return len(self.read)

    def padded(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` and `pieces` (B, n), `words` (B, w)."""
        own = [self.read[int(row)] for row in rows]
        longest, widest = max(len(o.tokens) for o in own), max(len(o.words) for o in own)
        ids = torch.full((len(own), longest), self.pad, dtype=torch.int64)
        mask, pieces = torch.zeros_like(ids), torch.zeros_like(ids)
        words = torch.zeros((len(own), widest), dtype=torch.int64)
        for place, one in enumerate(own):
            count = len(one.tokens)
            ids[place, :count] = torch.from_numpy(one.tokens)
            mask[place, :count] = 1
            pieces[place, :count] = torch.from_numpy(one.pieces)
            words[place, : len(one.words)] = torch.from_numpy(one.words)
        given = {"input_ids": ids, "attention_mask": mask, "words": words}
        return given | {"pieces": pieces} if self.whole else given


def token_texts(reader: WholeWords, texts: Sequence[str]) -> TokenTexts:
    """Texts, read."""
    return TokenTexts(reader(texts), pad_token(reader.tokenizer), reader.whole)


def pooled_states(
    encoder: Any,
    reader: WholeWords,
    texts: Sequence[str],
    *,
    half: bool = True,
    block: int = BLOCK_TOKENS,
    tell: Callable[[int], None] = lambda more: None,
) -> PooledStates:
    """Put texts through an encoder and pool their words.

    Args:
        half: keep them in half precision. block: tokens that go through together; a text by
            itself is filled up to as many. tell: called with how many texts were done since.
    """
    read = reader(texts)
    kind = np.float16 if half else np.float32
    width = int(encoder.config.hidden_size)
    offsets = np.concatenate([[0], np.cumsum([len(one.words) for one in read])]).astype(np.int64)
    cls = np.empty((len(read), width), kind)
    states = np.empty((int(offsets[-1]), width), kind)
    tokens = Tokens([one.tokens for one in read], pad_token(reader.tokenizer), reader.most)
    network, widths = LastState(encoder), tokens.widths
    for size in np.unique(widths):
        rows = max(block // int(size), 1)
        places = np.flatnonzero(widths == size)
        for start in range(0, len(places), 8 * rows):
            some = places[start : start + 8 * rows]
            hidden = through_network(
                network, tokens.padded(some, int(size)), lambda out: out.numpy(), rows
            )
            for place, own in zip(some, hidden, strict=True):
                one = read[place]
                cls[place] = own[0]
                found = own[: len(one.tokens)]
                states[offsets[place] : offsets[place + 1]] = (
                    pooled(found, one) if reader.whole else found
                )
            tell(len(some))
    return PooledStates(cls, states, np.concatenate([one.words for one in read]), offsets)


def pooled(states: np.ndarray, one: ReadText) -> np.ndarray:
    """(w, width) the means of a text's words."""
    own = (one.words[:, None] == one.pieces[None, :]).astype(np.float32)
    return np.asarray((own @ states) / own.sum(1, keepdims=True))
