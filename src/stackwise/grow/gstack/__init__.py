"""Grow a trained model: copy its blocks on top of themselves, and train on.

A shallow model is trained for a short while; its whole list of blocks, repeated g times, begins a
deep one,

    blocks(grown) = blocks(base), g times over        (G_stack; order 0 .. l-1, 0 .. l-1, ...)

with its embedding, last norm and head. The paper's deep models reach a given loss with two thirds
of the compute that scratch training takes. Beside G_stack there are the paper's other operators,
each in depth and in width: zero (the function is kept), random (what is new fades in) and learned
(a linear map of the old weights, trained for a hundred steps).

Source: arXiv 2405.15319. Where the paper is silent, or its code differs:

- The optimizer and its schedule start anew after growth (the code; `grow_optimizer_state` takes the
  moments along for whoever wants that).
- `zero` in depth puts its identity blocks where `order` repeats a block. The code interleaves
  (`order="interleave"`); the paper's figure stacks.
- `random` fades in over the first half of the grown model's steps, linearly, all at once; the code
  of the masks that the paper names does it in three stages.
- In width the paper's gain of sqrt(d / D) is right for zeros but not for copies, whose mean square
  is the old one: copies keep their gain. Zero growth scales the norms' epsilon too, so that the
  function is kept to rounding error.
- Depth-dependent scales in a config (residual multipliers, say) are copied as they are.
"""

from stackwise.grow.gstack.depth import (
    Masked,
    output_projections,
    stacked,
    with_identity_blocks,
    with_random_blocks,
)
from stackwise.grow.gstack.entry import gstack
from stackwise.grow.gstack.learned import LearnedGrowth, learned
from stackwise.grow.gstack.learner import GrownLanguageModel
from stackwise.grow.gstack.noise import add_noise
from stackwise.grow.gstack.optimizer_state import grow_optimizer_state
from stackwise.grow.gstack.orders import (
    connection_rate,
    interleaved_order,
    partial_order,
    stack_order,
)
from stackwise.grow.gstack.planning import GrowthSchedule, growth_schedule
from stackwise.grow.gstack.spaces import spaces_of
from stackwise.grow.gstack.width import (
    WidthMask,
    widened,
    widened_at_random,
    widened_with_zeros,
)

__all__ = [
    "GrownLanguageModel", "GrowthSchedule", "LearnedGrowth", "Masked", "WidthMask", "add_noise",
    "connection_rate", "grow_optimizer_state", "growth_schedule", "gstack", "interleaved_order",
    "learned", "output_projections", "partial_order", "spaces_of", "stack_order", "stacked",
    "widened", "widened_at_random", "widened_with_zeros", "with_identity_blocks",
    "with_random_blocks",
]  # fmt: skip
