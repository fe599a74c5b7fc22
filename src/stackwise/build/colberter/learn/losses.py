"""The losses: on the merged score, on the text's vector alone, and on the gates.

    L = a_b L_rank(s) + a_CLS L_rank(s_CLS) + a_CS |r|                         (section 3.5)

L_rank is MarginMSE where a teacher scores the documents, and a softmax over the documents of the
batch where none does:

    MarginMSE = mean of ((s(q, p+) - s(q, p-)) - (t(q, p+) - t(q, p-)))^2
    softmax   = -log of the share of exp s(q, p+) among the batch's documents, those left out that
                answer q as well

Without a_CLS the single vector finds nothing by itself. |r| is the mean gate over real words, of
positive and of negative documents added, so that a_CS means the same in every batch.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from stackwise.build.colberter.model.network import ColBERTer, Scores, Vectors


def margin_mse(positive: Tensor, negative: Tensor, margin: Tensor) -> Tensor:
    """The squared error of margins: (B,) scores of both documents and the teacher's difference."""
    return (positive - negative - margin).square().mean()


def in_batch_softmax(scores: Tensor, known: Tensor, right: Tensor) -> Tensor:
    """-log p of the document that answers each query.

    Args:
        scores: (B, D). right: (B,) which document answers.
        known: (B, D) bool, which documents answer it too, and are left out.
    """
    return functional.cross_entropy(scores.masked_fill(known, -torch.inf), right)


def mean_gate(found: Vectors) -> Tensor:
    """The mean gate over real words: |r|_1 / words."""
    assert found.gates is not None
    real = found.real.to(found.gates.dtype)
    return (found.gates * real).sum() / real.sum().clamp(min=1)


class PairLoss:
    """The loss of a batch of pairs: (model, batch) -> scalar.

    Args:
        score, cls, gate: a_b, a_CLS, a_CS.
    """

    def __init__(self, score: float = 1.0, cls: float = 0.1, gate: float = 0.75) -> None:
        self.score, self.cls, self.gate = score, cls, gate

    def __call__(self, model: Any, batch: Mapping[str, Any]) -> Tensor:
        """A batch has `query` and `positive`, inputs of `ColBERTer`; `known` (B, D) and `right`
        (B,); and where there are such `negative` and `margin` (B,).
        """
        network: ColBERTer = model
        query, positive = network.queries(batch["query"]), network.documents(batch["positive"])
        negative = network.documents(batch["negative"]) if "negative" in batch else None
        if negative is not None and "margin" in batch:
            one, other = network.score(query, positive), network.score(query, negative)
            ranked = self.score * margin_mse(one.total, other.total, batch["margin"])
            if self.cls:
                ranked = ranked + self.cls * margin_mse(one.cls, other.cls, batch["margin"])
        else:
            scores = [network.score_all(query, positive)]
            if negative is not None:
                scores.append(network.score_all(query, negative))
            ranked = self._softmax(scores, batch["known"], batch["right"])
        if network.gate is not None and self.gate:
            shut = mean_gate(positive)
            ranked = ranked + self.gate * (shut if negative is None else shut + mean_gate(negative))
        return ranked

    def _softmax(self, scores: list[Scores], known: Tensor, right: Tensor) -> Tensor:
        total = in_batch_softmax(torch.cat([one.total for one in scores], 1), known, right)
        if not self.cls:
            return self.score * total
        cls = in_batch_softmax(torch.cat([one.cls for one in scores], 1), known, right)
        return self.score * total + self.cls * cls
