"""What a page shows of finished runs on pictures: which classes are taken for which, the scores of
each class, and the mistakes that the kept run was surest of.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stackwise.figures import COLOURS, WIDTH, WINNER, drawing, new_figure, says, shortened
from stackwise.findings import Findings
from stackwise.protocols import RunLike

MOST_CLASSES = 26
"""Classes of a confusion matrix that can be read."""
MISTAKES = 12
ACROSS = 4
PICTURE = "picture"
"""The column of a run's answers that holds pictures of its surest mistakes, as PNG."""


def with_mistakes(answers: pd.DataFrame, pictures: Any) -> pd.DataFrame:
    """The answers with the pictures of the surest mistakes among them.

    Args:
        pictures: (n, C, H, W) bytes, a row of `answers` each.
    """
    kept = np.empty(len(answers), dtype=object)
    for place in surest_mistakes(answers):
        kept[place] = as_png(pictures[int(place)])
    return answers.assign(**{PICTURE: kept})


def surest_mistakes(answers: pd.DataFrame) -> np.ndarray:
    """Places of the wrong answers that were given with most confidence, the surest first."""
    wrong = np.flatnonzero((answers["prediction"] != answers["target"]).to_numpy())
    return wrong[np.argsort(-_sureness(answers)[wrong], kind="stable")][:MISTAKES]


def as_png(picture: np.ndarray) -> bytes:
    """(C, H, W) bytes as a PNG file."""
    from PIL import Image

    channels_last = picture[0] if len(picture) == 1 else np.moveaxis(picture, 0, -1)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(channels_last)).save(file, "PNG")
    return file.getvalue()


def shows(runs: Sequence[RunLike], data: Mapping[str, Any]) -> Findings:
    """What a page shows of finished runs, the run to keep first.

    Returns:
        Figures of the kept run and a table of its classes; the summary says under a figure's name
        how to read it.
    """
    if not runs:
        return Findings()
    kept = runs[0]
    answers = kept.predictions_on("test")
    method = kept.record["slug"]
    scores = by_class(answers)
    figures, summary = {}, {}
    title = f"What {method} takes for what"
    if len(scores) <= MOST_CLASSES:
        figures[title] = _confusion(answers)
        summary[title] = (
            "Test pictures by their class (down) and by the answer (across); right answers lie on "
            "the diagonal."
        )
    if PICTURE in answers and answers[PICTURE].notna().any():
        title = f"Mistakes that {method} was surest of"
        figures[title] = _mistakes(answers)
        summary[title] = "Under each test picture: the answer, how sure it was, and the truth."
    return Findings({"classes": scores}, figures, summary)


def by_class(answers: pd.DataFrame) -> pd.DataFrame:
    """Precision, recall, F1 and the number of test pictures of each class."""
    from sklearn.metrics import precision_recall_fscore_support

    truth, said = (answers[name].astype(str) for name in ("target", "prediction"))
    classes = sorted(set(truth) | set(said))
    precision, recall, f1, count = precision_recall_fscore_support(
        truth, said, labels=classes, zero_division=0
    )
    return pd.DataFrame(
        {"precision": precision, "recall": recall, "f1": f1, "pictures": count},
        index=pd.Index(classes, name="class"),
    )


def _confusion(answers: pd.DataFrame) -> Any:
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


def _mistakes(answers: pd.DataFrame) -> Any:
    from matplotlib.figure import Figure
    from PIL import Image

    shown = answers[answers[PICTURE].notna()]
    sure = pd.Series(_sureness(answers), index=answers.index)
    shown = shown.loc[sure[shown.index].sort_values(ascending=False, kind="stable").index]
    rows = -(-len(shown) // ACROSS)
    with drawing():
        size = (WIDTH / 72, WIDTH / 72 / ACROSS * 1.45 * rows)
        figure = Figure(figsize=size, dpi=72, layout="constrained")
        every = figure.subplots(rows, ACROSS, squeeze=False)
        for axes in every.flat:
            axes.axis("off")
        for axes, (place, answer) in zip(every.flat, shown.iterrows(), strict=False):
            picture = np.asarray(Image.open(io.BytesIO(answer[PICTURE])))
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            said, is_ = (shortened(str(answer[name]), 12) for name in ("prediction", "target"))
            confident = f" {sure[place]:.0%}" if sure[place] <= 1 else ""
            axes.set_title(f"{said}{confident}\nis {is_}", fontsize=8)
    return figure


def _sureness(answers: pd.DataFrame) -> np.ndarray:
    """(n,) the probability, or the margin, of the answer."""
    columns = [name for name in answers if str(name).startswith(("probability_", "margin_"))]
    if not columns:
        return np.zeros(len(answers))
    return np.asarray(answers[columns].to_numpy(float).max(1))
