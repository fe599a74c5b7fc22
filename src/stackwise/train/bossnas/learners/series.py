"""The search on series."""

from typing import Annotated, Any, ClassVar

from stackwise.catalog import Knob, learner
from stackwise.learning.labelled_estimator import held_out_knobs
from stackwise.learning.targets import class_knobs
from stackwise.tasks.series.estimators.estimator import series_knobs
from stackwise.tasks.series.estimators.learner import (
    SeriesClassifier,
    SeriesLearner,
    SeriesRegressor,
)
from stackwise.tasks.series.estimators.values import PaddedSeries
from stackwise.train.bossnas.learners.knobs import search_knobs
from stackwise.train.bossnas.learners.searching import CARD, Searching
from stackwise.train.bossnas.search.views import SeriesViews, Views
from stackwise.train.bossnas.spaces import OperationSpace, Space
from stackwise.training.knobs import training_knobs

SERIES: dict[str, Any] = CARD | {
    "training": {"lr": 1e-3, "schedule": "cosine", "patience": None, "max_epochs": 20},
    "presets": {
        "quick": {"width": 8, "blocks": 2, "layers": 1, "max_epochs": 4, "min_steps": 0,
                  "projection": 16, "hidden": 32, "places": 16},
        "standard": {},
        "best": {"width": 64, "layers": 4, "places": 128, "max_epochs": 60},
    },
}  # fmt: skip


def place_knobs(
    *,
    places: Annotated[
        int, Knob("moments that every series is brought to, over its own length", ge=2, le=4096)
    ] = 64,
) -> None:
    """How series of different length are brought to one."""


class SearchedSeries(Searching, SeriesLearner):
    """The space and the views of series."""

    places: int

    def build_space(self, features: PaddedSeries) -> Space:
        """Four operations over the places of series."""
        given = {"blocks": self.blocks, "layers": self.layers, "width": self.width}
        return OperationSpace(
            channels=len(self.channels_), size=[self.places],
            **{name: value for name, value in given.items() if value is not None},
        )  # fmt: skip

    def usual_views(self, features: PaddedSeries) -> Views:
        """Windows, louder or softer, with noise."""
        return SeriesViews()


@learner("bossnas", problem="classification", **SERIES)
class BossNASSeriesClassifier(SearchedSeries, SeriesClassifier):
    """Search the layers of a network on series without labels, and read a class off."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (
        search_knobs, place_knobs, held_out_knobs, series_knobs, class_knobs, training_knobs,
    )  # fmt: skip

    def __init__(self) -> None:
        """A search space on series."""


@learner("bossnas", problem="regression", **SERIES)
class BossNASSeriesRegressor(SearchedSeries, SeriesRegressor):
    """Search the layers of a network on series without labels, and read a number off."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (
        search_knobs, place_knobs, held_out_knobs, series_knobs, training_knobs,
    )  # fmt: skip

    def __init__(self) -> None:
        """A search space on series."""
