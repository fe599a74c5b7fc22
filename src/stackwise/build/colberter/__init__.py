"""ColBERTer: search by one vector a text, then by a narrow vector for each whole word.

A document is found by its single vector, and ordered by a sum over the query's words of their best
match among the document's words:

    v_w = r_w W_t mean(h_i of the pieces of word w),    r_w = ReLU(W_s W_t mean(h_i) + b_s)
    s   = sigmoid(gamma) q_CLS . p_CLS + (1 - sigmoid(gamma)) sum_q max_p q . p

A word has one vector a document, however often and in however many pieces it stands there; words
whose gate r_w is 0 are not stored; a second reduction goes down to one number a word, where equal
words alone match. So a document costs few and narrow vectors, and each score says which words it
comes from.

Source: arXiv 2203.13088 (Hofstaetter et al., CIKM 2022). What differs, and why:

- Without a teacher the documents of a batch are the negatives (softmax); MarginMSE is learned where
  there is one: BM25, another retriever, or given scores. The paper's teacher and data (MS MARCO, an
  ensemble of cross-encoders) are not at hand.
- By default the encoder is frozen and its pooled states are kept, so that the layers behind it
  learn in seconds; `tune` trains it too, and without a pretrained one a small new one learns.
- a_CLS is 0.5, the paper's 0.1 for margins: a softmax is of another size. The gate's term, with the
  paper's 0.75, is the mean over real words, so that it means the same in every batch.
- A word whose gate is closed takes no part in training either. In the authors' code it does, as a
  vector of 0, or the bias of the second reduction, while no index holds it (`masks_closed=False`).
- Words are compared by their Porter stems, as in the paper; the released code compares them in
  lower case (`normalise="lower"`).
"""

from stackwise.build.colberter.model.network import ColBERTer
from stackwise.build.colberter.model.words import WholeWords
from stackwise.build.colberter.retriever import ColBERTerRetriever

__all__ = ["ColBERTer", "ColBERTerRetriever", "WholeWords"]
