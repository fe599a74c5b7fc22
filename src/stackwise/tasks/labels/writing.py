"""Predict texts and write the answers beside them.

One row a text, in the order of the source: `text`, `prediction`, and for each class
`probability_<class>`, or `margin_<class>` where a learner gives margins.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from stackwise.catalog import Knob
from stackwise.protocols import RunLike
from stackwise.tasks.labelled.answers import predict_frame
from stackwise.tasks.labelled.writing import write_frames
from stackwise.tasks.labels.reading import find_texts
from stackwise.tasks.labels.texts import Texts

BLOCK = 1024


def write_predictions(
    path: Path | str,
    learner: Any,
    source: Any,
    *,
    field: Annotated[str | None, Knob("the field of the text, where there are fields")] = None,
    raw: Annotated[
        bool, Knob("keep texts that a spreadsheet would run, such as =1+1, as they are")
    ] = False,
    run: RunLike | None = None,
) -> int:
    """Predict every text of `source` and write it to `path` (.csv, .tsv, .parquet or .jsonl).

    A blank text has a row without a prediction.

    Args:
        learner: a fitted estimator on texts.
        source: as `LabelsTask.load` takes it, with or without labels; a text file, each line of
            which is a text; or a list of texts.
        raw: in csv and tsv, without the apostrophe before texts that a spreadsheet would run.

    Returns:
        The rows written.

    Raises:
        DataError: the source cannot be read; nothing is left half written.
    """
    return write_frames(path, source, _answers(learner, source, field), raw=raw)


def answer_rows(
    learner: Any, source: Any, *, run: RunLike | None = None, field: str | None = None
) -> pd.DataFrame:
    """What `write_predictions` writes, as a frame."""
    return pd.concat(_answers(learner, source, field), ignore_index=True)


def text_blocks(source: Any, field: str | None = None) -> Iterator[tuple[Texts, np.ndarray, list]]:
    """The texts of a source, a block at a time.

    Yields:
        the texts of a block that are not blank, (n,) their places in it, and the whole block, None
        where a text is blank.
    """
    texts = find_texts(source, field=field, labelled=False).samples
    for start in range(0, len(texts), BLOCK):
        block = list(texts[start : start + BLOCK])
        given = np.array([row for row, text in enumerate(block) if text is not None], dtype=int)
        yield Texts([block[row] for row in given]), given, block


def _answers(learner: Any, source: Any, field: str | None) -> Iterator[pd.DataFrame]:
    """The answers, a block of texts at a time."""
    for texts, given, block in text_blocks(source, field):
        answers = pd.DataFrame({"prediction": pd.Series(dtype=object)})
        if len(given):
            answers = predict_frame(learner, texts)
            answers.index = pd.Index(given)
        answers = answers.reindex(np.arange(len(block)))
        answers.insert(0, "text", [text or "" for text in block])
        yield answers
