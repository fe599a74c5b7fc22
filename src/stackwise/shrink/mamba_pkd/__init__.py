"""Split a large classifier into a chain of small Mamba students that are added up.

Student k learns what the students before it left of the teacher g and the labels y:

    F_k = F_{k-1} + nu f_k
    L_k = alpha CE(F_k, y) + (1 - alpha) T^2 KL(softmax(g / T) || softmax(F_k / T))

over f_k alone, with T the temperature. So every prefix of the chain is a model: more students, more
accuracy, more compute. A budget picks how many to ask, or each row stops when its answer is sure.

Source: arXiv 2503.01727, of which the abstract and the start of the introduction could be read, and
no code exists. Seven students, the loss, its alpha, and the cost as a share of the teacher's (1 %
for the weakest, 63 % for all) are the paper's. That students add logits, begin at zero and grow by
one factor is inferred, and so are the modes beside `residual`. Differs from the paper as read: any
model may teach, and any prefix of the chain answers.
"""

from stackwise.learning.measuring import multiply_adds
from stackwise.shrink.mamba_pkd.chain import (
    regression_loss,
    residual_loss,
    staged,
    start_at_zero,
    until_sure,
)
from stackwise.shrink.mamba_pkd.cost import shares, width_of_cost, within_budget
from stackwise.shrink.mamba_pkd.entry import mamba_pkd
from stackwise.shrink.mamba_pkd.learner import MambaClassifier
from stackwise.shrink.mamba_pkd.network import Mamba, MambaBlock, decays
from stackwise.shrink.mamba_pkd.students import MambaChain
from stackwise.training.distillation import checked_teacher, distillation_loss, soft_loss

__all__ = [
    "Mamba", "MambaBlock", "MambaChain", "MambaClassifier", "checked_teacher", "decays",
    "distillation_loss", "mamba_pkd", "multiply_adds", "regression_loss", "residual_loss", "shares",
    "soft_loss", "staged", "start_at_zero", "until_sure", "width_of_cost", "within_budget",
]  # fmt: skip
