"""What a page shows of answers that are classes: which are taken for which, the scores of each, and
the mistakes that were made with most confidence.
"""

from typing import Any

import numpy as np
import pandas as pd

from stackwise.figures import COLOURS, WINNER, drawing, new_figure, says, shortened
from stackwise.findings import Findings
from stackwise.protocols import RunLike

MOST_CLASSES = 26
"""Classes of a confusion matrix that can be read."""
MISTAKES = 12


def shown_classes(kept: RunLike, what: str) -> Findings:
    """The scores of each class, and a figure of which are taken for which where they are not too
    many; the summary says under its name how to read it.

    Args:
        what: samples are called, such as `pictures`.
    """
    answers = kept.predictions_on("test")
    scores = by_class(answers, what)
    figures, summary = {}, {}
    if len(scores) <= MOST_CLASSES:
        title = f"What {kept.record['slug']} takes for what"
        figures[title] = confusion(answers)
        summary[title] = (
            f"Test {what} by their class (down) and by the answer (across); right answers lie on "
            "the diagonal."
        )
    return Findings({"classes": scores}, figures, summary)


def with_mistakes(answers: pd.DataFrame, column: str, shown: Any) -> pd.DataFrame:
    """The answers with a column of what the surest mistakes among them were made on.

    Args:
        shown: place -> what is kept of the sample, such as a picture.
    """
    kept = np.empty(len(answers), dtype=object)
    for place in surest_mistakes(answers):
        kept[place] = shown(int(place))
    return answers.assign(**{column: kept})


def kept_mistakes(answers: pd.DataFrame, column: str) -> pd.DataFrame:
    """The rows of `with_mistakes` that have something, the surest first, and how sure each was as
    `sure`.
    """
    shown = answers[answers[column].notna()]
    sure = pd.Series(sureness(answers), index=answers.index)[shown.index]
    order = sure.sort_values(ascending=False, kind="stable").index
    return shown.assign(sure=sure).loc[order]


def surest_mistakes(answers: pd.DataFrame) -> np.ndarray:
    """Places of the wrong answers that were given with most confidence, the surest first."""
    wrong = np.flatnonzero((answers["prediction"] != answers["target"]).to_numpy())
    return wrong[np.argsort(-sureness(answers)[wrong], kind="stable")][:MISTAKES]


def by_class(answers: pd.DataFrame, what: str) -> pd.DataFrame:
    """Precision, recall, F1 and the number of test samples of each class.

    Args:
        what: samples are called, such as `pictures`.
    """
    from sklearn.metrics import precision_recall_fscore_support

    truth, said = (answers[name].astype(str) for name in ("target", "prediction"))
    classes = sorted(set(truth) | set(said))
    precision, recall, f1, count = precision_recall_fscore_support(
        truth, said, labels=classes, zero_division=0
    )
    return pd.DataFrame(
        {"precision": precision, "recall": recall, "f1": f1, what: count},
        index=pd.Index(classes, name="class"),
    )


def confusion(answers: pd.DataFrame) -> Any:
    """A figure of how many samples of each class were taken for each."""
    from sklearn.metrics import confusion_matrix

    truth, said = (answers[name].astype(str) for name in ("target", "prediction"))
    classes = sorted(set(truth) | set(said))
    counts = confusion_matrix(truth, said, labels=classes)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [shortened(name, 14) for name in classes]
    with drawing():
        figure, axes = new_figure(height=max(220, min(90 + 26 * len(classes), 620)))
        for row, of in enumerate(classes):
            for column, answer in enumerate(classes):
                if not counts[row, column]:
                    continue
                right = row == column
                strength = float(0.15 + 0.85 * share[row, column])
                (cell,) = axes.bar(
                    column, 0.96, 0.96, bottom=row - 0.48, alpha=strength,
                    color=WINNER if right else COLOURS[3],
                )  # fmt: skip
                says(cell, f"{of} taken for {answer}: {counts[row, column]:,}")
                if len(classes) <= 12:
                    axes.text(column, row, f"{counts[row, column]}", ha="center", va="center",
                              fontsize="small")  # fmt: skip
        axes.set_xlim(-0.5, len(classes) - 0.5)
        axes.set_ylim(len(classes) - 0.5, -0.5)
        axes.set_xticks(range(len(classes)), names, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(len(classes)), names)
        axes.set_xlabel("answer")
        axes.set_ylabel("class")
        axes.grid(False)
    return figure


def sureness(answers: pd.DataFrame) -> np.ndarray:
    """(n,) the probability, or the margin, of the answer."""
    columns = [name for name in answers if str(name).startswith(("probability_", "margin_"))]
    if not columns:
        return np.zeros(len(answers))
    return np.asarray(answers[columns].to_numpy(float).max(1))
