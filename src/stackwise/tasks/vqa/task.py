"""The task of questions about pictures: read a picture and a question, write the answer.

    task = VQATask.load("questions.jsonl")
    task.judge(learner, "test").scores["exact_match"]

Questions about one picture stay in one part. What decides is the share of answers that are right
word for word, but for case, spaces and a last full stop; each kind of question has a score too.
"""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pandas as pd
import torch
import xxhash
from torch import Tensor, nn

from stackwise.catalog import Knob, task
from stackwise.errors import DataError
from stackwise.findings import Findings
from stackwise.learning.metrics import Metric
from stackwise.marks import is_path
from stackwise.protocols import Judged, Part, RunLike
from stackwise.tasks.instructions.encode import IGNORED
from stackwise.tasks.language.task import PartedTask
from stackwise.tasks.language.writing import write_lines
from stackwise.tasks.table.loading import title_of
from stackwise.tasks.vqa import showing
from stackwise.tasks.vqa.estimators.answering import WithoutPicture
from stackwise.tasks.vqa.marks import recognises
from stackwise.tasks.vqa.records import PARTS, Asked, group_of, read_asked
from stackwise.tasks.vqa.scoring import right, scores_of
from stackwise.tasks.vqa.small import small_questions


@task(
    title="Questions about pictures",
    recognises=recognises,
    sample="letters/questions.jsonl",
)
class VQATask(PartedTask):
    """Questions about pictures, parted by picture.

    Attributes:
        asked: all of them.
    """

    name: ClassVar[str] = "vqa"
    target: ClassVar[str] = "the answer"
    problem: ClassVar[str] = "visual question answering"
    metric: ClassVar[Metric] = Metric("exact_match", "max")

    asked: list[Asked]

    @classmethod
    def load(
        cls,
        source: Any,
        *,
        image_field: Annotated[
            str | None, Knob("the field of the picture; image, picture, image_path, ... by itself")
        ] = None,
        question: Annotated[str, Knob("the field of the question")] = "question",
        answer: Annotated[str, Knob("the field of the right answer")] = "answer",
        kind: Annotated[
            str, Knob("the field of the kind of question, where there is one")
        ] = "kind",
        validation: Annotated[float, Knob("share of the pictures", gt=0, lt=0.5)] = 0.1,
        test: Annotated[float, Knob("share of the pictures", gt=0, lt=0.9)] = 0.2,
        split_seed: Annotated[int, Knob("of the split", ge=0)] = 0,
    ) -> "VQATask":
        """Read questions and part them by their pictures.

        Args:
            source: a list, a frame, a file of records (.jsonl, .json, .csv, .parquet and others), a
                folder that `datasets` saved, or a named set. Paths of pictures begin at the file.

        Raises:
            DataError: a question cannot be used; the sentence says which and why.
        """
        made = cls()
        made.asked = read_asked(
            source, image=image_field, question=question, answer=answer, kind=kind
        )
        made._part_pictures(validation, test, split_seed)
        count = len(made.asked)
        made.title = title_of(source) if is_path(source) else f"{count} questions"
        given = {
            "image_field": image_field, "question": question, "answer": answer, "kind": kind,
            "validation": validation, "test": test, "split_seed": split_seed,
        }  # fmt: skip
        made.options = {key: value for key, value in given.items() if value is not None}
        kinds = Counter(one.kind for one in made.asked)
        pictures = len({one.key for one in made.asked})
        named = ", ".join(f"{name} ({many:,})" for name, many in kinds.most_common(8))
        made.notes = [f"{count:,} questions about {pictures:,} pictures; kinds: {named}"]
        made.data_hash = made._hash()
        return made

    @classmethod
    def of(cls, X: Any, y: Any = None) -> "VQATask":
        """The task of questions in memory: nothing is held out for the test.

        Args:
            X: records, or what `load` takes. y: answers, where the records have none.

        Raises:
            DataError: there are none, or the answers are of another number.
        """
        if y is None:
            return cls.load(X)
        if len(X) != len(y):
            raise DataError(f"there are {len(X)} questions and {len(y)} answers; give one each")
        asked = read_asked(X, answered=False)
        records = [
            {"image": one.picture, "question": one.question, "answer": str(told), "kind": one.kind}
            for one, told in zip(asked, y, strict=True)
        ]
        return cls.load(records)

    def _part_pictures(self, validation: float, test: float, seed: int) -> None:
        """Draw the pictures of each part, unless the records say it."""
        if self.asked[0].part is not None:
            said = np.array([one.part for one in self.asked])
            self._rows = {part: np.flatnonzero(said == part) for part in PARTS}
            empty = next((part for part in PARTS if not len(self._rows[part])), None)
            if empty is not None:
                raise DataError(f"no question is of the part {empty!r}; give it some, or no parts")
            return
        groups = group_of(self.asked)
        self._part(int(groups.max()) + 1, validation, test, seed, "pictures")
        parted = {part: np.isin(groups, rows) for part, rows in self._rows.items()}
        self._rows = {part: np.flatnonzero(inside) for part, inside in parted.items()}

    def _hash(self) -> str:
        told = xxhash.xxh3_64()
        seen: set[str] = set()
        for one in self.asked:
            if one.key not in seen:
                seen.add(one.key)
                told.update(_bytes_of(one))
            told.update(json.dumps([one.question, one.answer, one.kind]).encode())
        for rows in self._rows.values():
            told.update(rows.tobytes())
        return told.hexdigest()

    @property
    def size_bytes(self) -> int:
        """Bytes of the text and of pictures in memory."""
        held = {one.key: one.picture for one in self.asked}.values()
        pictures = sum(one.nbytes if isinstance(one, np.ndarray) else 0 for one in held)
        return pictures + sum(len(one.question) + len(one.answer) for one in self.asked)

    def part(self, part: Part) -> tuple[list[Asked], list[str]]:
        """The questions of a part and their answers."""
        found = [self.asked[row] for row in self.rows_of(part)]
        return found, [one.answer for one in found]

    def batches(
        self, part: Part, *, model: Any = None, batch_size: int | None = None, seed: int = 0
    ) -> Any:
        """The questions of a part as `model` reads them: a learner, which knows how it sees
        pictures and cuts texts.

        Raises:
            DataError: the model does not read pictures and questions.
        """
        if not hasattr(model, "questions"):
            raise DataError(
                f"a {type(model).__name__} does not say how it reads a picture and a question; "
                "give a learner of this task"
            )
        return model.questions(self.part(part)[0], batch_size=batch_size, seed=seed)

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Mean of -log p over the answers' tokens, end tokens included."""
        inputs = {name: one for name, one in batch.items() if name not in ("labels", "scale")}
        logits = model(**inputs)[:, :-1].float()
        labels = batch["labels"][:, batch["labels"].shape[1] - logits.shape[1] :]
        tokens = nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
        )
        return (tokens.view(labels.shape).sum(1) * batch["scale"]).mean()

    @torch.no_grad()
    def judge(self, learner: Any, part: Part) -> Judged:
        """Let a fitted learner answer the questions of a part, or a language model that sees no
        picture; some test pictures are kept.
        """
        asked, answers = self.part(part)
        if not hasattr(learner, "predict"):
            learner = WithoutPicture(learner)
        began = time.perf_counter()
        said = list(learner.predict(asked))
        seconds = time.perf_counter() - began
        hits = right(asked, said)
        table = pd.DataFrame({
            "row": [one.row for one in asked], "value": hits.astype(float), "weight": 1.0,
            "kind": [one.kind for one in asked], "question": [one.question for one in asked],
            "said": said, "answer": answers,
        })  # fmt: skip
        if part == "test":
            table = showing.with_pictures(table, asked)
        return Judged(scores_of(asked, hits), table, seconds)

    @classmethod
    def shows(cls, runs: Sequence[RunLike], data: Mapping[str, Any]) -> Findings:
        """Kinds of questions, and pictures with answers; see `stackwise.tasks.vqa.showing`."""
        return showing.shows(runs, data)

    @staticmethod
    def write_predictions(
        path: Path | str,
        learner: Any,
        source: Any,
        *,
        image_field: Annotated[
            str | None, Knob("the field of the picture; image, picture, image_path, ... by itself")
        ] = None,
        question: Annotated[str, Knob("the field of the question")] = "question",
        kind: Annotated[
            str, Knob("the field of the kind of question, where there is one")
        ] = "kind",
    ) -> int:
        """Answer the questions of a source: a line of JSON each, `image`, `question`, `said`."""
        asked = read_asked(source, image=image_field, question=question, kind=kind, answered=False)
        said = learner.predict(asked)
        return write_lines(path, (
            {"image": one.name, "question": one.question, "said": told}
            for one, told in zip(asked, said, strict=True)
        ))  # fmt: skip

    @classmethod
    def small(cls) -> "VQATask":
        """30 questions about 15 pictures."""
        return cls.load(small_questions(), test=0.3)


def _bytes_of(asked: Asked) -> bytes:
    """A picture's own bytes, and of an array its shape too.

    Raises:
        DataError: its file cannot be read.
    """
    held = asked.picture
    if isinstance(held, np.ndarray):
        return str(held.shape).encode() + np.ascontiguousarray(held).tobytes()
    if isinstance(held, bytes):
        return held
    try:
        return held.read_bytes()
    except OSError as error:
        why = error.strerror or "it cannot be read"
        raise DataError(f"the picture {held} of question {asked.row + 1}: {why}") from error
