"""Predict pictures and write the answers beside their names.

One row a picture, in the order of the source: `file`, `prediction`, and for each class
`probability_<class>`, or `margin_<class>` where a learner gives margins.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd

from stackwise.catalog import Knob
from stackwise.protocols import RunLike
from stackwise.tasks.images.reading.find import find_pictures
from stackwise.tasks.images.reading.holding import Pictures
from stackwise.tasks.images.reading.loading import load_pictures
from stackwise.tasks.labelled.answers import predict_frame
from stackwise.tasks.labelled.found import Found
from stackwise.tasks.labelled.writing import write_frames

BLOCK = 1024


def write_predictions(
    path: Path | str,
    learner: Any,
    source: Any,
    *,
    bad: Annotated[
        Literal["error", "skip"], Knob("what to do where more than a hundredth cannot be read")
    ] = "error",
    raw: Annotated[
        bool, Knob("keep texts that a spreadsheet would run, such as =1+1, as they are")
    ] = False,
    run: RunLike | None = None,
) -> int:
    """Predict every picture of `source` and write it to `path` (.csv, .tsv, .parquet or .jsonl).

    A picture that cannot be read has a row without a prediction.

    Args:
        learner: a fitted estimator on pictures.
        source: as `ImagesTask.load` takes it, with or without labels; or one picture, or a list.
        bad: `skip` goes on however many cannot be read.
        raw: in csv and tsv, without the apostrophe before texts that a spreadsheet would run.

    Returns:
        The rows written.

    Raises:
        DataError: the source cannot be read; nothing is left half written.
    """
    return write_frames(path, source, _answers(learner, source, bad), raw=raw)


def answer_rows(
    learner: Any,
    source: Any,
    *,
    run: RunLike | None = None,
    bad: Literal["error", "skip"] = "error",
) -> pd.DataFrame:
    """What `write_predictions` writes, as a frame."""
    return pd.concat(_answers(learner, source, bad), ignore_index=True)


def picture_blocks(
    learner: Any, source: Any, bad: Literal["error", "skip"] = "error"
) -> Iterator[tuple[list[str], Pictures, np.ndarray]]:
    """The pictures of a source as a fitted estimator on pictures takes them, a block at a time.

    Yields:
        the names of a block, its pictures that can be read, and (n_good,) their places in it.
    """
    found = find_pictures(source, labelled=False)
    channels, height, width = learner.image_shape_
    for start in range(0, len(found), BLOCK):
        block = _block(found, slice(start, start + BLOCK))
        pictures, good, _ = load_pictures(block, (height, width), channels, bad=bad)
        yield list(block.names), pictures, good


def _answers(learner: Any, source: Any, bad: Literal["error", "skip"]) -> Iterator[pd.DataFrame]:
    """The answers, a block of pictures at a time."""
    for names, pictures, good in picture_blocks(learner, source, bad):
        answers = predict_frame(learner, pictures)
        answers.index = pd.Index(good)
        answers = answers.reindex(np.arange(len(names)))
        answers.insert(0, "file", names)
        yield answers


def _block(found: Found, rows: slice) -> Found:
    return Found(found.samples[rows], found.names[rows])
