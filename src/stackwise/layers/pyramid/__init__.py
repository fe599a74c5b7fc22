"""Feature pyramids: lists of maps (B, C, H_l, W_l), fine to coarse, and what fuses them.

A backbone gives maps of strides 8, 16, 32, ...; `Laterals` brings them to one number of channels
and adds coarser levels. A neck lets the levels exchange what they saw:

    Laterals    each level for itself
    FPN         coarse to fine                                              arXiv 1612.03144
    PAN         coarse to fine, then fine to coarse                         arXiv 1803.01534
    RCNet       fine to coarse in one pass, then all levels at one size     arXiv 2110.12130

These are made as `Neck(in_channels, channels, levels)` and called with the list of the backbone's
maps; they return a new list of `levels` maps and leave the given one as it was. Level l + 1 has
half the sides of level l, rounded up, so that odd sizes fit.

`PConv`, `SEPC` (arXiv 2005.03101) and `RevFP` stand behind laterals or a neck: levels of one number
of channels go in and come out.
"""

from stackwise.layers.pyramid.fpn import FPN
from stackwise.layers.pyramid.laterals import Laterals
from stackwise.layers.pyramid.pan import PAN
from stackwise.layers.pyramid.reverse.contexts import ScaleContext, SpatialContext
from stackwise.layers.pyramid.reverse.cross_scale_shift import CrossScaleShift
from stackwise.layers.pyramid.reverse.fusion_node import FusionNode
from stackwise.layers.pyramid.reverse.rcnet import RCNet
from stackwise.layers.pyramid.reverse.revfp import RevFP
from stackwise.layers.pyramid.scale_equalizing.integrated_norm import IntegratedBatchNorm
from stackwise.layers.pyramid.scale_equalizing.pconv import PConv, ScaleEqualConv2d
from stackwise.layers.pyramid.scale_equalizing.sepc import SEPC

__all__ = [
    "FPN",
    "PAN",
    "SEPC",
    "CrossScaleShift",
    "FusionNode",
    "IntegratedBatchNorm",
    "Laterals",
    "PConv",
    "RCNet",
    "RevFP",
    "ScaleContext",
    "ScaleEqualConv2d",
    "SpatialContext",
]
