"""The contrastive loss: each row finds its partner among the rows of the batch.

    s_ij = cos(a_i, b_j) / T
    loss = 1/2 mean_i [ -log softmax_j(s_ij)[i] - log softmax_j(s_ji)[i] ]

of two towers (a text and its picture) or of two texts that mean the same. Rows that carry labels
are all partners of those of their own label, and no row of itself (arXiv 2004.11362, its L_out):

    loss = mean_i -1/|P(i)| sum_{p in P(i)} log softmax_{j != i}(s_ij)[p]

Of pairs, those that are known to be partners too are left out of both sums, and further rows behind
the partners are nobody's.

Lengths do not count: embeddings are normalised here, behind the cut of `MatryoshkaLoss`, at one
temperature for all sizes.
"""

import torch
from torch import Tensor
from torch.nn import functional

from stackwise.errors import DataError

TEMPERATURE = 0.07


def contrastive_loss(
    one: Tensor,
    other: Tensor | None = None,
    *,
    labels: Tensor | None = None,
    known: Tensor | None = None,
    rows: Tensor | None = None,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """The loss of (B, d) embeddings: of pairs with `other`, else by `labels` (B,).

    Args:
        other: (D, d) the partner of each row, and where D > B further rows that are nobody's.
        known: (B, D) bool, of pairs which others are partners of a row too.
        rows: (r,) int64, of pairs those whose loss is taken; None: all.

    Raises:
        DataError: neither partners nor labels; too few partners, or of another width; fewer than
            two to be told apart, or no two rows of one label.
    """
    if (other is None) == (labels is None):
        raise DataError("give the partners of the rows, or their labels, and not both")
    if max(len(one), 0 if other is None else len(other)) < 2:
        raise DataError(f"a batch of {len(one)} has nobody to be told apart from; give 2 or more")
    one = functional.normalize(one, dim=-1)
    if other is not None:
        if other.shape[1:] != one.shape[1:] or len(other) < len(one):
            raise DataError(f"{tuple(one.shape)} and {tuple(other.shape)} are no pairs")
        scores = one @ functional.normalize(other, dim=-1).T / temperature
        if known is not None:
            scores = scores.masked_fill(known, -torch.inf)
        back = scores[:, : len(one)].T
        if rows is None:
            rows = torch.arange(len(one), device=one.device)
        else:
            scores, back = scores[rows], back[rows]
        return (functional.cross_entropy(scores, rows) + functional.cross_entropy(back, rows)) / 2
    assert labels is not None
    own = torch.eye(len(one), dtype=torch.bool, device=one.device)
    partners = (labels[:, None] == labels[None]) & ~own
    counts = partners.sum(1)
    if not bool(counts.any()):
        raise DataError("no two rows of the batch share a label; give larger batches")
    chances = (one @ one.T / temperature).masked_fill(own, -torch.inf).log_softmax(1)
    of_rows = chances.masked_fill(~partners, 0).sum(1) / counts.clamp(min=1)
    return -of_rows[counts > 0].mean()
