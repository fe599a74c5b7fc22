"""Fitted learners joined by a stacking model: it holds those that it needs, and predicts by itself.

Nothing is trained here; `stackwise.studies.stacking` makes one from the runs of a comparison.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from stackwise.combine.regularized_meta_learning import StackedPredictions
from stackwise.tasks.table.joined import Joined

STACK = "stack.json"


class Stacked(Joined):
    """Fitted learners and the model that joins their predictions, `joined`."""

    def __init__(
        self,
        members: Mapping[str, Any],
        joined: StackedPredictions,
        classes: np.ndarray | None = None,
        notes: list[str] | None = None,
    ) -> None:
        """Join `members`, whose names are those that `joined` has learned on."""
        self.members = dict(members)
        self.joined = joined
        self.notes_ = notes or []
        if classes is not None:
            self.classes_ = classes

    def _answer(self, X: Any) -> np.ndarray:
        found = {name: self._of(member, X) for name, member in self.members.items()}
        ask = self.joined.predict_proba if hasattr(self, "classes_") else self.joined.predict
        return ask(found)

    def save(self, folder: Path | str) -> None:
        """Write the members, each in a folder of its own, and what joins them."""
        folder = Path(folder)
        self.joined.save(folder / STACK)
        self._save_members(folder, self.members)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read back what `save` wrote."""
        made = cls({}, StackedPredictions.load(Path(folder) / STACK))
        made._read_members(Path(folder))
        return made
