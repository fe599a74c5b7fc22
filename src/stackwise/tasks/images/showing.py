"""What a page shows of finished runs on pictures: which classes are taken for which, the scores of
each class, and the mistakes that the kept run was surest of.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stackwise.figures import WIDTH, drawing, shortened
from stackwise.findings import Findings
from stackwise.protocols import RunLike
from stackwise.tasks.labelled.classes_shown import kept_mistakes, shown_classes, with_mistakes

ACROSS = 4
PICTURE = "picture"
"""The column of a run's answers that holds pictures of its surest mistakes, as PNG."""


def with_pictures(answers: pd.DataFrame, pictures: Any) -> pd.DataFrame:
    """The answers with the pictures of the surest mistakes among them.

    Args:
        pictures: (n, C, H, W) bytes, a row of `answers` each.
    """
    return with_mistakes(answers, PICTURE, lambda place: as_png(pictures[place]))


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
    found = shown_classes(runs[0], "pictures")
    answers = runs[0].predictions_on("test")
    if PICTURE in answers and answers[PICTURE].notna().any():
        title = f"Mistakes that {runs[0].record['slug']} was surest of"
        found.figures[title] = _mistakes(answers)
        found.summary[title] = (
            "Under each test picture: the answer, how sure it was, and the truth."
        )
    return found


def _mistakes(answers: pd.DataFrame) -> Any:
    from matplotlib.figure import Figure
    from PIL import Image

    shown = kept_mistakes(answers, PICTURE)
    rows = -(-len(shown) // ACROSS)
    with drawing():
        size = (WIDTH / 72, WIDTH / 72 / ACROSS * 1.45 * rows)
        figure = Figure(figsize=size, dpi=72, layout="constrained")
        every = figure.subplots(rows, ACROSS, squeeze=False)
        for axes in every.flat:
            axes.axis("off")
        for axes, (_, answer) in zip(every.flat, shown.iterrows(), strict=False):
            picture = np.asarray(Image.open(io.BytesIO(answer[PICTURE])))
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            said, is_ = (shortened(str(answer[name]), 12) for name in ("prediction", "target"))
            confident = f" {answer['sure']:.0%}" if answer["sure"] <= 1 else ""
            axes.set_title(f"{said}{confident}\nis {is_}", fontsize=8)
    return figure
