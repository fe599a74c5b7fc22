"""Base models by name: this library's learners, and three of scikit-learn's behind a table.

What is not a method of ours but cheap and unlike the others: nearest neighbours and two forests.
They read raw frames as the other learners do, with numbers, categories and gaps.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.utils.validation import check_is_fitted

from stackwise.catalog import cards
from stackwise.errors import KnobError, nearest
from stackwise.tasks.table.contract import TableArrays
from stackwise.tasks.table.estimator import Part
from stackwise.tasks.table.kept import SkopsLearner, computing_with
from stackwise.tasks.table.targets import ClassTarget, NumberTarget

DEFAULT = ("gradient-boosting", "linear", "neighbors", "forest", "extra-trees", "mlp")
SMALLER: dict[str, dict[str, Any]] = {
    "gradient-boosting": {"max_epochs": 200, "patience": 10},
    "mlp": {"width": 128, "max_epochs": 40, "patience": 8},
}
"""Knobs of named models in a stack, which fits each several times."""
NEIGHBOR_ROWS = 20_000
"""Nearest neighbours are looked for among at most this many rows."""


class ScikitTable(SkopsLearner):
    """A model of scikit-learn behind the columns of a table."""

    kind: ClassVar[str]
    trusted: ClassVar[list[str]] = [
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.tree._tree.Tree",
    ]

    def _contract_options(self) -> dict[str, Any]:
        return {"numeric": "standard"}

    def _fit_parts(self, train_part: Part, held: Part | None) -> None:
        rows = self._matrix(self.contract_.transform(train_part.frame))
        made = self._made(len(rows))
        with computing_with(self.threads):
            if self.kind == "neighbors":
                taken = np.random.default_rng(self.seed_).permutation(len(rows))[:NEIGHBOR_ROWS]
                taken.sort()
                self.estimator_ = made.fit(rows[taken], train_part.target[taken])
            else:
                self.estimator_ = made.fit(
                    rows, train_part.target, sample_weight=train_part.weight
                )  # fmt: skip

    def _made(self, rows: int) -> Any:
        if self.kind == "neighbors":
            build = KNeighborsClassifier if self._by_class else KNeighborsRegressor
            # a tree's answer to a row does not depend on the rows beside it; products would
            return build(min(10, rows), weights="distance", algorithm="kd_tree")
        builders = {
            ("forest", True): RandomForestClassifier, ("forest", False): RandomForestRegressor,
            ("extra-trees", True): ExtraTreesClassifier,
            ("extra-trees", False): ExtraTreesRegressor,
        }  # fmt: skip
        return builders[self.kind, self._by_class](
            self.max_epochs, min_samples_leaf=2, max_features=0.5, random_state=self.seed_
        )

    def _matrix(self, arrays: TableArrays) -> np.ndarray:
        """Numbers, then codes for trees; for distances each code as a column of its own."""
        if self.kind != "neighbors":
            return np.hstack([arrays.numeric.astype(np.float64), arrays.categorical])
        sizes = [min(size, 32) for size in self.contract_.cardinalities]
        hot = [
            (column[:, None] == np.arange(size)) * np.sqrt(0.5)
            for column, size in zip(arrays.categorical.T, sizes, strict=True)
        ]
        return np.hstack([arrays.numeric.astype(np.float64), *hot])


class _TableNumber(NumberTarget, ScikitTable):
    def __init__(
        self, *, max_epochs: int = 100, threads: int | None = None, random_state: int | None = 0
    ) -> None:
        self.max_epochs = max_epochs
        self.threads = threads
        self.random_state = random_state

    def predict(self, X: Any) -> np.ndarray:
        """(n,) float64 predictions."""
        check_is_fitted(self, "estimator_")
        with computing_with(self.threads):
            return np.asarray(self.estimator_.predict(self._matrix(self.transform_columns(X))))


class _TableClass(ClassTarget, ScikitTable):
    def __init__(
        self,
        *,
        max_epochs: int = 100,
        class_weight: Any = None,
        threads: int | None = None,
        random_state: int | None = 0,
    ) -> None:
        self.max_epochs = max_epochs
        self.class_weight = class_weight
        self.threads = threads
        self.random_state = random_state

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, C) probabilities, in the order of `classes_`."""
        check_is_fitted(self, "estimator_")
        with computing_with(self.threads):
            return np.asarray(
                self.estimator_.predict_proba(self._matrix(self.transform_columns(X)))
            )


class NeighborsTableRegressor(_TableNumber):
    """The mean of the ten nearest rows, by distance."""

    kind = "neighbors"


class ForestTableRegressor(_TableNumber):
    """A random forest of `max_epochs` trees."""

    kind = "forest"


class ExtraTreesTableRegressor(_TableNumber):
    """Extremely randomised trees, `max_epochs` of them."""

    kind = "extra-trees"


class NeighborsTableClassifier(_TableClass):
    """The classes of the ten nearest rows, by distance."""

    kind = "neighbors"


class ForestTableClassifier(_TableClass):
    """A random forest of `max_epochs` trees."""

    kind = "forest"


class ExtraTreesTableClassifier(_TableClass):
    """Extremely randomised trees, `max_epochs` of them."""

    kind = "extra-trees"


TABLES: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        NeighborsTableRegressor, ForestTableRegressor, ExtraTreesTableRegressor,
        NeighborsTableClassifier, ForestTableClassifier, ExtraTreesTableClassifier,
    )
}  # fmt: skip


def named_model(name: str, *, by_class: bool, seed: int, threads: int | None) -> Any:
    """The base model of this name, not fitted.

    Args:
        name: neighbors, forest or extra-trees; or the slug of any learner on tables.

    Raises:
        KnobError: there is no such model.
    """
    for cls in TABLES.values():
        if cls.kind == name and cls._by_class == by_class:  # type: ignore[attr-defined]
            return cls(random_state=seed, threads=threads)
    known = {
        slug: of for slug, of in cards().items() if "learner" in of.kinds and "table" in of.tasks
    }
    if name not in known:
        words = sorted({*known, *(cls.kind for cls in TABLES.values())})  # type: ignore[attr-defined]
        raise KnobError(f"there is no base model {name!r}.{nearest(name, words)}")
    entry = known[name].entry("learner", "classification" if by_class else "regression")
    shared = {"random_state": seed, "threads": threads}
    return entry.load()(
        **SMALLER.get(name, {}) | {key: v for key, v in shared.items() if key in entry.knobs}
    )


def base_models(
    estimators: Sequence[Any] | None, *, by_class: bool, seed: int, threads: int | None
) -> dict[str, Any]:
    """The base models of a stack by name, not fitted (or as they are).

    Args:
        estimators: (name, estimator) pairs, names of models, or both; None is `DEFAULT`. A pair
            whose estimator is "drop" is left out.

    Raises:
        KnobError: the list is empty, holds something else, or one name twice.
    """
    if estimators is not None and (isinstance(estimators, str) or not len(estimators)):
        raise KnobError(
            f"estimators must be a list of (name, estimator) pairs or names, not {estimators!r}"
        )
    found: dict[str, Any] = {}
    for item in DEFAULT if estimators is None else estimators:
        if isinstance(item, str):
            name, model = item, named_model(item, by_class=by_class, seed=seed, threads=threads)
        elif isinstance(item, (tuple, list)) and len(item) == 2 and isinstance(item[0], str):
            name, model = item
            if isinstance(model, str) and model != "drop":
                model = named_model(model, by_class=by_class, seed=seed, threads=threads)
        else:
            raise KnobError(f"estimators holds {item!r}, which is no (name, estimator) pair")
        if name in found:
            raise KnobError(f"two estimators are called {name!r}; give each its own name")
        if model == "drop" if isinstance(model, str) else False:
            continue
        if not hasattr(model, "predict") or isinstance(model, type):
            raise KnobError(f"the estimator {name!r} is {model!r}, which does not predict")
        found[name] = model
    if not found:
        raise KnobError("all estimators are dropped; at least one must stay")
    return found
