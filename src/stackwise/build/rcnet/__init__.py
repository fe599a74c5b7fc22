"""RCNet: a detector whose pyramid is fused in one pass, fine to coarse; then its levels meet.

FPN and its followers go from coarse to fine, and many a second time from fine to coarse. A reverse
pyramid takes one pass: each level joins its own map, the coarser one as the backbone gave it and
the finer one as it is finished,

    p_l = Fuse(c_l, up(c_{l+1}), down(p_{l-1}))

with weights that each picture says (w = sigmoid(v . means)) and a map that guides what is
enlarged. Then all levels are brought to one size, take a few channels of each other
(`CrossScaleShift`), and get a vector of the whole pyramid added (contexts).

    fusion   rcnet: all of it   revfp: the reverse pyramid alone   csn: levels that meet, on an FPN

Source: arXiv 2110.12130 and the code at github.com/TempleX98/RCNet, whose numbers are met to 1e-5.
Differs from the code: any number of levels; heads of RetinaNet, FCOS and ATSS in the place of
GFL's. The released models have deformable convolutions in every node of the pyramid, which improve
any neck; here that is `conv="deform"`, and plain ones are the default: a step
of training takes 1.7 times as long with the others on a CPU, and a comparison with a plain FPN does
not mix two ideas. `stackwise probe rcnet` shows the weights of each fusion and the guidance maps.
"""

from stackwise.build.rcnet.learner import RCNetDetector
from stackwise.build.rcnet.probe import fusions

__all__ = ["RCNetDetector", "fusions"]
