"""Predict the rows of a file piece by piece, and write the answers beside their place.

The output has the input's rows in their order: `prediction`, and for classes one column
`probability_<class>` each. Memory does not grow with the file.
"""

import os
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stackwise.errors import DataError
from stackwise.files import replacing
from stackwise.tasks.table.contract import UnseenCategories
from stackwise.tasks.table.source import CHUNK, read_chunks

Write = Callable[[pd.DataFrame], None]
FORMATS = (".csv", ".tsv", ".parquet", ".jsonl")


def write_predictions(
    path: Path | str,
    learner: Any,
    source: Any,
    *,
    sep: str | None = None,
    encoding: str | None = None,
    keep_columns: bool = False,
    rows: int = CHUNK,
) -> int:
    """Predict every row of `source` and write it to `path` (.csv, .tsv, .parquet or .jsonl).

    Args:
        learner: anything fitted that predicts frames; with `predict_proba` and `classes_` the
            probabilities are written too.
        source: as `read_table` takes it; files are streamed.
        keep_columns: write the input's columns before the predictions.
        rows: of one piece.

    Returns:
        The rows written.

    Raises:
        DataError: the source is broken or lacks a column; nothing is left half written.

    Warns:
        UnseenCategories: once, for all pieces together.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise DataError(f"{path} must end in one of {', '.join(FORMATS)}")
    named = isinstance(source, (str, os.PathLike))
    if named and path.exists() and Path(source).exists() and path.samefile(source):
        raise DataError(f"{path} is the input; name another file for the predictions")
    contract = getattr(learner, "contract_", None)
    as_text = tuple(contract.text_names) if contract is not None else ()
    count = 0
    unseen: Counter[str] = Counter()
    examples: dict[str, str] = {}
    others: dict[str, warnings.WarningMessage] = {}
    try:
        with replacing(path) as beside, _Writer(beside) as writer:
            for piece in read_chunks(
                source, sep=sep, encoding=encoding, as_text=as_text, rows=rows
            ):
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    answers = predict_frame(learner, piece)
                for item in caught:
                    if isinstance(item.message, UnseenCategories):
                        unseen.update(item.message.counts)
                        examples = item.message.examples | examples
                    else:
                        others.setdefault(str(item.message), item)
                if keep_columns:
                    kept = piece.drop(columns=[c for c in answers if c in piece.columns])
                    answers = pd.concat([kept.reset_index(drop=True), answers], axis=1)
                writer.write(answers)
                count += len(answers)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    for item in others.values():
        warnings.warn(str(item.message), item.category, stacklevel=2)
    if unseen:
        warnings.warn(UnseenCategories(dict(unseen), examples), stacklevel=2)
    return count


def predict_frame(learner: Any, frame: pd.DataFrame) -> pd.DataFrame:
    """`prediction` and `probability_<class>` of each row.

    See `predict_once`.
    """
    return answer_frame(learner, *predict_once(learner, frame))


def predict_once(learner: Any, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray | None]:
    """Predictions (n,), and of a classifier probabilities (n, C) in the order of its `classes_`.

    The prediction of a classifier is read off the probabilities, so that the two cannot disagree
    and rows are computed once.
    """
    if not hasattr(learner, "predict_proba") or not hasattr(learner, "classes_"):
        return np.asarray(learner.predict(frame)), None
    probability = np.asarray(learner.predict_proba(frame))
    return np.asarray(learner.classes_)[probability.argmax(axis=1)], probability


def answer_frame(
    learner: Any, prediction: np.ndarray, probability: np.ndarray | None
) -> pd.DataFrame:
    """What `predict_once` found as columns: `prediction` and `probability_<class>`."""
    columns = {"prediction": prediction}
    if probability is not None:
        for place, name in enumerate(learner.classes_):
            columns[f"probability_{name}"] = probability[:, place]
    return pd.DataFrame(columns)


class _Writer:
    """Appends frames to one file, in the format that its ending names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kind = path.suffix.lower()
        self.parquet: Any = None
        self.first = True

    def __enter__(self) -> "_Writer":
        self.file = None if self.kind == ".parquet" else open(self.path, "w", encoding="utf-8",
                                                              newline="")  # fmt: skip
        return self

    def write(self, frame: pd.DataFrame) -> None:
        if self.kind == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            schema = None if self.parquet is None else self.parquet.schema
            table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
            if self.parquet is None:
                self.parquet = pq.ParquetWriter(self.path, table.schema)
            self.parquet.write_table(table)
        elif self.kind == ".jsonl":
            frame.to_json(self.file, orient="records", lines=True)
        else:
            sep = "\t" if self.kind == ".tsv" else ","
            frame.to_csv(self.file, sep=sep, index=False, header=self.first)
        self.first = False

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()
        if self.parquet is not None:
            self.parquet.close()
