"""Matryoshka representations: one embedding whose first 8, 16, 32, ... numbers are embeddings too.

An encoder gives z in R^d. For sizes M = {m_1 < m_2 < ... < d}, each prefix is trained to serve by
itself, all in one pass of the encoder:

    loss = sum_{m in M} c_m L(W_m z[:m], y)             MRL: a linear head a size        (eq. 1)
    W_m = W[:, :m], one bias                            MRL-E: one head for all sizes

and L may be any loss of embeddings in place of a classifier's: of pairs of texts, or a text and its
picture, cut and then brought to length 1, in that order. What storage, search and classification
cost is then chosen after training: `transform(X, dim=16)`, a cascade of heads that stops when it is
sure, a search that makes its shortlist from short vectors and ranks it anew by longer ones.

Source: arXiv 2205.13147, and its public code where the paper is silent (losses are summed, not
averaged; heads have biases and MRL-E shares one; label smoothing acts at every size). Differs from
the paper: default sizes are halvings of d down to 8 (the paper's own lists for 2,048 and 768);
logits of a tied head are summed up from size to size, each product once; in re-ranking both sides
are normalised behind the cut (the code normalises queries before it: the same order, but distances
that cannot be compared); the cascade looks at one view of a picture where the code adds its mirror
image, so that its thresholds are not the paper's.
"""

from stackwise.train.matryoshka.cascade import (
    adaptive_answers,
    expected_dim,
    tune_thresholds,
)
from stackwise.train.matryoshka.contrastive import contrastive_loss
from stackwise.train.matryoshka.embedding import embed
from stackwise.train.matryoshka.entry import matryoshka
from stackwise.train.matryoshka.heads import MatryoshkaHead
from stackwise.train.matryoshka.learner import MatryoshkaClassifier, MatryoshkaTableClassifier
from stackwise.train.matryoshka.loss import MatryoshkaLoss
from stackwise.train.matryoshka.network import NestedPictures, NestedRows
from stackwise.train.matryoshka.ranking import (
    mean_average_precision,
    precision_at,
    recall_at,
)
from stackwise.train.matryoshka.retrieval import (
    NestedSearch,
    adaptive_search,
    funnel_search,
    search_cost,
)
from stackwise.train.matryoshka.searching.retriever import MatryoshkaRetriever
from stackwise.train.matryoshka.sizes import cut, halvings
from stackwise.train.matryoshka.text_learner import MatryoshkaTextClassifier

__all__ = [
    "MatryoshkaClassifier", "MatryoshkaHead", "MatryoshkaLoss", "MatryoshkaRetriever",
    "MatryoshkaTableClassifier", "MatryoshkaTextClassifier", "NestedPictures", "NestedRows",
    "NestedSearch", "adaptive_answers", "adaptive_search", "contrastive_loss", "cut", "embed",
    "expected_dim", "funnel_search", "halvings", "matryoshka", "mean_average_precision",
    "precision_at", "recall_at", "search_cost", "tune_thresholds",
]  # fmt: skip
