"""How far in front the right document of a query is, among those of validation pairs: what says
which epoch was best.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stackwise.tasks.retrieval.collection import Pair
from stackwise.tasks.retrieval.estimators.pairs import TrainingPairs, training_pairs

WATCHED = 256
"""Validation pairs whose ranks are looked at."""
AT_ONCE = 32
Tables = Callable[[Any, Any, Any], Mapping[str, Tensor]]
"""(network, queries, documents) as it encodes both -> by name (Q, D) scores."""


class RankOfPairs:
    """The mean of 1 / rank of the right document: network -> by name, of each kind of score.

    Args:
        queries, documents: what is known of the texts of `pairs`, with `padded(rows)`.
        tables: the kinds of scores of what the network's own `queries` and `documents` make of
            these. seed: which pairs are looked at, where there are more than 256.
    """

    def __init__(
        self, pairs: TrainingPairs, queries: Any, documents: Any, tables: Tables, seed: int
    ) -> None:
        order = np.random.default_rng(seed).permutation(len(pairs))
        self.pairs, self.rows = pairs, np.sort(order[:WATCHED])
        self.queries, self.documents, self.tables = queries, documents, tables

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, float]:
        """The means."""
        network: Any = model
        asked, right = self.pairs.pairs[self.rows].T
        shown = np.unique(right)
        device = next(network.parameters()).device
        documents = [
            network.documents(to_device(self.documents.padded(some), device))
            for some in np.array_split(shown, -(-len(shown) // AT_ONCE))
        ]
        ranks: dict[str, list[float]] = {}
        for some in np.array_split(np.arange(len(asked)), -(-len(asked) // AT_ONCE)):
            query = network.queries(to_device(self.queries.padded(asked[some]), device))
            parts = [self.tables(network, query, one) for one in documents]
            for name in parts[0]:
                table = torch.cat([part[name] for part in parts], 1).cpu().numpy()
                for place, row in zip(some, table, strict=True):
                    own = self._inverse(row, shown, asked[place], right[place])
                    ranks.setdefault(name, []).append(own)
        return {name: float(np.mean(values)) for name, values in ranks.items()}

    def _inverse(self, row: np.ndarray, shown: np.ndarray, query: int, right: int) -> float:
        """1 / rank, other documents that answer the query left out."""
        others = np.isin(shown, list(self.pairs.answers[int(query)])) & (shown != right)
        own = row[np.searchsorted(shown, right)]
        return 1 / max(int(((row >= own) & ~others).sum()), 1)  # itself is one of these


def watched_pairs(held: Sequence[Pair], most: int, seed: int) -> TrainingPairs | None:
    """Validation pairs, gathered; None where they have fewer than two documents to rank."""
    if len({one.positive for one in held}) < 2:
        return None
    return training_pairs(held, most, seed)


def to_device(inputs: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Tensors where the network is."""
    return {name: tensor.to(device) for name, tensor in inputs.items()}
