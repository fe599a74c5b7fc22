"""What a finished run said, in the order of the task's classes."""

from typing import Any, Literal

import numpy as np

from stackwise.runs import Run


def answers(run: Run, part: Literal["validation", "test"], task: Any) -> np.ndarray:
    """(n,) predicted numbers or (n, C) probabilities; 0 for a class that the run does not know."""
    table = run.predictions_on(part)
    if task.classes is None:
        return table["prediction"].to_numpy(dtype=np.float64)
    columns = [f"probability_{name}" for name in task.classes]
    return table.reindex(columns=columns, fill_value=0.0).to_numpy(dtype=np.float64)
