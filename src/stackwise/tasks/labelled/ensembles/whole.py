"""Fit a learner again on all rows but the test's, with the budget that validation rows chose.

What is joined has been chosen and weighed; the validation rows are then free to learn from.
"""

import inspect
from typing import Any

import numpy as np

from stackwise.tasks.labelled.rows import joined


def fitted_on_all(learner: Any, task: Any) -> Any | None:
    """A copy of a fitted learner, fitted on training and validation rows.

    Returns:
        None where it cannot be: it stops by validation rows in a way that no knob says.
    """
    knobs = getattr(learner, "whole_knobs", lambda: None)()
    if knobs is None:
        return None
    known = {name: value for name, value in knobs.items() if name in learner.get_params(deep=False)}
    made = type(learner)(**learner.get_params(deep=False) | known)
    (X, y), (Z, z) = task.part("train"), task.part("validation")
    wants = inspect.signature(made.fit).parameters
    told = {name: value for name, value in task.told(made).items() if name in wants}
    return made.fit(joined([X, Z]), np.concatenate([y, z]), **told)
