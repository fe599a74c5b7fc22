"""The mapper: a scene's map from the codes of stacked autoencoders, of one, or of PCA."""

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from torch import nn

from stackwise.build.remote_sensing_sae.autoencoder import StackedAutoencoder
from stackwise.build.remote_sensing_sae.knobs import autoencoder_knobs, widths_of
from stackwise.catalog import Knob, learner
from stackwise.knobs import knobs_of
from stackwise.tasks.rasters.estimators.components import component_knobs, principal_components
from stackwise.tasks.rasters.estimators.mapper import Mapper, mapping_knobs


@learner(
    "remote-sensing-sae",
    title="A map without labels, by stacked autoencoders and k-means",
    paper="2404.02180",
    cost="trains three tiny networks, some minutes for 100,000 pixels; a map costs about as PCA's",
    presets={
        "quick": {"epochs": [4, 2, 2], "batch_size": 256, "lr": 4e-3, "fit_pixels": 20_000},
        "standard": {},
        "best": {"epochs": [30, 15, 15], "scale_stages": True},
    },
    names={
        "StackedAutoencoder": "stackwise.build.remote_sensing_sae.autoencoder:StackedAutoencoder",
    },
)
class SpectralMapper(Mapper):
    """Map a scene by k-means on what stacked autoencoders make of each pixel's spectrum."""

    budget: ClassVar[str | None] = "epochs"
    shared_knobs: ClassVar[tuple[Any, ...]] = (mapping_knobs, component_knobs, autoencoder_knobs)
    least_bands: ClassVar[int] = 2
    reduce: str
    history_: list[dict[str, Any]]

    def __init__(
        self,
        *,
        reduce: Annotated[
            Literal["sae", "ae", "pca"],
            Knob("the code: of stacked autoencoders, of the first alone, or of PCA"),
        ] = "sae",
    ) -> None:
        """How a pixel is encoded, how pixels become units, and how the networks learn."""

    def learn(self, scaled: np.ndarray) -> nn.Module:
        """The encoder: a `StackedEncoder`, or the projection of PCA."""
        self.history_ = []
        if self.reduce == "pca":
            return principal_components(scaled, self.pca_variance, self.components)
        made = self.coder().fit(scaled)
        self.history_ = made.history_
        self.notes_ += made.notes_
        return made.network_

    def coder(self) -> StackedAutoencoder:
        """The autoencoders as these knobs want them, for pixels that are scaled already."""
        given = {name: getattr(self, name) for name in knobs_of(autoencoder_knobs)}
        if self.reduce == "ae":
            given["stages"] = widths_of(self.stages)[:1]
            for name in ("epochs", "batch_size"):
                value = given[name]
                given[name] = value if isinstance(value, int) else list(value)[:1]
        return StackedAutoencoder(**given | {"scale": False, "random_state": self.seed_})
