"""TCNCA as estimators on series: of classes, and of numbers and forecasts."""

from typing import Annotated, Any, ClassVar, Literal

from torch import nn

from stackwise.build.tcnca.knobs import Ways, block_knobs, decays, sizes_of, told
from stackwise.build.tcnca.networks import TCNCASeries
from stackwise.catalog import Knob, learner
from stackwise.tasks.series.estimators.learner import (
    SeriesClassifier,
    SeriesLearner,
    SeriesRegressor,
    SeriesRows,
)

CARD: dict[str, Any] = {
    "title": "Dilated convolutions carry the range, attention mixes in chunks",
    "verb": "build",
    "paper": "2312.05605",
    "cost": "trains one network; a step grows with the length, not with its square",
    "verified": "tests/build/test_tcnca_parity.py",
}
TRAINING: dict[str, Any] = {
    "lr": 3e-3, "weight_decay": 0.01, "schedule": "cosine", "warmup": 0.1, "batch_size": 32,
    "max_epochs": 60, "patience": None,
}  # fmt: skip
PRESETS: dict[str, Any] = {
    "quick": {"width": 24, "blocks": 1, "max_epochs": 20},
    "standard": {},
    "best": {"width": 96, "blocks": 3, "max_epochs": 150, "dropout": 0.1},
}
Pooled = Annotated[
    Literal["mean", "last"], Knob("what the head reads: the mean of all moments, or the last one")
]


class TCNCALearner(SeriesLearner):
    """A `TCNCASeries` on series."""

    blocks: int
    direction: Ways
    pooling: Literal["mean", "last"]

    def build_network(self, rows: SeriesRows) -> nn.Module:
        """A network that sees the longest of the training series whole."""
        sizes = sizes_of(self, rows.length, self.direction)
        network = TCNCASeries(
            channels=rows.channels, n_outputs=rows.n_outputs, sizes=sizes, blocks=self.blocks,
            pooling=self.pooling,
        )  # fmt: skip
        cost = network.multiply_adds(rows.length)
        self.notes_ += told(sizes, self.blocks, rows.length, cost)
        return network

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Matrices and filters decay, rates and scales do not."""
        return decays(name, parameter)


@learner("tcnca", problem="classification", training=TRAINING, presets=PRESETS, **CARD)
class TCNCAClassifier(TCNCALearner, SeriesClassifier):
    """Classify series by dilated convolutions and attention inside chunks, joined by a gate."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (block_knobs, *SeriesClassifier.shared_knobs)

    def __init__(self, *, direction: Ways = "symmetric", pooling: Pooled = "mean") -> None:
        """Convolutions for the range, attention in chunks."""


@learner("tcnca", problem="regression", training=TRAINING, presets=PRESETS, **CARD)
class TCNCARegressor(TCNCALearner, SeriesRegressor):
    """Predict a number of series, or what they will be, by dilated convolutions and attention
    inside chunks.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (block_knobs, *SeriesRegressor.shared_knobs)

    def __init__(self, *, direction: Ways = "causal", pooling: Pooled = "last") -> None:
        """Convolutions for the range, attention in chunks."""
