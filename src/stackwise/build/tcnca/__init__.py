"""TCNCA: dilated convolutions carry the long range, attention mixes in chunks, a gate joins them.

    x_t = sum_k w_k x_{t - f^i k}        layer i of a depth-wise stack; receptive field
                                         r = 1 + (K - 1)(f^D - 1)/(f - 1), at a cost of L K D
    y   = x + U * (silu(Hx + (attention in chunks * R) W) - x)

Full attention costs L^2; here each step costs the same whatever came before, and a stream goes on
with a state that does not grow. A chunk attends to itself alone, so that everything that passes
from chunk to chunk goes through the convolutions: they must see further than a chunk.

Source: arXiv 2312.05605, whose body we could not read and whose code we did not find, and the code
of MEGA (arXiv 2209.10655), of which TCNCA keeps all but the moving average and whose numbers are
met to 1e-5. Differs from the paper, or is inferred: the filters are depth-wise, one convolution a
block with ReLU and plain weights; the operator's output is silu(stack(x) + omega x), as MEGA's;
TCNCA-simple is x + T(Norm x), then x + attention(Norm x); both-sided tasks take symmetric filters
or a second stack from the end. MEGA's average is here as the rival (`operator="ema"`).
"""

from stackwise.build.tcnca.block import Block, GatedMixing, SimpleMixing
from stackwise.build.tcnca.networks import TCNCALanguageModel, TCNCASeries, TCNCATexts
from stackwise.build.tcnca.series_learners import TCNCAClassifier, TCNCARegressor
from stackwise.build.tcnca.sizes import Sizes
from stackwise.build.tcnca.text_learners import TCNCALanguageLearner, TCNCATextClassifier
from stackwise.build.tcnca.trunk import Trunk

__all__ = [
    "Block", "GatedMixing", "SimpleMixing", "Sizes", "TCNCAClassifier", "TCNCALanguageLearner",
    "TCNCALanguageModel", "TCNCARegressor", "TCNCASeries", "TCNCATextClassifier", "TCNCATexts",
    "Trunk",
]  # fmt: skip
