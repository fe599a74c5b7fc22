"""The baselines of a map, with the same scaling, k-means and majority filter as the methods."""

from typing import Any, ClassVar

import numpy as np
from torch import nn

from stackwise.catalog import baseline
from stackwise.tasks.rasters.estimators.components import component_knobs, principal_components
from stackwise.tasks.rasters.estimators.mapper import Mapper, mapping_knobs, seed_knob
from stackwise.tasks.rasters.estimators.pixel_network import Bands


@baseline("k-means", title="k-means on the scaled bands")
class BandsMapper(Mapper):
    """Map a scene by k-means on its bands, each scaled to 0 to 1."""

    def __init__(self) -> None: ...

    def learn(self, scaled: np.ndarray) -> nn.Module:
        """Nothing: the bands are the code."""
        return Bands()


@baseline("pca-k-means", title="k-means on principal components")
class PCAMapper(Mapper):
    """Map a scene by k-means on the principal components of its scaled bands."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (component_knobs, mapping_knobs, seed_knob)
    least_bands: ClassVar[int] = 2
    pca_variance: float
    components: int | None

    def __init__(self) -> None: ...

    def learn(self, scaled: np.ndarray) -> nn.Module:
        """The components."""
        return principal_components(scaled, self.pca_variance, self.components)
