"""The baseline of scikit-learn: an isolation forest on windows, a point each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch

from stackwise.catalog import Knob, baseline
from stackwise.tasks.anomalies.detectors.detector import Detector
from stackwise.tasks.anomalies.detectors.network import Window
from stackwise.tasks.anomalies.detectors.windows import windows_of
from stackwise.tasks.table.estimators.kept import packed_as_data, read_skops, write_skops


@baseline(
    "isolation-forest",
    title="Isolation forest on windows",
    presets={"quick": {"trees": 20, "window": 4}},
)
class IsolationForestDetector(Detector):
    """Score a window by how few random cuts set it apart from the normal ones."""

    tells_channels: ClassVar[bool] = False

    def __init__(
        self,
        *,
        window: Window = 10,
        trees: Annotated[int, Knob("trees of the forest", ge=1, search=(50, 300))] = 100,
        random_state: Annotated[int | None, Knob("the seed", ge=0)] = 0,
    ) -> None: ...

    def learn(self, stretches: list[np.ndarray]) -> None:
        """Grow the forest on the normal windows."""
        from sklearn.ensemble import IsolationForest

        points = np.concatenate([self._points(one) for one in stretches if len(one) >= self.window])
        self.estimator_ = IsolationForest(n_estimators=self.trees, random_state=self.seed_).fit(
            points
        )

    def errors(self, values: np.ndarray) -> np.ndarray:
        """(T, n) -> (T - window + 1, 1) the anomaly score of each window, 0 to 1."""
        return -self.estimator_.score_samples(self._points(values))[:, None]

    def _points(self, values: np.ndarray) -> np.ndarray:
        """(T, n) -> (T - window + 1, n * window)."""
        view = windows_of(torch.from_numpy(values), self.window)
        return view.reshape(len(view), -1).numpy()

    def _write(self, folder: Path) -> dict[str, Any]:
        write_skops(folder, packed_as_data("the forest", self.estimator_))
        return super()._write(folder)

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        self.estimator_ = read_skops(folder)
