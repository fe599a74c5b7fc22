"""Hopular: a network that keeps the whole training set and looks similar rows up, layer by layer.

The target is one more attribute of a row, masked where it is asked for. Embedded attributes xi are
refined by two continuous modern Hopfield networks a block,

    u = LN_s(xi),   xi <- u + Hop_s(u, LN_s(M))       M: all training rows, their targets visible
    v = LN_f(xi),   xi <- v + Hop_f(v, LN_f(E(x)))    E(x): the row's own attributes
    Hop(R, Y) = concat_h softmax(beta (R W_Q^h) (Y W_K^h)^T) (Y W_V^h) W_O

and it learns to guess hidden attributes first and the target at last,

    L = lambda L_feature + (1 - lambda) L_target,     lambda from 1 to 0

In training a row may not look at itself. **A fitted model holds the training rows**: whoever gets
the file gets the data.

Source: arXiv 2206.00664. Residuals on the normalised input, one norm for state and memory, and
answers by slowly following weights are as in the authors' code. Differs from the paper: the slow
weights follow by 0.05 a step, since 0.005 is made for 5,000 epochs; lambda and the learning rate
reach the end of their cosine with the last epoch (in the code half-way); no patience, because the
target is learned last; a category that is missing is a category of its own where training had
missing ones.
"""

from stackwise.build.hopular.learner import HopularClassifier, HopularRegressor
from stackwise.build.hopular.network import Hopular

__all__ = ["Hopular", "HopularClassifier", "HopularRegressor"]
