"""Make a network sparse while it trains: magnitude masks that tighten on a cubic schedule.

Every so many steps the weights of smallest magnitude are masked, layer by layer, until

    s_t = s_f + (s_i - s_f) (1 - (t - t0) / (n D))^3        (eq. 1)

of them are: fast while there is much to spare, slowly towards the end. Training goes on all the
while and after, so that what stays can take over.

Source: arXiv 1710.01878. The two published code bases differ where the paper is silent. In one a
masked weight keeps its value and may come back (`regrow=True`, the default, as the paper's text
has it), in the other it is set to zero for good (`regrow=False`). Masks end exactly on the target
and rank ties by place; the best validation score counts only once the masks are final.

Unstructured zeros make the file smaller (`stackwise.sparse_files`), not dense kernels faster:
benchmarks/gradual-pruning.py measures from which sparsity on a sparse product pays on a CPU.
"""

from stackwise.layers.masked_weights import attach, detach, kept_count, prunable, sparsity
from stackwise.shrink.gradual_pruning.entry import gradual_pruning
from stackwise.shrink.gradual_pruning.masks import global_masks, magnitude_mask, pattern_mask
from stackwise.shrink.gradual_pruning.rule import GradualRule
from stackwise.shrink.gradual_pruning.schedule import Schedule, cubic_sparsity
from stackwise.shrink.gradual_pruning.small_dense import small_dense

__all__ = [
    "GradualRule", "Schedule", "attach", "cubic_sparsity", "detach", "global_masks",
    "gradual_pruning", "kept_count", "magnitude_mask", "pattern_mask", "prunable", "small_dense",
    "sparsity",
]  # fmt: skip
