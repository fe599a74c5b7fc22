"""Train few layers of parallel branches, pull the branches together, ship one exact branch.

A layer has N branches of attention and N of the MLP, whose sums go to the residual stream. Over
training a number lambda rises from 0 to 1 and mixes what the branches feed into their nonlinear
parts with its mean,

    u~_i = (1 - lambda) u_i + lambda mean_j u_j

At lambda = 1 all branches apply the same nonlinear function to the same input, and what is left to
differ is linear: N branches are one, with first maps averaged and last maps added, to rounding
error. A model of 12 blocks becomes 6, 4 or 3 layers of 2, 3 or 4 branches, and leaves training as
a plain transformer of 6, 4 or 3.

Source: arXiv 2511.19718. No code is public, and of the paper its abstract was readable: that the
normalisation is taken out of the branches, that attention is written without concatenation, and
that branches are joined by a schedule at the entry of the nonlinear parts, is the paper's; the
algebra and the shapes of the schedule were derived here. Differs from the paper: a model that is
trained already can be grouped into branches (`grouped`), the merged one of transformers goes back
to its own class (`restored`), and the last map of a branch begins smaller by sqrt(N).
"""

from stackwise.shrink.vit_reparam.branches import (
    BranchedAttention,
    BranchedBlock,
    BranchedFFN,
    branch_gap,
)
from stackwise.shrink.vit_reparam.entry import grouping_gap, vit_reparam
from stackwise.shrink.vit_reparam.grouping import grouped, restored
from stackwise.shrink.vit_reparam.learner import BranchedViTClassifier
from stackwise.shrink.vit_reparam.merging import merge, merged_block, value_bias_to_output
from stackwise.shrink.vit_reparam.network import BranchedViT
from stackwise.shrink.vit_reparam.rule import JoinRule
from stackwise.shrink.vit_reparam.schedule import JoinSchedule, set_join

__all__ = [
    "BranchedAttention", "BranchedBlock", "BranchedFFN", "BranchedViT", "BranchedViTClassifier",
    "JoinRule", "JoinSchedule", "branch_gap", "grouped", "grouping_gap", "merge", "merged_block",
    "restored", "set_join", "value_bias_to_output", "vit_reparam",
]  # fmt: skip
