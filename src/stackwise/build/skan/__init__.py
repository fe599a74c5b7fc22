"""S-KAN: a Kolmogorov-Arnold network whose nodes choose the family of their learnable functions.

Every edge has a function of one number, and a layer adds them up; at first each is a mixture of
several families (splines, Gaussians, Chebyshev polynomials, wavelets, ...):

    y_j = b_j + sum_i [ sum_m g_{i,m} sum_b c^m_{jib} B^m_b(x_i) + w_{ji} silu(x_i) ]

In three phases the network learns with all families, commits each node to one, and goes on with
the others removed.

Source: arXiv 2408.08338. Differs from the paper: the fully connected part only, without
convolutions; its selection rule was not readable and is inferred (see `layer`); what stays is by
default the choice that does best on validation rows in a short race (`selection`), since the
largest gate chooses badly; the families differ as `bases` says.
"""

from stackwise.build.skan.bases import FAMILIES, basis
from stackwise.build.skan.edges import edge_values, skan_edges
from stackwise.build.skan.layer import PrunedKANLayer, SelectableKANLayer
from stackwise.build.skan.learner import OutsideRange, SKANClassifier, SKANRegressor
from stackwise.build.skan.network import SKAN

__all__ = [
    "FAMILIES", "SKAN", "OutsideRange", "PrunedKANLayer", "SKANClassifier", "SKANRegressor",
    "SelectableKANLayer", "basis", "edge_values", "skan_edges",
]  # fmt: skip
