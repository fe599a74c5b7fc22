"""Whole-word pooling, the gate of stopwords, and the sum of best matches.

    v_w  = mean of h_i over the tokens i of word w                                  (pooling)
    r_w  = ReLU(v_w W_s + b_s),   v_w <- r_w v_w;   words with r_w = 0 leave        (gate)
    s    = sum over query words of the largest product with a document word         (MaxSim)

With exact matching a product counts between equal words alone, and is 0 between others, so that a
match that is below 0 loses to any other word of the document.
"""

import torch
from torch import Tensor, nn

CLOSED = -1000.0
"""The product with what is no word: padding, or a word whose gate is closed."""


def pool_whole_words(states: Tensor, pieces: Tensor, words: Tensor) -> Tensor:
    """The mean of each word's tokens, over all its places.

    Args:
        states: (B, n, d) of tokens. pieces: (B, n) int64, the word of each token, 0 of none.
        words: (B, w) int64, each word of a text once, padded with 0.

    Returns:
        (B, w, d); 0 where there is no word, whatever `states` holds for special tokens.
    """
    own = (words[:, :, None] == pieces[:, None, :]) & (words != 0)[:, :, None]
    weight = own.to(states.dtype)
    return (weight @ states) / weight.sum(-1, keepdim=True).clamp(min=1)


class StopwordGate(nn.Module):
    """How much each word of a document is kept: (B, w, d) -> (B, w) at least 0.

    The bias begins at 1, so that nothing is closed at the first step.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, 1)
        nn.init.ones_(self.linear.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        """The gates."""
        found: Tensor = self.linear(vectors).squeeze(-1).relu()
        return found


def maxsim(
    query: Tensor,
    document: Tensor,
    query_mask: Tensor,
    document_mask: Tensor,
    same_word: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The sum over query words of the best match, for each pair (query b, document b).

    Args:
        query: (B, i, d). document: (B, j, d). masks: (B, i) and (B, j), which are words.
        same_word: (B, i, j) which pairs of words are equal; None lets all match.

    Returns:
        (B,) scores and (B, i, j) products, `CLOSED` where the document has no word.
    """
    matrix = query @ document.transpose(-1, -2)
    if same_word is not None:
        matrix = torch.where(same_word, matrix, 0.0)
    matrix = matrix.masked_fill(~document_mask.bool()[:, None, :], CLOSED)
    best = matrix.max(-1).values
    return (best * query_mask.to(best.dtype)).sum(-1), matrix


def maxsim_of_all(
    query: Tensor,
    document: Tensor,
    query_mask: Tensor,
    document_mask: Tensor,
    words: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The same of every query with every document: (Q, i, d) and (D, j, d) -> (Q, D).

    Args:
        words: (Q, i) and (D, j) ids, where only equal words match.
    """
    (rows, i, size), (others, j, _) = query.shape, document.shape
    matrix = (query.reshape(-1, size) @ document.reshape(-1, size).T).view(rows, i, others, j)
    if words is not None:
        equal = words[0].reshape(rows, i, 1, 1) == words[1].reshape(1, 1, others, j)
        matrix = torch.where(equal, matrix, 0.0)
    matrix = matrix.masked_fill(~document_mask.bool()[None, None], CLOSED)
    best = matrix.max(-1).values
    return (best * query_mask.to(best.dtype)[:, :, None]).sum(1)
