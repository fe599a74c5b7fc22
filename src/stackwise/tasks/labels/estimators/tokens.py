"""Texts as tokens, and how rows of different length go through a network.

Rows are padded at their right to the next power of two of their own length, and go through among
rows of that width in blocks of one fixed size: what a network answers to a text depends on nothing
but the text, and short ones cost little.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stackwise.learning.unequal_rows import through_unequal
from stackwise.training.batches import ArrayBatches

LEAST_WIDTH = 16
AT_ONCE = 1024
"""Texts that are tokenized together."""
BLOCK_TOKENS = 128
"""Tokens of a small block on its way through a network."""


@dataclass(frozen=True)
class Tokens:
    """Texts as rows of tokens.

    Attributes:
        rows: n of (length,) int64. pad: the token that fills rows up; the mask hides it.
        most: no row is longer.
    """

    rows: list[np.ndarray]
    pad: int
    most: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def widths(self) -> np.ndarray:
        """(n,) to what each row is padded: a power of two, or `most`."""
        lengths = np.array([len(row) for row in self.rows])
        powers = 2 ** np.ceil(np.log2(np.maximum(lengths, LEAST_WIDTH))).astype(np.int64)
        return np.minimum(powers, np.maximum(self.most, lengths))

    def padded(self, places: Sequence[int] | np.ndarray, width: int) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (k, width) int64 of these rows."""
        ids = torch.full((len(places), width), self.pad, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(places):
            found = self.rows[row]
            ids[place, : len(found)] = torch.from_numpy(found)
            mask[place, : len(found)] = 1
        return {"input_ids": ids, "attention_mask": mask}


def tokenized(texts: Sequence[str] | np.ndarray, tokenizer: Any, most: int) -> Tokens:
    """The tokens of texts, each cut behind its `most` first ones.

    A text without tokens is the token that pads, by itself.
    """
    pad = pad_token(tokenizer)
    rows: list[np.ndarray] = []
    for start in range(0, len(texts), AT_ONCE):
        part = [str(text) for text in texts[start : start + AT_ONCE]]
        found = tokenizer(part, truncation=True, max_length=most)["input_ids"]
        rows += [np.array(ids or [pad], dtype=np.int64) for ids in found]
    return Tokens(rows, pad, most)


def pad_token(tokenizer: Any) -> int:
    """What rows are filled up with: the tokenizer's own padding, else what ends a text, else 0."""
    found = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return int(next(one for one in found if one is not None))


def through(
    network: nn.Module, tokens: Tokens, reduce: Callable[[Tensor], np.ndarray]
) -> np.ndarray:
    """What `reduce` keeps of a network's outputs of all rows, in their order."""
    return through_unequal(network, tokens, reduce, BLOCK_TOKENS)


class TokenBatches(ArrayBatches):
    """Batches of padded tokens, each as wide as its longest row.

    A batch has `input_ids` and `attention_mask` (B, T), and what else `tensors` has.
    """

    def epoch(self, index: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """The batches of epoch `index` from step `start` on."""
        for batch in super().epoch(index, start):
            width = int(batch["attention_mask"].sum(1).max())
            cut = {name: batch[name][:, :width] for name in ("input_ids", "attention_mask")}
            yield batch | cut
