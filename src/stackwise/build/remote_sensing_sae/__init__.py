"""A map of rock units without labels: autoencoders stacked with skips, k-means, a majority filter.

Each pixel's spectrum x in R^D, scaled to 0 to 1, is compressed to two numbers by three autoencoders
that are trained one after the other, each frozen before the next, each seeing what went in before:

    AE1: D    -> 6 -> 4 -> 2 -> 4 -> 6 -> D                        on X1 = x
    AE2: 2D   -> 10 -> 5 -> 2 -> 5 -> 10 -> 2D                     on X2 = [AE1(X1), X1]
    AE3: 2D+5 -> 15 -> 10 -> 5 -> 2 -> 5 -> 10 -> 15 -> 2D+5       on X3 = [h2(X2), X2]

    L = 1/(B d) sum (x^ - x)^2  +  1e-4 sum over layers of 1/B sum over units |activation|

h2 is AE2's layer before its code; SELU everywhere, a sigmoid at the output. k-means parts AE3's
codes into units, and a majority filter of 7 x 7 pixels smooths the map. `reduce="ae"` is AE1 alone,
`"pca"` principal components of 90 % of the variance.

Source: arXiv 2404.02180; the concatenations are in the authors' code alone. Differs from it: pixels
without data are left out; networks and k-means learn from at most `fit_pixels` pixels, drawn by the
seed; the number of units is found by a rule (the point farthest below the chord of the inertia)
where the authors look at the curve; units are numbered from dark to bright; Adam's epsilon is added
as PyTorch has it. Not in the paper: `scale_stages`
brings what a stage reads to 0 to 1, which its sigmoid can reach; `joint_epochs` lets all stages
learn together at the end; `clip` cuts outliers before scaling.
"""

from stackwise.build.remote_sensing_sae.autoencoder import StackedAutoencoder
from stackwise.build.remote_sensing_sae.mapper import SpectralMapper
from stackwise.build.remote_sensing_sae.network import Autoencoder, StackedEncoder

__all__ = ["Autoencoder", "SpectralMapper", "StackedAutoencoder", "StackedEncoder"]
