"""What a batch of pairs teaches at every size, and how well every size ranks validation pairs."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.tasks.retrieval.estimators.ranks import RankOfPairs
from stackwise.train.matryoshka.contrastive import contrastive_loss
from stackwise.train.matryoshka.loss import MatryoshkaLoss
from stackwise.train.matryoshka.searching.network import MappedMeans
from stackwise.train.matryoshka.sizes import cut


class NestedPairLoss:
    """sum_m c_m of the contrastive loss of the first m numbers: (model, batch) -> scalar.

    Args:
        dims: the sizes. weights: c_m. temperature: of the contrastive loss.
    """

    def __init__(self, dims: Sequence[int], weights: Sequence[float], temperature: float) -> None:
        self.dims, self.weights, self.temperature = tuple(dims), tuple(weights), temperature

    def __call__(self, model: Any, batch: Mapping[str, Any]) -> Tensor:
        """A batch is that of `PairBatches` where both sides choose."""
        network: MappedMeans = model
        asked, shown = network.queries(batch["query"]), network.documents(batch["positive"])
        if "negative" in batch:
            shown = torch.cat([shown, network.documents(batch["negative"])])
        if len(shown) < 2:  # the pair that is left over at the end of an epoch
            return 0 * (asked.sum() + shown.sum())
        one_size = partial(
            contrastive_loss, known=batch["among"]["known"], rows=batch["right"],
            temperature=self.temperature,
        )  # fmt: skip
        loss: Tensor = MatryoshkaLoss(one_size, self.dims, weights=self.weights)(asked, shown)
        return loss


def cosines_by_size(
    dims: Sequence[int], network: Any, query: Tensor, document: Tensor
) -> dict[str, Tensor]:
    """(Q, D) the cosines of the first m numbers, as `mrr_<m>`."""
    return {
        f"mrr_{m}": cut(query, m, normalise=True) @ cut(document, m, normalise=True).T for m in dims
    }


class NestedRanks:
    """Validation of a network: `mrr`, the mean of those of every size as the loss weighs them, and
    each of these.
    """

    def __init__(self, ranks: RankOfPairs, weights: Sequence[float]) -> None:
        self.ranks, self.weights = ranks, tuple(weights)

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """The scores."""
        by_size = self.ranks(model)
        both = zip(self.weights, by_size.values(), strict=True)
        return {"mrr": sum(c * mrr for c, mrr in both) / sum(self.weights)} | by_size
