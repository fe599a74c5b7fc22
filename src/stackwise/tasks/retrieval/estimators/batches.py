"""Batches of pairs, in which the documents of all are what each query chooses among."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch

from stackwise.tasks.retrieval.estimators.pairs import TrainingPairs
from stackwise.training.batches import epoch_generator, for_all

AUTO = 32
"""Pairs of a batch where no number is given."""


class PairBatches:
    """Batches of pairs in a new order each epoch.

    Args:
        queries, documents: what is known of the texts of `pairs`, with `padded(rows)`.
        both_ways: documents choose among the batch's queries too.
    """

    def __init__(
        self, pairs: TrainingPairs, queries: Any, documents: Any,
        batch_size: int | Literal["auto"], seed: int = 0, *, both_ways: bool = False,
    ) -> None:  # fmt: skip
        self.pairs, self.queries, self.documents = pairs, queries, documents
        self.batch_size = AUTO if batch_size == "auto" else int(batch_size)
        self.seed, self.both_ways = seed, both_ways

    def __len__(self) -> int:
        return -(-len(self.pairs) // self.batch_size)

    def epoch(self, index: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """The batches of epoch `index` from step `start` on."""
        order = torch.randperm(len(self.pairs), generator=epoch_generator(self.seed, index)).numpy()
        for first in range(start * self.batch_size, len(order), self.batch_size):
            yield self.batch(order[first : first + self.batch_size])

    def batch(self, rows: np.ndarray) -> dict[str, Any]:
        """The batch of some pairs. What is chosen among is no row of it: of several processes each
        has its own queries (`right`) and every document, and `both_ways` every query as well; the
        table of what is `known` then goes to all, in `among`.
        """
        asked, right = self.pairs.pairs[rows].T
        wrong = None if self.pairs.negatives is None else self.pairs.negatives[rows]
        shown = right if wrong is None else np.concatenate([right, wrong])
        table = np.zeros((len(rows), len(shown)), dtype=bool)
        for place, query in enumerate(asked):
            table[place] = [one in self.pairs.answers[int(query)] for one in shown]
        table[np.arange(len(rows)), np.arange(len(rows))] = False
        known = {"known": torch.from_numpy(table)}
        query = self.queries.padded(asked)
        among: Any = for_all if self.pairs.margins is None else dict
        made = {"query": query} | known
        if self.both_ways:
            made = {"query": for_all(query), "among": for_all(known)}
        made |= {"positive": among(self.documents.padded(right)), "right": torch.arange(len(rows))}
        if wrong is not None:
            made["negative"] = among(self.documents.padded(wrong))
        if self.pairs.margins is not None:
            made["margin"] = torch.from_numpy(self.pairs.margins[rows])
        return made
