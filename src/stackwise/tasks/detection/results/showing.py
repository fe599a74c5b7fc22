"""What a page shows of finished runs on annotated pictures: found, missed and wrong boxes on some
test pictures, precision and recall of each class, and how sure right and wrong answers are.
"""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stackwise.figures import WIDTH, drawing, legend_below, new_figure, says, shortened
from stackwise.findings import Findings
from stackwise.protocols import RunLike
from stackwise.tasks.detection.boxes import Answer, Boxes
from stackwise.tasks.detection.reading.scenes import Scenes
from stackwise.tasks.detection.results.matching import matched
from stackwise.tasks.labelled.found import objects

TRUE, SAID, PICTURE = "objects", "found", "picture"
"""Columns of a run's answers: JSON lists of [x1, y1, x2, y2, label, crowd] and of [x1, y1, x2, y2,
label, score]; and some of the pictures, as PNG."""
SHOWN = 8
ACROSS = 2
LARGEST = 320
"""Pixels of the longer side of a picture that is kept."""
HALF = np.array([0.5])
MARKS = {"found": "#059669", "missed": "#d97706", "wrong": "#dc2626"}


def with_boxes(
    samples: pd.DataFrame, truth: Sequence[Boxes], found: Sequence[Answer]
) -> pd.DataFrame:
    """The samples with the boxes that each picture has, and those that were found."""
    there = [
        json.dumps([[*_rounded(box), str(label), int(crowd)] for box, label, crowd in zip(*one)])
        for one in truth
    ]
    said = [
        json.dumps([
            [*_rounded(box), str(label), round(float(score), 5)] for box, score, label in zip(*one)
        ])
        for one in found
    ]  # fmt: skip
    return samples.assign(**{TRUE: there, SAID: said})


def boxes_in(samples: pd.DataFrame) -> tuple[list[Boxes], list[Answer]]:
    """The inverse of `with_boxes`."""
    truth = []
    for rows in map(json.loads, samples[TRUE]):
        crowd = np.array([bool(row[5]) for row in rows], bool)
        truth.append(Boxes(_array(rows), objects(str(row[4]) for row in rows), crowd))
    found = []
    for rows in map(json.loads, samples[SAID]):
        scores = np.array([row[5] for row in rows], np.float32)
        found.append(Answer(_array(rows), scores, objects(str(row[4]) for row in rows)))
    return truth, found


def with_pictures(
    samples: pd.DataFrame, scenes: Scenes, truth: Sequence[Boxes], found: Sequence[Answer]
) -> pd.DataFrame:
    """The samples with some of their pictures: half evenly over all, half with most mistakes."""
    mistakes = []
    for one, other in zip(truth, found, strict=True):
        sure = _above(other, best_threshold(truth, found))
        match = matched(one, sure, HALF)
        mistakes.append((~match.found[0] & ~one.crowd).sum() + (~match.right[0]).sum())
    evenly = np.linspace(0, len(scenes) - 1, SHOWN // 2).round().astype(int).tolist()
    worst = np.argsort(-np.array(mistakes), kind="stable").tolist()
    shown = list(dict.fromkeys([*evenly, *worst]))[:SHOWN]
    pictures = [_png(scenes[row]) if row in shown else None for row in range(len(scenes))]
    return samples.assign(**{PICTURE: objects(pictures)})


def shows(runs: Sequence[RunLike], data: Mapping[str, Any]) -> Findings:
    """What a page shows of finished runs, the run to keep first."""
    if not runs:
        return Findings()
    answers = runs[0].predictions_on("test")
    if TRUE not in answers:
        return Findings()
    truth, found = boxes_in(answers)
    least = best_threshold(truth, found)
    made = Findings({"classes": by_class(truth, found, least)})
    title = f"What {runs[0].record['slug']} found"
    if PICTURE in answers and answers[PICTURE].notna().any():
        made.figures[title] = _pictures(answers, truth, found, least)
        made.summary[title] = (
            "Test pictures: green boxes are objects that were found, orange ones were missed, red "
            f"ones are answers without an object (IoU 0.5; answers with a score of at least "
            f"{least:.2f}, where precision and recall balance best)."
        )
    sure = "How sure right and wrong boxes are"
    made.figures[sure] = _sureness(truth, found)
    made.summary[sure] = "Boxes found in test pictures by their score, at IoU 0.5."
    return made


def by_class(truth: Sequence[Boxes], found: Sequence[Answer], least: float) -> pd.DataFrame:
    """Precision and recall of each class at IoU 0.5, of answers at least so sure."""
    counts: dict[str, list[int]] = {}
    for one, other in zip(truth, found, strict=True):
        sure = _above(other, least)
        match = matched(one, sure, HALF)
        for label, hit, crowd in zip(one.labels, match.found[0], one.crowd):
            if not crowd:
                own = counts.setdefault(str(label), [0, 0, 0, 0])
                own[0] += 1
                own[1] += int(hit)
        for label, right, ignored in zip(sure.labels, match.right[0], match.ignored[0]):
            if not ignored:
                own = counts.setdefault(str(label), [0, 0, 0, 0])
                own[2] += 1
                own[3] += int(right)
    names = sorted(counts)
    rows = [counts[name] for name in names]
    return pd.DataFrame(
        {
            "precision": [right / said if said else 0.0 for _, _, said, right in rows],
            "recall": [hit / there if there else 0.0 for there, hit, _, _ in rows],
            "objects": [there for there, *_ in rows],
            "answers": [said for _, _, said, _ in rows],
        },
        index=pd.Index(names, name="class"),
    )


def best_threshold(truth: Sequence[Boxes], found: Sequence[Answer]) -> float:
    """The score from which on answers are shown: the one with the best F1 over all classes."""
    scores, right, there = _judged(truth, found)
    if not len(scores):
        return 0.5
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + max(there, 1))
    return float(scores[order][int(np.argmax(f1))])


def _judged(truth: Sequence[Boxes], found: Sequence[Answer]) -> tuple[np.ndarray, np.ndarray, int]:
    """(n,) the scores of all answers, (n,) whether each is right; how many objects there are."""
    scores, right, there = [np.zeros(0)], [np.zeros(0, bool)], 0
    for one, other in zip(truth, found, strict=True):
        match = matched(one, other, HALF)
        counted = ~match.ignored[0]
        scores.append(other.scores[counted])
        right.append(match.right[0][counted])
        there += int((~one.crowd).sum())
    return np.concatenate(scores), np.concatenate(right), there


def _pictures(
    answers: pd.DataFrame, truth: Sequence[Boxes], found: Sequence[Answer], least: float
) -> Any:
    from matplotlib.figure import Figure
    from PIL import Image

    shown = np.flatnonzero(answers[PICTURE].notna().to_numpy()).tolist()
    rows = -(-len(shown) // ACROSS)
    with drawing():
        size = (WIDTH / 72, WIDTH / 72 / ACROSS * 1.08 * rows)
        figure = Figure(figsize=size, dpi=72, layout="constrained")
        every = figure.subplots(rows, ACROSS, squeeze=False)
        for axes in every.flat:
            axes.axis("off")
        for axes, row in zip(every.flat, shown, strict=False):
            one, sure = truth[row], _above(found[row], least)
            image = Image.open(io.BytesIO(answers[PICTURE].iloc[row]))
            width, height = (int(side) for side in image.info.get("size", "0 0").split())
            axes.imshow(np.asarray(image), extent=(0, width, height, 0), interpolation="bilinear")
            axes.set_xlim(0, width)
            axes.set_ylim(height, 0)
            match = matched(one, sure, HALF)
            for box, label, hit, crowd in zip(one.boxes, one.labels, match.found[0], one.crowd):
                if not crowd:
                    _box(axes, box, "found" if hit else "missed", f"{label}")
            for box, label, score, right, of in zip(
                sure.boxes, sure.labels, sure.scores, match.right[0], match.ignored[0]
            ):
                if not right and not of:
                    _box(axes, box, "wrong", f"{label} {score:.2f}")
    return figure


def _box(axes: Any, box: np.ndarray, kind: str, words: str) -> None:
    from matplotlib.patches import Rectangle

    x1, y1, x2, y2 = (float(side) for side in box)
    mark = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, lw=1.2, edgecolor=MARKS[kind])
    axes.add_patch(mark)
    says(mark, f"{kind}: {shortened(words)}")


def _sureness(truth: Sequence[Boxes], found: Sequence[Answer]) -> Any:
    scores, right, _ = _judged(truth, found)
    with drawing():
        figure, axes = new_figure(height=170)
        edges = np.linspace(0, 1, 21)
        below = np.zeros(20)
        for kind, rows in (("found", right), ("wrong", ~right)):
            counts, _ = np.histogram(scores[rows], edges)
            bars = axes.bar(
                edges[:-1], counts, 0.05, bottom=below, align="edge", color=MARKS[kind],
                label="right" if kind == "found" else "wrong",
            )  # fmt: skip
            for place, bar in enumerate(bars):
                says(bar, f"{edges[place]:.2f} to {edges[place + 1]:.2f}: {counts[place]:,} {kind}")
            below = below + counts
        axes.set_xlabel("score")
        axes.set_ylabel("boxes")
        legend_below(figure, axes)
    return figure


def _above(answer: Answer, score: float) -> Answer:
    kept = answer.scores >= score
    return Answer(answer.boxes[kept], answer.scores[kept], answer.labels[kept])


def _png(picture: np.ndarray) -> bytes:
    """A picture as PNG of at most `LARGEST` pixels a side, which says its own size."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    height, width = picture.shape[:2]
    image = Image.fromarray(picture)
    image.thumbnail((LARGEST, LARGEST))
    told = PngInfo()
    told.add_text("size", f"{width} {height}")
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=told)
    return file.getvalue()


def _rounded(box: np.ndarray) -> list[float]:
    return [round(float(side), 3) for side in box]


def _array(rows: list[list[Any]]) -> np.ndarray:
    return np.array([row[:4] for row in rows], np.float32).reshape(-1, 4)
