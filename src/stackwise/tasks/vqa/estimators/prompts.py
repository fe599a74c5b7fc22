"""A picture's question as tokens: what is learned is the answer and the token that ends it.

[first] MARK Question: what is in row 1?\\nAnswer: K B [end]
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stackwise.errors import DataError
from stackwise.tasks.choices.asking import prompt_of
from stackwise.tasks.choices.source import Question
from stackwise.tasks.instructions.encode import IGNORED
from stackwise.tasks.vqa.estimators.network import MARK
from stackwise.tasks.vqa.estimators.views import Views
from stackwise.tasks.vqa.records import Asked
from stackwise.training.batches import epoch_generator


@dataclass(frozen=True)
class Prompt:
    """Token numbers of a question, `MARK` for its picture; those from `learned` on are learned."""

    ids: tuple[int, ...]
    learned: int


def encode(asked: Asked, tokenizer: Any, *, answered: bool) -> Prompt:
    """The tokens of a question, and of its answer where it is to be learned.

    Raises:
        DataError: the tokenizer has no token that ends a text.
    """
    end = tokenizer.eos_token_id
    if end is None:
        raise DataError(
            "the tokenizer has no end token, so that no answer could end; set eos_token"
        )
    first = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    text = prompt_of(Question(asked.row, asked.question, (), ""), tokenizer, "plain")
    ids = [first, MARK, *_tokens(tokenizer, text)]
    answer = [*_tokens(tokenizer, " " + asked.answer), end] if answered else []
    return Prompt((*ids, *answer), len(ids))


def text_of_all(asked: Sequence[Asked]) -> list[str]:
    """What a tokenizer of its own is learned from."""
    return [
        f"{prompt_of(Question(one.row, one.question, (), ''), None, 'plain')} {one.answer}"
        for one in asked
    ]


def padded(prompts: Sequence[Prompt], pad: int) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask` and `labels`, (B, longest) int64, padded at the right."""
    longest = max(len(one.ids) for one in prompts)
    ids = torch.full((len(prompts), longest), pad)
    labels = torch.full((len(prompts), longest), IGNORED)
    mask = torch.zeros(len(prompts), longest, dtype=torch.int64)
    for row, one in enumerate(prompts):
        size = len(one.ids)
        ids[row, :size] = torch.tensor(one.ids)
        labels[row, one.learned : size] = ids[row, one.learned : size]
        mask[row, :size] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


class QuestionBatches:
    """Questions with their pictures, in a new order each epoch.

    Args:
        prompts: of all questions. pictures: (n,) the number of each one's picture in `views`.
        views: None reads no picture.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        pictures: Sequence[int],
        views: Views | None,
        batch_size: int,
        *,
        pad: int,
        seed: int = 0,
        shuffle: bool = True,
    ) -> None:
        if not prompts:
            raise DataError("there are no questions to learn from")
        self.prompts, self.pictures, self.views = prompts, pictures, views
        self.batch_size, self.pad, self.seed, self.shuffle = batch_size, pad, seed, shuffle

    def __len__(self) -> int:
        return -(-len(self.prompts) // self.batch_size)

    def order(self, index: int) -> Tensor:
        """(n,) int64: the order of epoch `index`."""
        count = len(self.prompts)
        if not self.shuffle:
            return torch.arange(count)
        return torch.randperm(count, generator=epoch_generator(self.seed, index))

    def epoch(self, index: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """The batches of epoch `index` from step `start` on: `padded`, `Views.of`, and `scale`,
        (B,), what a question counts for each of its answer's tokens.
        """
        order = self.order(index).tolist()
        for first in range(start * self.batch_size, len(order), self.batch_size):
            rows = order[first : first + self.batch_size]
            batch = padded([self.prompts[row] for row in rows], self.pad)
            # by what the sum over an answer's tokens counts in a mean over questions, so that this
            # is the mean over the batch's tokens, however its rows are shared out over processes
            scale = len(rows) / int((batch["labels"] != IGNORED).sum())
            batch["scale"] = torch.full((len(rows),), scale)
            if self.views is not None:
                batch |= self.views.of([self.pictures[row] for row in rows])
            yield batch


def _tokens(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
