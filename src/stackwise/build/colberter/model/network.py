"""ColBERTer on the states of an encoder: two reductions, whole words, a gate, one merged score.

    q_CLS = q~_1 W_CLS                      one vector a text, by which candidates are found
    q_w   = W_t mean(q~ of word w)          a narrow vector a word, by which they are ordered
    d_w   = r_w q_w, then W_u               documents: the gate, and a second reduction to 8 or 1
    s     = sigmoid(gamma) s_CLS + (1 - sigmoid(gamma)) s_token

Pooling comes before W_t here, and behind it in the authors' code: a linear map of a mean is the
mean of the map. So the pooled states of a frozen encoder are all that training reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.build.colberter.model.matching import (
    StopwordGate,
    maxsim,
    maxsim_of_all,
    pool_whole_words,
)
from stackwise.layers.arguments import keeps_arguments


@dataclass(frozen=True)
class Vectors:
    """Texts as they are matched.

    Attributes:
        cls: (B, cls_dim). vectors: (B, w, d). mask: (B, w) bool, which are words that are kept.
        words: (B, w) int64 ids. real: (B, w) bool, which are words at all. gates: (B, w), or None.
    """

    cls: Tensor
    vectors: Tensor
    mask: Tensor
    words: Tensor
    real: Tensor
    gates: Tensor | None = None


@dataclass(frozen=True)
class Scores:
    """Scores of pairs, or of every query with every document."""

    total: Tensor
    cls: Tensor
    token: Tensor


@keeps_arguments
class ColBERTer(nn.Module):
    """The layers behind an encoder.

    Args:
        width: of the encoder's states. cls_dim: of a text's vector. token_dim: of a word's.
        final_dim: of a word's behind a second reduction; None has none.
        stopwords: documents have a gate. exact_match: only equal words match.
        learned_merge: gamma learns; else both scores count one half.
        masks_closed: a word whose gate is closed matches nothing, in training too. Else it takes
            part with its vector of 0 (or the bias of W_u), as in the authors' training, though no
            index holds it: training and search then differ.
    """

    arguments: dict[str, Any]
    encoder: nn.Module | None

    def __init__(
        self, *, width: int, cls_dim: int = 128, token_dim: int = 32, final_dim: int | None = None,
        stopwords: bool = True, exact_match: bool = False, learned_merge: bool = True,
        masks_closed: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.to_cls = nn.Linear(width, cls_dim)
        self.to_token = nn.Linear(width, token_dim)
        self.gate = StopwordGate(token_dim) if stopwords else None
        self.narrow = None if final_dim is None else nn.Linear(token_dim, final_dim)
        self.gamma = nn.Parameter(torch.zeros(1), requires_grad=learned_merge)
        self.exact_match, self.masks_closed = exact_match, masks_closed
        self.register_module("encoder", None)

    @property
    def cls_weight(self) -> Tensor:
        """The share of the text's vector in the score."""
        return self.gamma.sigmoid()

    def states(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """(B, width) of the first token, (B, w, width) of words and (B, w) ids: pooled ones as they
        are given, or those that the encoder makes of `input_ids`, `attention_mask`, `pieces`.
        """
        if "states" in inputs:
            return inputs["cls"].float(), inputs["states"].float(), inputs["words"]
        assert self.encoder is not None
        hidden = self.encoder(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
        ).last_hidden_state.float()
        if "pieces" not in inputs:
            return hidden[:, 0], hidden, inputs["words"]
        return (
            hidden[:, 0],
            pool_whole_words(hidden, inputs["pieces"], inputs["words"]),
            (inputs["words"]),
        )

    def queries(self, inputs: Mapping[str, Tensor]) -> Vectors:
        """Queries: no gate."""
        first, states, words = self.states(inputs)
        vectors = self.to_token(states)
        if self.narrow is not None:
            vectors = self.narrow(vectors)
        real = words != 0
        return Vectors(self.to_cls(first), vectors, real, words, real)

    def documents(self, inputs: Mapping[str, Tensor]) -> Vectors:
        """Documents: each word is scaled by its gate. Where every gate of a document is closed, its
        first word stays.
        """
        first, states, words = self.states(inputs)
        vectors, real = self.to_token(states), words != 0
        gates, mask = None, real
        if self.gate is not None:
            gates = self.gate(vectors)
            vectors = vectors * gates[:, :, None]
            if self.masks_closed:
                mask = real & (gates > 0)
                mask = mask | (~mask.any(1, keepdim=True) & (real.cumsum(1) == 1) & real)
        if self.narrow is not None:
            vectors = self.narrow(vectors)
        return Vectors(self.to_cls(first), vectors, mask, words, real, gates)

    def score(self, query: Vectors, document: Vectors) -> Scores:
        """(B,) the score of each query with the document beside it."""
        same = None
        if self.exact_match:
            same = query.words[:, :, None] == document.words[:, None, :]
        token, _ = maxsim(query.vectors, document.vectors, query.mask, document.mask, same)
        return self._merged((query.cls * document.cls).sum(-1), token)

    def score_all(self, query: Vectors, document: Vectors) -> Scores:
        """(Q, D) the score of every query with every document."""
        words = (query.words, document.words) if self.exact_match else None
        token = maxsim_of_all(query.vectors, document.vectors, query.mask, document.mask, words)
        return self._merged(query.cls @ document.cls.T, token)

    def _merged(self, cls: Tensor, token: Tensor) -> Scores:
        weight = self.cls_weight
        return Scores(weight * cls + (1 - weight) * token, cls, token)

    def forward(self, query: Mapping[str, Tensor], document: Mapping[str, Tensor]) -> Tensor:
        """(B,) scores of pairs."""
        return self.score(self.queries(query), self.documents(document)).total


def grown(before: ColBERTer, **arguments: Any) -> ColBERTer:
    """A network with other parts that begins with the weights of one that was trained: those that
    both have, in the same shape. Its encoder goes along.
    """
    made = ColBERTer(**before.arguments | arguments)
    known = {k: v for k, v in before.state_dict().items() if not k.startswith("encoder.")}
    own = made.state_dict()
    taken = {k: v for k, v in known.items() if k in own and own[k].shape == v.shape}
    made.load_state_dict(own | taken)
    made.encoder = before.encoder
    return made.to(before.gamma.device)
