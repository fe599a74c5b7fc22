"""The baseline that every language model must beat: counts of the tokens that follow others.

With Witten and Bell's interpolation, c counting in the training text and T(h) the number of
different tokens that follow h there,

    p(w | h) = (c(h w) + T(h) p(w | h without its first token)) / (c(h) + T(h))

down to the uniform distribution (Chen and Goodman 1999, section 2.5).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from stackwise.catalog import Knob, baseline
from stackwise.files import read_tensors, write_tensors
from stackwise.learning.learner import Learner
from stackwise.optional import needs
from stackwise.tasks.language.writing import write_completions

MIX = np.uint64(0x9E3779B97F4A7C15)


@baseline("ngram", title="Counts of short token sequences")
class NGram(Learner):
    """An interpolated n-gram model: no network, no training, seconds to fit."""

    tasks: ClassVar[tuple[str, ...]] = ("text",)
    verbs: ClassVar[tuple[str, ...]] = ("generate",)
    fitted: ClassVar[str] = "tables_"

    def __init__(
        self,
        *,
        order: Annotated[
            int, Knob("tokens that are counted together", ge=1, le=8, search=(2, 6))
        ] = 4,
    ) -> None: ...

    def fit(self, X: Any, y: Any = None) -> Self:
        """Count the training text of a loaded task."""
        task = X
        self._begin()
        self.tokenizer_ = task.tokenizer
        tokens = np.asarray(task.tokens("train", self.tokenizer_), dtype=np.int64)
        self.vocabulary_ = len(self.tokenizer_)
        self.tables_ = [_count(tokens, size) for size in range(1, self.order + 1)]
        return self

    def token_log_probabilities(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(n, length - 1) log probabilities of the next tokens, and whether the one that follows
        the longest known context most often was the right one.
        """
        check_is_fitted(self, "tables_")
        ids = rows.numpy().astype(np.int64)
        found = np.full(ids[:, 1:].shape, 1 / self.vocabulary_)
        best = np.full(ids[:, 1:].shape, -1)
        for size, table in enumerate(self.tables_, start=1):
            context = _context(ids, size)
            total, kinds, first = table.context(context)
            counted = table.count(context, ids[:, 1:])
            known = total > 0
            mixed = (counted + kinds * found) / np.where(known, total + kinds, 1)
            # the first tokens of a row have shorter contexts only
            known[:, : max(size - 2, 0)] = False
            found, best = np.where(known, mixed, found), np.where(known, first, best)
        return torch.from_numpy(np.log(found)).float(), torch.from_numpy(best == ids[:, 1:])

    def generate(
        self,
        prompts: Annotated[Sequence[str], Knob("what is continued, each by itself")],
        *,
        max_new_tokens: Annotated[int, Knob("tokens of each answer", ge=1)] = 50,
    ) -> list[str]:
        """Continue each prompt by the token that followed most often."""
        answers = []
        for prompt in prompts:
            ids = list(self.tokenizer_(prompt)["input_ids"]) or [self.tokenizer_.eos_token_id]
            start = len(ids)
            for _ in range(max_new_tokens):
                ids.append(self._next(ids))
            answers.append(self.tokenizer_.decode(ids[start:], skip_special_tokens=True))
        return answers

    def _next(self, ids: list[int]) -> int:
        tail = np.array([[*ids[-(self.order - 1) :], 0]]) if self.order > 1 else np.array([[0, 0]])
        for size in range(min(self.order, tail.shape[1]), 0, -1):
            total, _, first = self.tables_[size - 1].context(_context(tail, size)[:, -1:])
            if total[0, 0] > 0:
                return int(first[0, 0])
        return 0

    def write_predictions(self, path: Path | str, source: Any, **options: Any) -> int:
        """Continue the prompts of a file; see `write_completions`."""
        return write_completions(path, self, source, **options)

    def _write(self, folder: Path) -> dict[str, Any]:
        self.tokenizer_.save_pretrained(folder / "tokenizer")
        tensors = {
            f"{size}.{name}": torch.from_numpy(array)
            for size, table in enumerate(self.tables_, start=1)
            for name, array in vars(table).items()
        }
        write_tensors(folder / "model.safetensors", tensors)
        return {}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        needs("transformers", "a tokenizer")
        from transformers import AutoTokenizer

        self.tokenizer_ = AutoTokenizer.from_pretrained(folder / "tokenizer")
        self.vocabulary_ = len(self.tokenizer_)
        tensors = read_tensors(folder / "model.safetensors")
        self.tables_ = [
            Counts(*(tensors[f"{size}.{name}"].numpy() for name in Counts.__annotations__))
            for size in range(1, self.order + 1)
        ]


class Counts:
    """What follows each context of one length.

    Attributes:
        pairs: (p,) sorted keys of context and token; pair_counts: (p,) how often.
        contexts: (h,) sorted keys; totals, kinds, first: (h,) tokens that follow, different ones,
            and the most frequent.
    """

    pairs: np.ndarray
    pair_counts: np.ndarray
    contexts: np.ndarray
    totals: np.ndarray
    kinds: np.ndarray
    first: np.ndarray

    def __init__(self, *arrays: np.ndarray) -> None:
        for name, array in zip(Counts.__annotations__, arrays, strict=True):
            setattr(self, name, array)

    def context(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Totals, kinds and the most frequent follower of contexts; zeros where unknown."""
        place, known = _find(self.contexts, keys)
        return (
            np.where(known, self.totals[place], 0),
            np.where(known, self.kinds[place], 0),
            np.where(known, self.first[place], -1),
        )

    def count(self, keys: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """How often these tokens followed these contexts."""
        place, known = _find(self.pairs, _mixed(keys, tokens))
        return np.where(known, self.pair_counts[place], 0)


def _count(tokens: np.ndarray, size: int) -> Counts:
    """Count the sequences of `size` tokens."""
    row = tokens[None]
    if size > 1:
        keys, following = _context(row, size)[0, size - 2 :], tokens[size - 1 :]
    else:
        keys, following = np.zeros(len(tokens), dtype=np.int64), tokens
    pairs, where, counted = np.unique(
        _mixed(keys, following), return_index=True, return_counts=True
    )
    owner, token = keys[where], following[where]
    order = np.lexsort((token, -counted, owner))  # of each context the most frequent token first
    contexts, first, kinds = np.unique(owner[order], return_index=True, return_counts=True)
    totals = np.add.reduceat(counted[order], first)
    return Counts(pairs, counted, contexts, totals, kinds, token[order][first])


def _context(ids: np.ndarray, size: int) -> np.ndarray:
    """(n, length - 1) keys of the `size` - 1 tokens before each token but the first."""
    keys = np.zeros(ids[:, 1:].shape, dtype=np.int64)
    for back in range(size - 1, 0, -1):
        before = np.zeros_like(keys)
        before[:, back - 1 :] = ids[:, : ids.shape[1] - back]
        keys = _mixed(keys, before)
    return keys


def _mixed(keys: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """A key of 64 bits for a key and a token; two sequences share one by chance alone (2^-64)."""
    mixed = (keys.astype(np.uint64) ^ (tokens.astype(np.uint64) + np.uint64(1))) * MIX
    mixed ^= mixed >> np.uint64(29)
    return (mixed * MIX).astype(np.int64)


def _find(table: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where keys are in a sorted table, and whether they are there."""
    place = np.searchsorted(table, keys).clip(max=len(table) - 1)
    return place, table[place] == keys
