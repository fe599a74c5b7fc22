"""Base models of a stack: estimators of the user's, or learners of the catalog by their names."""

from collections.abc import Sequence
from typing import Any

from stackwise.catalog import cards
from stackwise.errors import KnobError, nearest

DEFAULT = ("gradient-boosting", "linear", "mlp")
SMALLER: dict[str, dict[str, Any]] = {
    "gradient-boosting": {"max_trees": 200, "patience": 10},
    "mlp": {"width": 128, "max_epochs": 40, "patience": 8},
}
"""Knobs of named models in a stack, which fits each several times."""


def base_models(
    estimators: Sequence[Any] | None, *, by_class: bool, seed: int, threads: int | None
) -> dict[str, Any]:
    """The base models of a stack by name, not fitted (or as they are).

    Args:
        estimators: (name, estimator) pairs, names of models, or both; None is `DEFAULT`. A pair
            whose estimator is "drop" is left out.

    Raises:
        KnobError: the list is empty, holds something else, an unknown name, or one name twice.
    """
    if estimators is not None and (isinstance(estimators, str) or not len(estimators)):
        raise KnobError(
            f"estimators must be a list of (name, estimator) pairs or names, not {estimators!r}"
        )
    known = {
        slug: of for slug, of in cards().items() if "learner" in of.kinds and "table" in of.tasks
    }
    shared = {"random_state": seed, "threads": threads}
    found: dict[str, Any] = {}
    for item in DEFAULT if estimators is None else estimators:
        pair = (item, item) if isinstance(item, str) else item
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and isinstance(pair[0], str)):
            raise KnobError(f"estimators holds {item!r}, which is no (name, estimator) pair")
        name, model = pair
        if name in found:
            raise KnobError(f"two estimators are called {name!r}; give each its own name")
        if isinstance(model, str):
            if model == "drop":
                continue
            if model not in known:
                raise KnobError(f"there is no base model {model!r}.{nearest(model, known)}")
            entry = known[model].entry("learner", "classification" if by_class else "regression")
            own = {key: value for key, value in shared.items() if key in entry.knobs}
            model = entry.load()(**SMALLER.get(model, {}) | own)
        if not hasattr(model, "predict") or isinstance(model, type):
            raise KnobError(f"the estimator {name!r} is {model!r}, which does not predict")
        found[name] = model
    if not found:
        raise KnobError("all estimators are dropped; at least one must stay")
    return found
