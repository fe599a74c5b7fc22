"""The baseline that looks at nothing: the most frequent answer to a kind of question."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from sklearn.utils.validation import check_is_fitted

from stackwise.catalog import baseline, task_card
from stackwise.learning.learner import Learner
from stackwise.protocols import Task
from stackwise.tasks.vqa.records import Asked, read_asked


@baseline("most-frequent-answer", title="The most frequent answer to a kind of question")
class MostFrequentAnswer(Learner):
    """Answer each kind of question with the answer that it had most often."""

    tasks: ClassVar[tuple[str, ...]] = ("vqa",)
    fitted: ClassVar[str] = "answers_"

    answers_: dict[str, str]

    def __init__(self) -> None: ...

    def fit(self, X: Any, y: Any = None) -> Self:
        """Count the answers of the training part; equal counts go to the first in the alphabet."""
        task: Any = X if isinstance(X, Task) else task_card(self.tasks[0]).load().of(X, y)
        self._begin()
        counted: dict[str, Counter[str]] = {}
        for one in task.part("train")[0]:
            counted.setdefault(one.kind, Counter())[one.answer] += 1
            counted.setdefault("", Counter())[one.answer] += 1
        self.answers_ = {
            kind: min(of, key=lambda answer: (-of[answer], answer)) for kind, of in counted.items()
        }
        return self

    def predict(self, X: Any) -> list[str]:
        """The answer to each question; of a kind that was not seen, that of all questions."""
        check_is_fitted(self, self.fitted)
        asked = X if isinstance(X, list) and X and isinstance(X[0], Asked) else (
            read_asked(X, answered=False)
        )  # fmt: skip
        return [self.answers_.get(one.kind, self.answers_[""]) for one in asked]

    def _write(self, folder: Path) -> dict[str, Any]:
        return {"answers": self.answers_}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        self.answers_ = dict(record["answers"])
