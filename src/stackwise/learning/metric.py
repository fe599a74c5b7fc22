"""What a score is: its name, whether less or more of it is better, what it reads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Problem = Literal["regression", "binary", "multiclass"]


@dataclass(frozen=True)
class Metric:
    """A score.

    Attributes:
        name: under which it is recorded.
        mode: `min` where less is better, `max` where more is.
        needs_probability: it reads class probabilities (n, classes) in place of predictions.
        function: (target (n,), prediction) -> float. With probabilities the target is class
            numbers 0 .. classes - 1.
    """

    name: str
    mode: Literal["min", "max"]
    needs_probability: bool = False
    function: Callable[[np.ndarray, np.ndarray], float] | None = None
