"""Networks that can be cut along all their axes: residual MLPs, a CNN, a vision transformer.

Each says, beside what it computes, how far its axes go (`extents`), what every module's outputs and
inputs are units of (`places`), and its constructor's arguments at other sizes (`resized`).
"""

from stackwise.train.sortednet.networks.inverted_cnn import InvertedCNN
from stackwise.train.sortednet.networks.residual_mlp import PictureMLP, ResidualMLP, RowMLP
from stackwise.train.sortednet.networks.vision_transformer import SortedViT

__all__ = ["InvertedCNN", "PictureMLP", "ResidualMLP", "RowMLP", "SortedViT"]
