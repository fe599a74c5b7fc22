"""Fine-tune a small language model on instructions, by a recipe that needs almost no search.

All data in one mix ("stacked"), a large effective batch, a low constant learning rate, no warm-
up; the loss is the mean over the learned tokens of the effective batch,

    L_B = 1 / T_B  sum over samples i, answer tokens t of  -log p(x_it | x_i,<t)

so that neither micro-batches nor packing, padding or ranks change the gradient. Beside the
paper's recipe there are its rivals (tulu, orca, phases, phases by difficulty), the early signs by
which the paper tells good runs from bad ones, and a sweep that stops the worse half early.

Source: arXiv 2412.13337, which is a study and no algorithm. Differs from it, or chosen where it
is silent: the optimizer is AdamW without weight decay, the gradient is clipped at norm 1; a batch
of 3,840 is capped on small data; the score of early signs is ours (monitor.py), with its confound
beside it; `orca` is phases in order with the settings of `tulu`. The best checkpoint is chosen on
validation chats, not on the test as there.
"""

from stackwise.train.sft_recipe.curriculum import curriculum
from stackwise.train.sft_recipe.learner import FineTuned, Untuned, UsualFineTuning
from stackwise.train.sft_recipe.monitor import RunMonitor, early_rank
from stackwise.train.sft_recipe.recipes import (
    Recipe,
    lab_recipe,
    orca_recipe,
    recipe,
    tulu_recipe,
    usual_recipe,
)
from stackwise.train.sft_recipe.rule import SampleBatches, TokenMean, effective_gradient
from stackwise.train.sft_recipe.sweep import Swept, find_lr, sweep

__all__ = [
    "FineTuned", "Recipe", "RunMonitor", "SampleBatches", "Swept", "TokenMean", "Untuned",
    "UsualFineTuning", "curriculum", "early_rank", "effective_gradient", "find_lr", "lab_recipe",
    "orca_recipe", "recipe", "sweep", "tulu_recipe", "usual_recipe",
]  # fmt: skip
