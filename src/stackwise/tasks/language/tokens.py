"""Documents as one long row of tokens, made once and mapped from disk.

A corpus may be larger than memory: documents are read one after the other, tokenized in groups,
and written behind one another, each ended by the end-of-text token. Training then takes its rows
from the mapped file by index.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import filelock
import numpy as np
import torch
from torch import Tensor

from stackwise.errors import DataError
from stackwise.files import cache_folder, replacing, writing_cache
from stackwise.training.batches import epoch_generator

GROUP = 256
"""Documents that are tokenized at a time."""


def tokenizer_hash(tokenizer: Any) -> str:
    """What identifies a tokenizer: a hash of its state."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        text = backend.to_str() + str(tokenizer.eos_token_id)
    else:
        text = json.dumps(tokenizer.get_vocab(), sort_keys=True) + type(tokenizer).__name__
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def mapped_tokens(documents: Iterable[str], tokenizer: Any, key: str) -> np.ndarray:
    """The tokens of all documents, from the cache where they are there already.

    Args:
        key: what identifies the documents, such as a hash of their text.

    Returns:
        (tokens,) uint16, or uint32 where the vocabulary is larger: a read-only map of the file.

    Raises:
        DataError: there are fewer than two tokens. StorageError: the cache cannot be written.
    """
    wide = len(tokenizer) > 2**16
    name = f"{key}-{tokenizer_hash(tokenizer)}.{'u32' if wide else 'u16'}"
    path = cache_folder() / "tokens" / name
    kind = np.dtype("<u4" if wide else "<u2")
    if not path.is_file():
        with writing_cache(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(path.with_suffix(".lock")):  # of several processes one does it
                if not path.is_file():
                    with replacing(path) as beside, open(beside, "wb") as file:
                        for tokens in _tokenized(documents, tokenizer):
                            file.write(np.asarray(tokens, dtype=kind).tobytes())
    if path.stat().st_size < 2 * kind.itemsize:
        raise DataError("the text has fewer than two tokens; give more of it")
    return np.memmap(path, dtype=kind, mode="r")


def _tokenized(documents: Iterable[str], tokenizer: Any) -> Iterator[list[int]]:
    end = tokenizer.eos_token_id
    rest = iter(documents)
    while group := list(islice(rest, GROUP)):
        for tokens in tokenizer(group, verbose=False)["input_ids"]:
            yield tokens if end is None or tokens[-1:] == [end] else [*tokens, end]


class TokenBatches:
    """Rows of a long row of tokens, in a new order each epoch, from the mapped file.

    Args:
        tokens: (n,) whole numbers, mapped or in memory.
        length: tokens of a row. The last row is left out where it is shorter.
        rows: rows of a batch; the last batch of an epoch may have fewer.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        length: int,
        rows: int,
        *,
        seed: int = 0,
    ) -> None:
        self.tokens, self.length, self.rows, self.seed = tokens, length, rows, seed
        self.count = len(tokens) // length
        if not self.count:
            raise DataError(
                f"the training text has {len(tokens):,} tokens, too few for rows of {length}; "
                "give more text or a smaller length"
            )

    def __len__(self) -> int:
        return -(-self.count // self.rows)

    def order(self, index: int) -> Tensor:
        """(count,) int64: the order of epoch `index`."""
        return torch.randperm(self.count, generator=epoch_generator(self.seed, index))

    def batch(self, rows: Tensor) -> dict[str, Tensor]:
        """The rows of these numbers: `input_ids` (rows, length) int64."""
        ids = [self.tokens[i * self.length : (i + 1) * self.length] for i in rows.tolist()]
        return {"input_ids": torch.from_numpy(np.stack(ids).astype(np.int64))}

    def epoch(self, index: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """The batches of epoch `index` from step `start` on: `input_ids` (rows, length) int64."""
        order = self.order(index)
        for step in range(start, len(self)):
            yield self.batch(order[step * self.rows : (step + 1) * self.rows])


class StreamBatches:
    """A piece of the endless stream of a text's rows: epoch after epoch, each in its own order.

    Pieces that follow each other see no row twice before all were seen once. A piece is cut into
    `parts`, which the loop takes for its epochs: after each the model is judged and kept.

    Args:
        first: steps of the stream before this piece. steps: its length.
    """

    def __init__(self, text: TokenBatches, first: int, steps: int, parts: int = 1) -> None:
        if steps < 1:
            raise DataError(f"a budget of {steps} steps trains nothing; give more text or epochs")
        self.text, self.first = text, first
        self.parts = max(1, min(parts, steps))
        self.steps = -(-steps // self.parts)  # of a part

    def __len__(self) -> int:
        return self.steps

    @property
    def total(self) -> int:
        """Steps of all parts: up to `parts` - 1 more than were asked for, as parts are alike."""
        return self.steps * self.parts

    def epoch(self, index: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """The batches of part `index` from step `start` on."""
        whole = len(self.text)
        for step in range(self.first + index * self.steps + start,
                          self.first + (index + 1) * self.steps):  # fmt: skip
            epoch, place = divmod(step, whole)
            order = self.text.order(epoch)
            yield self.text.batch(order[place * self.text.rows : (place + 1) * self.text.rows])


def windows(tokens: np.ndarray, length: int, most: int | None = None) -> Tensor:
    """(rows, length) int64 rows that overlap by one token, so that each but the first is predicted
    once; spread evenly over the text where only `most` of them are wanted. A last, shorter row is
    left out.
    """
    step = length - 1
    count = (len(tokens) - 1) // step
    if count < 1:
        raise DataError(f"{len(tokens)} tokens are too few for a row of {length} to be judged on")
    picked = np.arange(count)
    if most is not None and count > most:
        picked = np.linspace(0, count - 1, most).round().astype(np.int64)
    rows = [np.asarray(tokens[i * step : i * step + length], dtype=np.int64) for i in picked]
    return torch.from_numpy(np.stack(rows))
