"""The search on tables."""

from typing import Any, ClassVar

from stackwise.catalog import learner
from stackwise.learning.labelled_estimator import held_out_knobs
from stackwise.learning.targets import class_knobs
from stackwise.tasks.table.estimators.estimator import table_knobs
from stackwise.tasks.table.estimators.learner import TableClassifier, TableLearner, TableRegressor
from stackwise.tasks.table.features.contract import TableArrays
from stackwise.train.bossnas.learners.knobs import search_knobs
from stackwise.train.bossnas.learners.searching import CARD, Searching
from stackwise.train.bossnas.search.views import RowViews, Views
from stackwise.train.bossnas.spaces import RowSpace, Space
from stackwise.training.knobs import training_knobs

TABLE: dict[str, Any] = CARD | {
    "training": {"lr": 1e-3, "schedule": "cosine", "patience": None, "max_epochs": 30},
    "presets": {
        "quick": {"width": 16, "blocks": 2, "layers": 1, "max_epochs": 5, "min_steps": 0,
                  "projection": 16, "hidden": 32},
        "standard": {},
        "best": {"width": 128, "blocks": 3, "layers": 3, "max_epochs": 100},
    },
}  # fmt: skip


class SearchedTable(Searching, TableLearner):
    """The space and the views of rows."""

    def build_space(self, features: TableArrays) -> Space:
        """Four operations on a stream of numbers."""
        given = {"blocks": self.blocks, "layers": self.layers, "width": self.width}
        return RowSpace(
            n_numeric=self.contract_.n_numeric, cardinalities=self.contract_.cardinalities,
            **{name: value for name, value in given.items() if value is not None},
        )  # fmt: skip

    def usual_views(self, features: TableArrays) -> Views:
        """Some values of other rows."""
        return RowViews()


@learner("bossnas", problem="classification", **TABLE)
class BossNASTableClassifier(SearchedTable, TableClassifier):
    """Search the layers of a network on rows of a table without labels, and read a class off."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (
        search_knobs, held_out_knobs, table_knobs, class_knobs, training_knobs,
    )  # fmt: skip

    def __init__(self) -> None:
        """A search space on rows."""


@learner("bossnas", problem="regression", **TABLE)
class BossNASTableRegressor(SearchedTable, TableRegressor):
    """Search the layers of a network on rows of a table without labels, and read a number off."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (
        search_knobs, held_out_knobs, table_knobs, training_knobs,
    )  # fmt: skip

    def __init__(self) -> None:
        """A search space on rows."""
