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
answers by slowly following weights are as in the authors' code, whose recorded numbers the network
is held to (tests/build/test_hopular_parity.py). Differs from it:

- the slow weights follow by 0.05 a step, since 0.005 is made for 5,000 epochs; lambda and the
  learning rate reach the end of their cosine with the last epoch (there half-way); no patience,
  because the target is learned last;
- LAMB is that of its paper: the moments are freed of their start at zero within the trust ratio.
  The authors correct the step's length outside of it, so that their first steps are 3 to 6 times
  shorter, and weight decay counts for less in them;
- attributes are hidden, and the last dropout is, as by the defaults of the authors' classes
  (0.15, 0.8, 0.1 and 0.1); their command line selects every attribute, masks 0.025 and replaces
  0.175 of them, and drops 0.01;
- kinds and positions begin as N(0, 1), there as U(-1/sqrt(e), 1/sqrt(e)); all else begins alike;
- norms of the blocks add 1e-5 to the variance, there 1e-12 (answers move by 1e-4 at most);
- a category that is missing is a category of its own where training had missing ones.
"""

from stackwise.build.hopular.learner import HopularClassifier, HopularRegressor
from stackwise.build.hopular.network import Hopular

__all__ = ["Hopular", "HopularClassifier", "HopularRegressor"]
