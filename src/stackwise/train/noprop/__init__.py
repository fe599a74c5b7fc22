"""NoProp: a stack whose blocks learn each by itself, by denoising the label.

No block waits for another, forward or backward. Block t gets the input x and a noised embedding of
the label, and predicts the embedding u_y = W[y]; in prediction the blocks run in order and turn
noise into a label:

    z_t = a_t uhat_t(z_{t-1}, x) + b_t z_{t-1} + sqrt(c_t) eps,   z_0 ~ N(0, I)            (eq. 3)
    uhat_t = softmax(l_t(z_{t-1}, x)) W

    DT    T blocks, each with a weight of its own on ||uhat_t - u_y||^2                    (eq. 8)
    CT    one block for all times t in [0, 1], with a learned noise schedule               (eq. 9)
    FM    one block that learns the flow from noise to u_y                            (eq. 10-13)

z_0 is noise and z_T clean: the reverse of what diffusion code has.

Source: arXiv 2503.24322 (v1; v2 says that back-propagation is used inside of a block). No official
code. What the paper leaves open and is chosen here: the cosine of DT's schedule (`schedules`), the
form and the beginning of CT's, sigma of FM and of the posterior readout, and that the gradient of a
learned W flows through all terms as written. What differs: where W is fixed, blocks are fits of
their own, in turn or at once, and the readout too (`apart`); prediction draws the same noise for
every row and averages `draws` of them, so that no row's answer depends on others; CT and FM take
100 steps and not 1,000; width is half the paper's.
"""

from stackwise.train.noprop.embeddings import prototypes
from stackwise.train.noprop.learner import NoPropClassifier, NoPropTableClassifier
from stackwise.train.noprop.network import NoPropImages, NoPropStack, NoPropTable
from stackwise.train.noprop.rule import BlockRule, NoPropRule
from stackwise.train.noprop.schedules import LearnedSchedule, cosine_abar, transition

__all__ = [
    "BlockRule", "LearnedSchedule", "NoPropClassifier", "NoPropImages", "NoPropRule", "NoPropStack",
    "NoPropTable", "NoPropTableClassifier", "cosine_abar", "prototypes", "transition",
]  # fmt: skip
