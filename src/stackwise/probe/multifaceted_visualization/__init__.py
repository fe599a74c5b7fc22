"""Which kinds of pictures excite a unit, and what does each kind look like?

A unit is rarely about one thing. Made from noise, the picture that excites it most mixes all of
them. So the pictures that excite it are parted into facets first, and one is made for each, begun
at the facet's mean image, which carries layout and colour into the right basin:

    facets     codes -> PCA -> t-SNE -> k-means                  facets.py
    start      x0 = the mean of the 15 nearest to a centre       facets.py
    ascent     x <- clip(x + s g / mean|g|), then TV denoising   maximise.py, smoothing.py

Source: "Multifaceted Feature Visualization" (arXiv 1602.03616). Differs from the paper: `mean` and
`centre` are the phases of the published code, and the default `steady` is ours: a fifth of their
steps, with crops of several sizes, a gradient that is blurred less and less and whose channels are
mixed as those of natural pictures; and the start is not let go of wholly. The denoising solves the
same problem from its dual. The layer that parts pictures is chosen by the silhouette, since the
last one of a well trained classifier no longer tells facets apart.
"""

from stackwise.probe.multifaceted_visualization.entry import multifaceted_visualization
from stackwise.probe.multifaceted_visualization.facets import Facets, find_facets, mean_images
from stackwise.probe.multifaceted_visualization.maximise import (
    CENTRE,
    MEAN,
    STEADY,
    Phase,
    maximise,
)
from stackwise.probe.multifaceted_visualization.smoothing import denoise, total_variation
from stackwise.probe.multifaceted_visualization.units import Unit, unit_of

__all__ = [
    "CENTRE", "MEAN", "STEADY", "Facets", "Phase", "Unit", "denoise", "find_facets", "maximise",
    "mean_images", "multifaceted_visualization", "total_variation", "unit_of",
]  # fmt: skip
