"""What boosting over many classes costs, said before it begins.

Each round grows one tree a class, so that a thousand classes and five hundred rounds are half a
million trees: hours, where ten classes take a minute.
"""

import warnings
from typing import Any

from stackwise.progress.words import spoken
from stackwise.training.session import current_session

MANY = 100
"""Classes from which on the cost is said."""
SECONDS_A_TREE = 3e-4
SECONDS_A_CELL = 7e-8
"""Of growing a tree on one core, measured with LightGBM and XGBoost on 1,000 and 4,000 rows of six
numbers and 50 and 200 classes; scikit-learn's took two to eight times as long."""


class ManyClasses(UserWarning):
    """Boosting over as many classes takes long."""


def say_cost(learner: Any, rows: int, features: int) -> None:
    """Note, and tell at once, what a boosted classifier may take; nothing where classes are few."""
    classes = len(learner.classes_) if learner._by_class else 0
    if classes < MANY:
        return
    trees = classes * learner.max_trees
    seconds = trees * (SECONDS_A_TREE + SECONDS_A_CELL * rows * features)
    said = (
        f"{classes:,} classes: each round of boosting grows a tree a class, up to {trees:,} trees "
        f"in {learner.max_trees:,} rounds, in the order of {spoken(seconds)} on one core if none "
        "stops it before; fewer rounds (max_trees), a time limit or a network cost less"
    )
    learner.notes_.append(said)
    on_event = current_session().on_event
    if on_event is None:
        warnings.warn(ManyClasses(said), stacklevel=2)
    else:
        on_event({"state": "note", "note": said})
