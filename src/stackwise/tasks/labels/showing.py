"""What a page shows of finished runs on texts: which classes are taken for which, the scores of
each, and the mistakes that the kept run was surest of, as texts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from stackwise.figures import shortened
from stackwise.findings import Findings
from stackwise.protocols import RunLike
from stackwise.tasks.labelled.classes_shown import kept_mistakes, shown_classes, with_mistakes

TEXT = "text"
"""The column of a run's answers that holds the texts of its surest mistakes."""
LONGEST = 200
"""Letters of a text that are shown."""


def with_texts(answers: pd.DataFrame, texts: Any) -> pd.DataFrame:
    """The answers with the texts of the surest mistakes among them.

    Args:
        texts: (n,), a row of `answers` each.
    """
    return with_mistakes(answers, TEXT, lambda place: shortened(str(texts[place]), LONGEST))


def shows(runs: Sequence[RunLike], data: Mapping[str, Any]) -> Findings:
    """What a page shows of finished runs, the run to keep first.

    Returns:
        A table of the classes and one of mistakes, and a figure of what is taken for what.
    """
    if not runs:
        return Findings()
    found = shown_classes(runs[0], "texts")
    answers = runs[0].predictions_on("test")
    if TEXT in answers and answers[TEXT].notna().any():
        shown = kept_mistakes(answers, TEXT)
        found.tables["surest mistakes"] = pd.DataFrame({
            "answer": shown["prediction"].astype(str), "is": shown["target"].astype(str),
            "sure": shown["sure"],
        }).set_index(pd.Index(shown[TEXT], name=TEXT))  # fmt: skip
    return found
