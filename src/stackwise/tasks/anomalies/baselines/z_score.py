"""The baseline that looks at each channel alone: its squared distance from the normal mean, in
standard deviations.
"""

import numpy as np

from stackwise.catalog import baseline
from stackwise.tasks.anomalies.detectors.detector import Detector


@baseline("z-score", title="Squared z-scores of the channels")
class ZScoreDetector(Detector):
    """Score a moment by how many standard deviations its channels are from their means."""

    def __init__(self) -> None: ...

    def learn(self, stretches: list[np.ndarray]) -> None:
        """Mean and deviation are the scaling's."""

    def errors(self, values: np.ndarray) -> np.ndarray:
        """(T, n) -> (T, n) squared z-scores."""
        return values.astype(np.float64) ** 2
