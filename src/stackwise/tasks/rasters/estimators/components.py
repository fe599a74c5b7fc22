"""Principal components of scaled bands, as an encoder."""

from typing import Annotated

import numpy as np
import torch

from stackwise.catalog import Knob
from stackwise.tasks.rasters.estimators.pixel_network import Projection


def component_knobs(
    *,
    pca_variance: Annotated[
        float, Knob("share of the variance that components of PCA hold at least", gt=0, le=1)
    ] = 0.9,
    components: Annotated[
        int | None, Knob("components of PCA; none is as few as hold pca_variance", ge=1)
    ] = None,
) -> None:
    """How many components of PCA are kept."""


def enough(ratios: np.ndarray, share: float) -> int:
    """The smallest number of leading components whose shares add up to `share`; all where rounding
    keeps them below it.
    """
    reached = np.cumsum(ratios) >= share - 1e-12
    return int(np.argmax(reached)) + 1 if reached.any() else len(ratios)


def principal_components(scaled: np.ndarray, share: float, count: int | None) -> Projection:
    """The projection onto leading components of (n, bands) pixels, centred and not whitened."""
    from sklearn.decomposition import PCA

    found = PCA(svd_solver="covariance_eigh").fit(scaled.astype(np.float64))
    kept = min(count or enough(found.explained_variance_ratio_, share), len(found.components_))
    made = Projection(bands=scaled.shape[1], components=kept)
    made.mean.copy_(torch.from_numpy(found.mean_))
    made.weight.copy_(torch.from_numpy(found.components_[:kept]))
    return made
