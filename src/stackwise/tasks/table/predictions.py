"""Predict the rows of a file piece by piece, and write the answers beside their place.

The output has the input's rows in their order: `prediction`, and for classes one column
`probability_<class>` each. Memory does not grow with the file.
"""

import warnings
from pathlib import Path
from typing import Annotated, Any

import pandas as pd

from stackwise import spreadsheets
from stackwise.catalog import Knob
from stackwise.errors import DataError
from stackwise.protocols import RunLike
from stackwise.tasks.labelled.answers import predict_frame
from stackwise.tasks.labelled.counted import merged
from stackwise.tasks.labelled.writing import predictions_file
from stackwise.tasks.table.decisions import decision_of
from stackwise.tasks.table.source import CHUNK, read_chunks, read_table


def write_predictions(
    path: Path | str,
    learner: Any,
    source: Any,
    *,
    sep: Annotated[str | None, Knob("what parts the columns (found by itself)")] = None,
    encoding: Annotated[str | None, Knob("the text encoding (utf-8)")] = None,
    keep_columns: Annotated[bool, Knob("write the input's columns before the answers")] = False,
    raw: Annotated[
        bool, Knob("keep texts that a spreadsheet would run, such as =1+1, as they are")
    ] = False,
    threshold: Annotated[
        float | None, Knob("of two classes the second from this probability on", gt=0, lt=1)
    ] = None,
    threshold_for: Annotated[
        str | None, Knob("the threshold that is best for a metric, on the run's validation rows")
    ] = None,
    interval: Annotated[
        float | None, Knob("write low and high, which hold this share of the truths", gt=0, lt=1)
    ] = None,
    rows: int = CHUNK,
    run: RunLike | None = None,
) -> int:
    """Predict every row of `source` and write it to `path` (.csv, .tsv, .parquet or .jsonl).

    Args:
        learner: anything fitted that predicts frames; with `predict_proba` and `classes_` the
            probabilities are written too.
        source: as `read_table` takes it; files are streamed.
        keep_columns: write the input's columns before the predictions.
        threshold, threshold_for, interval: see `stackwise.tasks.table.decisions`.
        raw: in csv and tsv, without the apostrophe before texts that a spreadsheet would run; see
            `stackwise.spreadsheets`. `read_predictions` takes it off again.
        rows: of one piece.
        run: that holds the learner; `threshold_for` and `interval` need it.

    Returns:
        The rows written.

    Raises:
        DataError: the source is broken or lacks a column; nothing is left half written.

    Warns:
        UnseenCategories: once a column, for all pieces together; other warnings once.
    """
    path = Path(path)
    decision = decision_of(
        learner, run, threshold=threshold, threshold_for=threshold_for, interval=interval
    )
    as_text = texts_of(learner)
    count = 0
    warned: list[warnings.WarningMessage] = []
    with predictions_file(path, source, raw=raw) as writer:
        for piece in read_chunks(source, sep=sep, encoding=encoding, as_text=as_text, rows=rows):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                answers = decision.on(learner, predict_frame(learner, piece))
            warned += caught
            if keep_columns:
                kept = piece.drop(columns=[c for c in answers if c in piece.columns])
                answers = pd.concat([kept.reset_index(drop=True), answers], axis=1)
            writer.write(answers)
            count += len(answers)
    for message in merged(warned):
        warnings.warn(message, stacklevel=2)
    return count


def answer_rows(
    learner: Any,
    source: Any,
    *,
    run: RunLike | None = None,
    sep: str | None = None,
    encoding: str | None = None,
    threshold: float | None = None,
    threshold_for: str | None = None,
    interval: float | None = None,
) -> pd.DataFrame:
    """What `write_predictions` writes, as a frame: `prediction`, `probability_<class>`."""
    decision = decision_of(
        learner, run, threshold=threshold, threshold_for=threshold_for, interval=interval
    )
    pieces = read_chunks(source, sep=sep, encoding=encoding, as_text=texts_of(learner))
    answers = [decision.on(learner, predict_frame(learner, piece)) for piece in pieces]
    return pd.concat(answers, ignore_index=True)


def texts_of(learner: Any) -> tuple[str, ...]:
    """The columns whose values a learner reads as texts, wherever they come from."""
    contract = getattr(learner, "contract_", None)
    return tuple(contract.text_names) if contract is not None else ()


def read_predictions(path: Path | str, *, raw: bool = False) -> pd.DataFrame:
    """Read what `write_predictions` wrote; labels of classes come back as they were.

    Args:
        raw: the file was written so.

    Raises:
        DataError: it cannot be read.
    """
    path = Path(path)
    if path.suffix.lower() not in (".csv", ".tsv"):
        return read_table(path)
    try:
        table = pd.read_csv(
            path, sep="\t" if path.suffix.lower() == ".tsv" else ",", keep_default_na=False,
            na_values={},
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as predictions: {error}") from error
    return table if raw else spreadsheets.read(table)
