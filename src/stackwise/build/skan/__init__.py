"""S-KAN: a Kolmogorov-Arnold network whose nodes choose the family of their learnable functions.

Every edge has a function of one number, and a layer adds them up; at first each is a mixture of
several families (splines, Gaussians, Chebyshev polynomials, wavelets, ...):

    y_j = b_j + sum_i [ sum_m g_{i,m} sum_b c^m_{jib} B^m_b(x_i) + w_{ji} silu(x_i) ]

In three phases the network learns with all families, commits each node to one, and goes on with
the others removed. On pictures the layer slides: a convolution with such a function at every tap.

Source: arXiv 2408.08338. Differs from the paper: its selection rule was not readable and is
inferred (see `gates`); what stays is by default the choice that does best on validation rows in a
short race (`selection`), since the largest gate chooses badly; the families differ as `bases` says.
"""

from stackwise.build.skan.bases import FAMILIES, basis
from stackwise.build.skan.convolution import PrunedKANConv2d, SelectableKANConv2d
from stackwise.build.skan.edges import edge_values, skan_edges
from stackwise.build.skan.layer import PrunedKANLayer, SelectableKANLayer
from stackwise.build.skan.learner import OutsideRange, SKANClassifier, SKANRegressor
from stackwise.build.skan.network import SKAN
from stackwise.build.skan.picture_learner import SConvKANClassifier
from stackwise.build.skan.picture_network import SConvKAN

__all__ = [
    "FAMILIES", "SKAN", "OutsideRange", "PrunedKANConv2d", "PrunedKANLayer", "SConvKAN",
    "SConvKANClassifier", "SKANClassifier", "SKANRegressor", "SelectableKANConv2d",
    "SelectableKANLayer", "basis", "edge_values", "skan_edges",
]  # fmt: skip
