"""The baseline of linear relations: what is left of a moment outside of the principal components of
the normal ones.

    e = (x - V V' x)^2
"""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np

from stackwise.catalog import Knob, baseline
from stackwise.tasks.anomalies.detectors.detector import Detector


@baseline("pca", title="Reconstruction from principal components")
class PCADetector(Detector):
    """Score a moment by its squared distance from the span of the principal components."""

    def __init__(
        self,
        *,
        components: Annotated[
            int, Knob("principal components, at most one less than channels", ge=1, search=(1, 8))
        ] = 3,
    ) -> None: ...

    def learn(self, stretches: list[np.ndarray]) -> None:
        """The components of the normal moments."""
        channels = stretches[0].shape[1]
        values = np.concatenate(stretches).astype(np.float64)
        self.center_ = values.mean(axis=0)
        centred = values - self.center_
        _, vectors = np.linalg.eigh(centred.T @ centred)
        count = min(self.components, max(channels - 1, 1))
        if count < self.components:
            self.notes_.append(f"components={self.components} is more than {count}, which is taken")
        # one channel has no other to be told from: its own distance is left
        self.vectors_ = vectors[:, -count:] if channels > 1 else np.zeros((1, 1))

    def errors(self, values: np.ndarray) -> np.ndarray:
        """(T, n) -> (T, n) squared residuals."""
        centred = values.astype(np.float64) - self.center_
        left = centred - (centred @ self.vectors_) @ self.vectors_.T
        return np.asarray(left**2)

    def kept(self) -> dict[str, Any]:
        """Centre and components."""
        return {"center": self.center_, "vectors": np.ascontiguousarray(self.vectors_)}

    def take_back(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of `kept`."""
        self.center_, self.vectors_ = arrays["center"], arrays["vectors"]
