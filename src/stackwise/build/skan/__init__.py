"""Selectable Kolmogorov-Arnold layers: each node chooses the family of its learnable functions.

    y_j = sum_i [ sum_m g_{i,m} phi^m_{ji}(x_i) + w_{ji} silu(x_i) ]

Source: arXiv 2408.08338. Differs from the paper: see `layer` and `bases`; the fully connected part
only, without convolutions.
"""

from stackwise.build.skan.bases import FAMILIES, basis
from stackwise.build.skan.layer import PrunedKANLayer, SelectableKANLayer
from stackwise.build.skan.network import SKAN

__all__ = ["FAMILIES", "SKAN", "PrunedKANLayer", "SelectableKANLayer", "basis"]
