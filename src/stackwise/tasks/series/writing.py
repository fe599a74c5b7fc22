"""Predict series and write the answers beside their names.

One row a series, in the order of the source: `series`, `prediction`, and for each class
`probability_<class>`, or `margin_<class>` where a learner gives margins. Of a forecast one row a
moment, in that order too: `series`, `moment`, and the `prediction` of what is `horizon` moments
after it; the first ones, before which no whole window lies, have none.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from stackwise.catalog import Knob
from stackwise.errors import DataError
from stackwise.protocols import RunLike
from stackwise.tasks.labelled.answers import predict_frame
from stackwise.tasks.labelled.writing import write_frames
from stackwise.tasks.series.reading.find import Bare, Reading, channel_of, found_bare
from stackwise.tasks.series.reading.windows import windows_of
from stackwise.tasks.series.series import Series, check_channels

BLOCK = 1024


def write_predictions(
    path: Path | str,
    learner: Any,
    source: Any,
    *,
    series: Annotated[str | None, Knob("the column that names the series; else as learned")] = None,
    time: Annotated[str | None, Knob("the column of time; else as learned")] = None,
    raw: Annotated[
        bool, Knob("keep texts that a spreadsheet would run, such as =1+1, as they are")
    ] = False,
    run: RunLike | None = None,
) -> int:
    """Predict every series of `source` and write it to `path` (.csv, .tsv, .parquet or .jsonl).

    A series without a value has a row without a prediction.

    Args:
        learner: a fitted estimator on series.
        source: as `SeriesTask.load` takes it, with or without a target.
        raw: in csv and tsv, without the apostrophe before texts that a spreadsheet would run.

    Returns:
        The rows written.

    Raises:
        DataError: the source cannot be read; nothing is left half written.
    """
    return write_frames(path, source, _answers(learner, source, series, time), raw=raw)


def answer_rows(
    learner: Any,
    source: Any,
    *,
    run: RunLike | None = None,
    series: str | None = None,
    time: str | None = None,
) -> pd.DataFrame:
    """What `write_predictions` writes, as a frame."""
    return pd.concat(_answers(learner, source, series, time), ignore_index=True)


def _answers(
    learner: Any, source: Any, series: str | None, time: str | None
) -> Iterator[pd.DataFrame]:
    """The answers, a block of samples at a time."""
    kept = dict(getattr(learner, "reading_", {}))
    told = {name: value for name, value in (("series", series), ("time", time)) if value}
    reading = Reading.of_json(kept | told)
    bare = found_bare(source, reading, labelled=False)
    if reading.horizon is None:
        yield from _whole(learner, bare)
    else:
        yield _in_order(pd.concat(_ahead(learner, bare, reading)), bare)


def _in_order(answers: pd.DataFrame, bare: Bare) -> pd.DataFrame:
    """Forecasts in the order in which their moments stand in the source."""
    if bare.places is None:
        return answers
    order = np.argsort(np.concatenate(bare.places), kind="stable")
    return answers.iloc[order].reset_index(drop=True)


def _whole(learner: Any, bare: Bare) -> Iterator[pd.DataFrame]:
    names, values = bare.found.names, bare.found.samples
    check_channels(values, bare.channels, names)
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        good = np.array([row for row, one in enumerate(block) if not np.isnan(one).all()], int)
        answers = pd.DataFrame({"prediction": pd.Series(dtype=object)})
        if len(good):
            answers = predict_frame(
                learner, Series([block[row] for row in good], good, bare.channels)
            )
            answers.index = pd.Index(good)
        answers = answers.reindex(np.arange(len(block)))
        answers.insert(0, "series", names[start : start + BLOCK])
        yield answers


def _ahead(learner: Any, bare: Bare, reading: Reading) -> Iterator[pd.DataFrame]:
    assert reading.horizon is not None
    channel = channel_of(bare.channels, reading.target)
    longest = max(one.shape[1] for one in bare.found.samples)
    if longest < reading.window:
        raise DataError(
            f"a forecast looks back on {reading.window} moments, and the longest series has "
            f"{longest}; give what lies before as well"
        )
    for place, one in enumerate(bare.found.samples):
        made = windows_of([one], channel, reading.window, reading.horizon, answered=False)
        answer = np.full(one.shape[1], np.nan)
        for start in range(0, len(made.values), BLOCK):
            block = made.values[start : start + BLOCK]
            good = np.array([row for row, w in enumerate(block) if not np.isnan(w).all()], int)
            if len(good):
                samples = Series([block[row] for row in good], good, bare.channels)
                found = np.asarray(learner.predict(samples))
                answer[made.ends[start : start + BLOCK][good]] = found
        moments = np.arange(one.shape[1]) if bare.times is None else bare.times[place]
        yield pd.DataFrame(
            {"series": bare.found.names[place], "moment": moments, "prediction": answer}
        )
