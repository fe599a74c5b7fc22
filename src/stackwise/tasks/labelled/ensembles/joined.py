"""What learners that are made of other learners share: one answer, and a folder for each member."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stackwise.errors import ModelError
from stackwise.files import believing
from stackwise.learning.learner import FORMAT, UNSEALED, read_record, write_record
from stackwise.learning.targets import classes_of_json
from stackwise.models import load_learner
from stackwise.places import inside
from stackwise.seals import check_seal
from stackwise.tasks.labelled.answers import ask


class Joined:
    """Fitted learners that answer as one. Subclasses say how, in `_answer`.

    Attributes:
        members: the fitted learners, by the name of their folder.
        classes_: sorted, for classes alone.
        notes_: what a reader of the result should know.
    """

    members: dict[str, Any]
    notes_: list[str]

    def _answer(self, X: Any) -> np.ndarray:
        """(n,) values, or (n, C) probabilities or margins in the order of `classes_`."""
        raise NotImplementedError

    def predict(self, X: Any) -> np.ndarray:
        """(n,) values, or the most probable class of each row; of margins, that of the largest."""
        found = self._answer(X)
        return self.classes_[found.argmax(1)] if hasattr(self, "classes_") else found

    def __getattr__(self, name: str) -> Any:
        if name in ("predict_proba", "decision_function") and "classes_" in self.__dict__:
            first = next(iter(self.members.values()))
            if name == (
                "predict_proba" if hasattr(first, "predict_proba") else "decision_function"
            ):
                return self._answer
        raise AttributeError(f"a {type(self).__name__.lower()} learner has no {name!r}")

    @property
    def contract_(self) -> Any:
        """The columns as the first member reads them."""
        return next(iter(self.members.values())).contract_

    def _of(self, member: Any, X: Any) -> np.ndarray:
        """The answer of one member; classes that it never saw get probability 0, or its least
        margin of the row.
        """
        answers = ask(member, X)
        if not hasattr(self, "classes_"):
            return np.asarray(answers.prediction, dtype=np.float64)
        values = answers.margin if answers.probability is None else answers.probability
        if values is None:
            raise ModelError(
                f"a {type(member).__name__} gives labels alone, of which no mean can be taken"
            )
        unseen = values.min(axis=1, keepdims=True) if answers.probability is None else 0.0
        found = np.broadcast_to(unseen, (len(values), len(self.classes_))).astype(np.float64)
        found[:, np.searchsorted(self.classes_, member.classes_)] = values
        return found

    def _save_members(self, folder: Path, names: Iterable[str], **own: Any) -> None:
        """Write these members, each into a folder of its name, and the record of the whole."""
        for name in names:
            self.members[name].save(folder / name)
        classes = getattr(self, "classes_", None)
        record = {
            "format": FORMAT,
            "class": type(self).__name__,
            "members": list(self.members),
            "classes": None if classes is None else classes.tolist(),
            "dtype": None if classes is None else classes.dtype.str,
            "notes": self.notes_,
        }
        write_record(folder, record | own)

    def _read_members(self, folder: Path) -> Mapping[str, Any]:
        """Read back what `_save_members` wrote. Returns the record."""
        record = read_record(folder, type(self).__name__)
        with believing(folder / "model.json"):
            self.members = {name: load_learner(inside(folder, name)) for name in record["members"]}
            self.notes_ = record["notes"]
            if record["classes"] is not None:
                self.classes_ = classes_of_json(record["classes"], record["dtype"])
        check_seal(folder / "model.json", record, UNSEALED)
        return record
