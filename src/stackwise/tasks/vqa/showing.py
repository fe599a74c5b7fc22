"""What a page shows of finished runs: how each kind of question is answered, and test pictures with
their question, the answer and what was right.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stackwise.figures import WIDTH, drawing, shortened
from stackwise.findings import Findings
from stackwise.protocols import RunLike
from stackwise.tasks.images.reading.decode import BadPicture, decode
from stackwise.tasks.images.showing import as_png
from stackwise.tasks.vqa.records import Asked

ACROSS, EACH = 4, 4
"""Pictures in a row, and how many rightly and how many wrongly answered ones are kept."""
PICTURE = "picture"
MOST_PIXELS = 224
"""A side of a kept picture."""


def with_pictures(table: pd.DataFrame, asked: Sequence[Asked]) -> pd.DataFrame:
    """The answers with the pictures of the first that are wrong and the first that are right."""
    hits = table["value"].to_numpy() > 0
    chosen = [*np.flatnonzero(~hits)[:EACH], *np.flatnonzero(hits)[:EACH]]
    kept: list[bytes | None] = [None] * len(table)
    for place in chosen:
        kept[int(place)] = _png(asked[int(place)])
    return table.assign(**{PICTURE: pd.Series(kept, dtype=object, index=table.index)})


def shows(runs: Sequence[RunLike], data: Mapping[str, Any]) -> Findings:
    """A table of the kinds of questions, and a figure of answers, of the run to keep first."""
    if not runs:
        return Findings()
    answers = runs[0].predictions_on("test")
    found = Findings()
    kinds = answers.groupby("kind")
    found.tables["kinds of questions"] = pd.DataFrame({
        "questions": kinds.size(), "right": kinds["value"].mean(),
        "most frequent answer": kinds["answer"].agg(lambda told: told.mode().iloc[0]),
    })  # fmt: skip
    if PICTURE in answers and answers[PICTURE].notna().any():
        title = f"What {runs[0].record['slug']} answered"
        found.figures[title] = _drawn(answers[answers[PICTURE].notna()])
        found.summary[title] = (
            "Above each test picture: the question, the answer, and where that is wrong, what is "
            "right. The first wrong and the first right ones are shown."
        )
    return found


def _png(asked: Asked) -> bytes | None:
    from stackwise.tasks.vqa.estimators.views import stretched

    try:
        whole = decode(asked.picture, name=asked.name)
    except BadPicture:
        return None
    scale = min(1.0, MOST_PIXELS / max(whole.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in whole.shape[:2])
    return as_png(stretched(whole, height, width).numpy())


def _drawn(shown: pd.DataFrame) -> Any:
    from matplotlib.figure import Figure
    from PIL import Image

    shown = shown.sort_values("value", kind="stable")
    rows = -(-len(shown) // ACROSS)
    with drawing():
        size = (WIDTH / 72, WIDTH / 72 / ACROSS * 1.6 * rows)
        figure = Figure(figsize=size, dpi=72, layout="constrained")
        every = figure.subplots(rows, ACROSS, squeeze=False)
        for axes in every.flat:
            axes.axis("off")
        for axes, (_, one) in zip(every.flat, shown.iterrows(), strict=False):
            axes.imshow(np.asarray(Image.open(io.BytesIO(one[PICTURE]))), interpolation="nearest")
            lines = [shortened(str(one["question"]), 24), f"says {shortened(str(one['said']), 18)}"]
            if one["value"] <= 0:
                lines.append(f"is {shortened(str(one['answer']), 20)}")
            axes.set_title("\n".join(lines), fontsize=7)
    return figure
