"""Astroformer: three stages of convolution and one of relative attention, for little data.

    stem - C - C - C - T - head        C: convolution with squeeze-excitation, T: attention on a map
    y_i = sum_j softmax_j( q_i . k_j / sqrt(e) + w_{i - j} ) v_j

CoAtNet (arXiv 2106.04803) is the same stack with C C T T, of the same widths and depths. The paper
finds that one stage of attention less generalises better where pictures are few, together with
strong augmentation that hides no part of a picture.

Source: arXiv 2304.05350 and the code at github.com/Rishit-dagli/Astroformer, whose numbers are met
to 1e-5. Its accuracies are not known to have been reproduced, and are not claimed here. Differs
from the paper: any size of picture is taken, filled up with zeros, and `resized` brings a trained
network to another; two small sizes, blocks of stride 1 that change the width, and the details of
offsets through an MLP are ours; the recipe is one for thousands of pictures (see `learner`).
"""

from stackwise.build.astroformer.blocks import Block, ConvBlock, TransformerBlock
from stackwise.build.astroformer.layouts import compare_layouts
from stackwise.build.astroformer.learner import AstroformerClassifier
from stackwise.build.astroformer.network import Astroformer
from stackwise.layers.relative_attention import RelativeAttention

__all__ = [
    "Astroformer", "AstroformerClassifier", "Block", "ConvBlock", "RelativeAttention",
    "TransformerBlock", "compare_layouts",
]  # fmt: skip
