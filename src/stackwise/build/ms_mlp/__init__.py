"""MS-MLP: channel groups look at places further and further away through wider windows.

Mixing over places has no attention and no matrix over the map. The channels of a block are split
into five groups; each is convolved in a window of its own, which grows with the group's distance,
and shifted by its distance, along the width in one branch and along the height in another:

    u = concat_g shift_g(mix_g(x_g))  along W   +   concat_g shift_g(mix'_g(x_g))  along H
    y = x + gamma * W2 GELU(W1 LN(u))

With one group, no shift and a 7 x 7 window this is a block of ConvNeXt, of which MS-MLP is a
grouped and shifted kin: "MLP" holds for the mixing of channels.

Source: arXiv 2202.06510 and the code at github.com/JegZheng/MS-MLP, whose numbers are met to 1e-5.
Differs from the paper: the default shifts first, around the border, as that code does (`order`,
`border`); any size of picture is taken, filled up with zeros; two small sizes, shifts that change
sides (`mirror`) and the form of the hybrid with window attention (`hybrid`) are ours; the recipe of
300 epochs with mixup and RandAugment is scaled to some thousand small pictures.
"""

from stackwise.build.ms_mlp.blocks import HybridBlock, MSBlock
from stackwise.build.ms_mlp.learner import MSMLPClassifier
from stackwise.build.ms_mlp.mix_shift import MixShift
from stackwise.build.ms_mlp.network import MSMLP

__all__ = ["MSMLP", "HybridBlock", "MSBlock", "MSMLPClassifier", "MixShift"]
