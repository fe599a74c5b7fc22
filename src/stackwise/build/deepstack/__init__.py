"""DeepStack: more visual tokens at the same sequence length, added to the stream of early layers.

The picture is read twice: whole at r x r (l tokens X, which stand in the sequence), and in gh x gw
crops of r x r each. The crops' tokens form a grid G, which is parted into K = gh gw stacks, each as
long as X and token by token over the same pixels:

    X_k[a, b] = G[a gh + i, b gw + j]       k = i gw + j
    H[V] <- H[V] + X_k                      before block s + k n, V the picture's positions

No weight and no position is new. While an answer is written the stacks are added once, with the
prompt; further tokens see them through the cache. `variant` has the same inside the vision tower
(V) and with several of its depths in place of a second resolution (taps, as in Qwen3-VL).

    from stackwise.build.deepstack import DeepStack     # on any stack of blocks, by hand

Source: arXiv 2406.04334 (algorithm 1), its public code, and transformers' `qwen3_vl` for the taps.
Differs from both: positions are named by a mask, so that text-only rows, padding on either side and
several pictures in a row are right (the public code counts from one unexpanded placeholder), and
the sum is made on a copy. One phase trains whatever is new; the paper first trains the projector on
captions and then all at a lower rate. Several views in the sequence, each with stacks of its own
(DeepStack-HD), are not here.
"""

from stackwise.build.deepstack.entry import deepstack
from stackwise.build.deepstack.grids import best_grid
from stackwise.build.deepstack.injection import DeepStack
from stackwise.build.deepstack.learner import DeepStackVQA
from stackwise.build.deepstack.network import DeepStackReader
from stackwise.build.deepstack.sampling import sample_stacks, stacks_of_crops, unsample_stacks
from stackwise.build.deepstack.split_vit import DeepStackViT
from stackwise.build.deepstack.taps import DeepStackTap, PatchMerger

__all__ = [
    "DeepStack", "DeepStackReader", "DeepStackTap", "DeepStackVQA", "DeepStackViT", "PatchMerger",
    "best_grid", "deepstack", "sample_stacks", "stacks_of_crops", "unsample_stacks",
]  # fmt: skip
