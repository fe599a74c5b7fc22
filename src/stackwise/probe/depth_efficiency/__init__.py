"""How much of its depth does a model use?

A set of measurements that say, block by block, how much each one writes into the residual stream,
whether later blocks and later tokens build on it, and from where on the answer is only refined:

    contribution   ||c_l|| / ||h_l||            how much block l writes           contribution.py
    cosine         cos(c_l, h_l)                writes anew, erases, strengthens  contribution.py
    skip           change when s is skipped     on later blocks and the output    skip.py
    future         the same on later tokens     what is reused                    skip.py
    local          direct effect s on l         without propagation               local.py
    lens           the answer at each depth     KL and top-5 overlap              lens.py

For single prompts and pairs of models there are functions of their own: `integrated_gradients`,
`erase`, `difficulty` and `map_layers`.

Source: "Do Language Models Use Their Depth Efficiently?" (arXiv 2505.13898). Differs from the
paper: it looks at causal language models; all but the future forms here also work on encoders,
vision transformers and residual networks. Measurements are taken in the model's own precision, so
load it in float32: in bfloat16 the effects of late blocks can be smaller than the rounding.
"""

from stackwise.layers.evaluating import evaluating
from stackwise.probe.depth_efficiency.clean_run import CleanRun
from stackwise.probe.depth_efficiency.entry import depth_efficiency
from stackwise.probe.depth_efficiency.measurements.difficulty import (
    cosine_depth,
    depth_score,
    difficulty,
    kl_depth,
    overlap_depth,
)
from stackwise.probe.depth_efficiency.measurements.erasure import erase
from stackwise.probe.depth_efficiency.measurements.gradients import integrated_gradients
from stackwise.probe.depth_efficiency.measurements.lens import lens
from stackwise.probe.depth_efficiency.measurements.local import local
from stackwise.probe.depth_efficiency.measurements.mapping import map_layers
from stackwise.probe.depth_efficiency.measurements.skip import skip

__all__ = [
    "CleanRun", "cosine_depth", "depth_efficiency", "depth_score", "difficulty", "erase",
    "evaluating", "integrated_gradients", "kl_depth", "lens", "local", "map_layers",
    "overlap_depth", "skip",
]  # fmt: skip
