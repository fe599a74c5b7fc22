"""Make a deep stack of residual blocks shallow again: let its blocks work side by side.

A stack of residual blocks adds to a stream, x_h = x_{h-1} + F_h(x_{h-1}). Multiplied out for
linear blocks, (I + F_H) ... (I + F_1) is a sum over all subsets of blocks; where the F are small,
the terms of two and more blocks are smaller still, and what stays is one broad layer with as many
parameters:

    x_H ~ x_0 + sum_h F_h(x_0)                                                            (eq. 3)

`ShallowAgainClassifier` trains that layer, or the deep stack, from scratch. `shallow_again` cuts a
trained stack at any order of that expansion and mends it by a little training. `expansion` says
beforehand, order by order, what a cut would cost.

Source: arXiv 2309.08414, whose body and experiment grid could not be read and which has no code:
that the network lifts the channels, pools at the end and has one order, is its abstract's and its
last pages'. The sweeps for nonlinear blocks, groups, fusing, and the transform are ours. Differs
from the paper: pooling is the maximum of 2 x 2 places before a linear head.
"""

from stackwise.shrink.shallow_again.entry import shallow_again
from stackwise.shrink.shallow_again.expansion import expansion
from stackwise.shrink.shallow_again.learner import ShallowAgainClassifier
from stackwise.shrink.shallow_again.network import ResidualLayer, ShallowNet, fuse_parallel

__all__ = [
    "ResidualLayer", "ShallowAgainClassifier", "ShallowNet", "expansion", "fuse_parallel",
    "shallow_again",
]  # fmt: skip
