"""Mix models that were fine-tuned from one base into a model for new work, by learning how much of
each to take in each block.

A task vector is what fine-tuning changed, tau_i = theta_i - theta_0. A parameter block is an entry
of the parameter list: a weight, a bias, a gain, a table. One number is learned for each donor i and
block j, and nothing else,

    theta^(j) = theta_0^(j) + sum_i lambda_i^(j) tau_i^(j)                       (eq. 1)

with lambda = 0, the base, to begin with. Its gradient needs one backward pass for theta and dot
products, so that no graph goes through the composition:

    dL / dlambda_i^(j) = < dL / dtheta^(j), tau_i^(j) >                          (eq. 2)

A few labels are enough for so few numbers, or none at all; what comes out is a plain model that
costs what the base costs.

Source: arXiv 2407.02880 (aTLAS). What differs, and how vague places are read:

- Blocks are matched by name. The authors' code pairs two lists by position.
- The head is left at the base (the paper shares one frozen head); `exclude=[]` composes it too.
- With `parts`, each block is split for itself, vectors too. The authors' code draws one split a
  shape and leaves vectors at the base; tests/adapt/test_atlas_parity.py holds both forms to it.
- The network is in evaluation mode while coefficients are learned: buffers stay the base's.
- lambda = 0 is a candidate: where no coefficients are better on held-out data, the base comes out.
- Negation keeps the coefficients that forget most among those whose control is at least 95 % of
  the base's. The authors' code ends with none where no epoch keeps it; here the base is one.
- UFM estimates its trusted samples anew each epoch, as the paper says, and keeps the last epoch.
  Their code chooses the epoch by labels, and a fault there makes all samples trusted.
- The exponent of UFM's pseudo-labels is as printed, 0.5, which flattens; `sharpen` changes it.
- `linearised` learns along the first-order expansion and gives the plain model of what it learned.
- Of the classifier adapters the linear probe is here (`head_epochs`), as the head itself; in the
  authors' scripts the adapters take no backward pass, so that they stay as they begin. Left out:
  Tip-Adapter, whose cache would stay beside the model, and gradient-free search, which the paper
  finds poor for more than a few numbers.
"""

from stackwise.adapt.atlas.arithmetic import merge_saved, task_arithmetic
from stackwise.adapt.atlas.blocks import Blocks, blocks_of
from stackwise.adapt.atlas.budget import allowed_donors
from stackwise.adapt.atlas.composition import Composition
from stackwise.adapt.atlas.donors import TaskVector, task_vectors
from stackwise.adapt.atlas.entry import atlas, coefficients_of
from stackwise.adapt.atlas.figures import heat_map
from stackwise.adapt.atlas.linearised import Linearised
from stackwise.adapt.atlas.vectors import Difference, disentanglement_error

__all__ = [
    "Blocks", "Composition", "Difference", "Linearised", "TaskVector", "allowed_donors", "atlas",
    "blocks_of", "coefficients_of", "disentanglement_error", "heat_map", "merge_saved",
    "task_arithmetic", "task_vectors",
]  # fmt: skip
