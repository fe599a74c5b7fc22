"""MaskNet: a feed-forward net whose every layer is multiplied by a mask of the whole row.

Each field of a row becomes an embedding e_i of k numbers, V = [e_1, ..., e_f]. A block multiplies
its input, element by element, by a mask that a small network computes from V, so that features
interact by products and not by sums alone:

    V_mask = W_2 ReLU(W_1 V + b_1) + b_2,     W_1: fk -> t,  W_2: t -> z,  t = r z
    block on the embedding    ReLU(LN(W (V_mask * LN_EMB(V))))
    block on a block          ReLU(LN(W (V_mask * V_prev)))

LN_EMB normalises each field by itself; the mask always reads the raw V, and has no sigmoid. The
serial net stacks one block on the embedding and further ones on blocks; the parallel net sets
blocks on the embedding side by side, and an MLP on all of them.

Source: arXiv 2102.07619. With equal weights both nets answer as those of the public code do
(FuxiCTR; tests/build/test_masknet_parity.py). Differs from the paper: it is an ordinary learner for
tables too, so that two classes have two logits and a number the squared error; a number becomes
w x + c and not w x, of which the field's norm would leave nothing but the sign; a category that
training did not see has an embedding of zeros; batches and widths fit tables of a laptop's size.
Initial values differ from FuxiCTR's, which draws every matrix as Xavier's normal with biases of
zero, and embeddings with a deviation of 0.0001: here masks are Xavier-uniform with biases of zero,
other layers begin as torch's do, and embeddings have a deviation of 0.01.
"""

from stackwise.build.masknet.blocks import InstanceGuidedMask, MaskBlock, ParallelMaskBlocks
from stackwise.build.masknet.fields import FieldEmbedding, FieldNorm
from stackwise.build.masknet.learner import MaskNetClassifier, MaskNetRegressor
from stackwise.build.masknet.network import MaskNet

__all__ = [
    "FieldEmbedding", "FieldNorm", "InstanceGuidedMask", "MaskBlock", "MaskNet",
    "MaskNetClassifier", "MaskNetRegressor", "ParallelMaskBlocks",
]  # fmt: skip
