"""What the tasks on language do alike: fit a learner on themselves, keep weighted samples."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


class LanguageTask:
    """The part of the task protocol that text, chats and questions share."""

    def fit(self, learner: Any) -> Any:
        """Fit a learner on the training part; what is held out says when to stop."""
        return learner.fit(self)

    def resampled(self, run: Any) -> tuple[int, Callable[[np.ndarray], float]]:
        """The samples of a finished run's test part, and the weighted mean of any of them."""
        table = run.predictions
        value, weight = table["value"].to_numpy(), table["weight"].to_numpy()
        return len(table), lambda rows: float(np.average(value[rows], weights=weight[rows]))

    def importance(self, learner: Any) -> list[dict[str, Any]]:
        """Language has no columns."""
        return []

    def write_predictions(self, path: Path | str, learner: Any, source: Any) -> int:
        """Answer the prompts of a file; see `LanguageLearner.write_predictions`."""
        return int(learner.write_predictions(path, source))
