"""The table task: predict one column of a table from the others.

    task = TableTask.load("sales.csv", target="price")
    X, y = task.part("train")
    task.score(y, learner.predict(X))

The rows are parted once, when the table is loaded; what the columns hold is read off the training
part alone. The test part is for the final score: nothing here looks at it but `part("test")`.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stackwise.errors import DataError, nearest
from stackwise.tasks import Judged, Part
from stackwise.tasks.table.columns import KEEP, infer_columns
from stackwise.tasks.table.contract import FeatureContract
from stackwise.tasks.table.fingerprint import fingerprint
from stackwise.tasks.table.metrics import Metric, Problem, metric_for, score
from stackwise.tasks.table.predictions import answer_frame, predict_once, write_predictions
from stackwise.tasks.table.source import read_table
from stackwise.tasks.table.split import How, fold_numbers, split_parts, thin
from stackwise.tasks.table.target import TargetColumn, read_as, read_target

__all__ = ["Metric", "TableTask", "write_predictions"]


class TableTask:
    """A table with a column to predict, parted into training, validation and test.

    Attributes:
        target: the column to predict.
        problem: regression, binary or multiclass.
        classes: the sorted classes of the training part, or None for regression.
        metric: the score that decides.
        watched: the same where it was asked for: early stopping then watches it too.
        columns: `column`, `kind` and `done` of every column.
        notes: sentences about what was dropped or inferred.
        data_hash: of the rows, the split and the options.
    """

    name: ClassVar[str] = "table"
    baselines: ClassVar[tuple[str, ...]] = (
        "mlp", "gradient-boosting", "lightgbm", "xgboost", "linear",
    )  # fmt: skip

    title: str
    target: str
    problem: Problem
    classes: np.ndarray | None
    metric: Metric
    watched: Metric | None
    columns: list[dict[str, str]]
    notes: list[str]
    data_hash: str
    options: dict[str, Any]

    @classmethod
    def load(
        cls,
        source: Any,
        *,
        target: str | None = None,
        sep: str | None = None,
        encoding: str | None = None,
        drop: Sequence[str] = (),
        keep: Sequence[str] = (),
        group: str | None = None,
        time: str | None = None,
        split: str | None = None,
        validation: float | Path | str = 0.2,
        test: float | Path | str = 0.2,
        metric: str | Metric | None = None,
        problem: str = "auto",
        max_rows: int | None = None,
        seed: int = 0,
    ) -> "TableTask":
        """Read a table and part its rows.

        Args:
            source: a file, a folder, a frame, `hf://owner/name` or a data set's name.
            target: the column to predict; a named data set has a usual one.
            sep: what parts the columns of a text file; found by itself.
            encoding: of a text file; UTF-8 by default.
            drop: columns to leave out.
            keep: columns to use although they look like identifiers, such as a row's number.
            group: rows with equal values of this column stay in one part; it is no feature.
            time: split by this column: the latest rows are the test, those before validation.
            split: a column that says train, validation or test; it is no feature.
            validation: share of all rows, or a file (or frame) of its own.
            test: the same.
            metric: a name such as rmse, mae, auc, accuracy; or a `Metric`.
            problem: regression, classification, binary, multiclass, or auto.
            max_rows: train on at most this many rows, drawn at random.
            seed: of the split. Classes are split so that each part has its share of each.

        Raises:
            DataError: one sentence about what cannot be used, and what would be right.
        """
        given = [name for name, value in _named(group, time, split) if value is not None]
        if len(given) > 1:
            raise DataError(f"rows are split by one column, not by {' and '.join(given)}")
        if max_rows is not None and max_rows < 10:
            raise DataError(f"max_rows={max_rows} is too few to train on; give at least 10")
        frame = _prepared(read_table(source, sep=sep, encoding=encoding))
        if target is None:
            target = frame.attrs.get("target")
        named_parts = frame.attrs.get("split")
        if named_parts is not None and not given:
            given, split = ["split"], named_parts
        elif named_parts is not None and split != named_parts:
            frame = frame.drop(columns=named_parts)
        if target is None:
            listed = ", ".join(frame.columns[:12])
            raise DataError(f"say which column to predict with target; there is {listed}")
        drop = [drop] if isinstance(drop, str) else list(drop)
        keep = [keep] if isinstance(keep, str) else list(keep)
        for name in (
            target,
            *drop,
            *keep,
            *(value for _, value in _named(group, time, split) if value),
        ):
            if name not in frame.columns:
                raise DataError(f"there is no column {name!r}.{nearest(name, frame.columns)}")
        if target in (*drop, group, time, split):
            raise DataError(f"{target!r} is the target; it cannot be dropped or split by")

        task = cls()
        task.title = _title(source)
        task.target = target
        found = read_target(frame[target], problem)
        task.problem = found.problem
        task.metric = metric_for(found.problem, metric)
        task.watched = None if metric is None else task.metric
        task.notes = [*found.notes]
        task.options = _options(
            sep=sep, encoding=encoding, drop=drop, keep=keep, group=group, time=time, split=split,
            validation=validation, test=test, metric=task.metric.name if metric else None,
            problem=problem, max_rows=max_rows, seed=seed,
        )  # fmt: skip
        if not found.known.all():
            frame = frame[found.known]

        own: dict[Part, tuple[pd.DataFrame, np.ndarray]] = {}
        shares: dict[Part, float] = {}
        asked: dict[Part, Any] = {"validation": validation, "test": test}
        for part, wanted in asked.items():
            if isinstance(wanted, (int, float)) and not isinstance(wanted, bool):
                if not 0 < wanted < 1:
                    raise DataError(f"{part}={wanted} is no share of the rows between 0 and 1")
                shares[part] = wanted
            else:
                own[part] = task._own_part(part, wanted, found, frame, sep, encoding)
                shares[part] = 0.0
        how: How = "random" if found.problem == "regression" else "stratified"
        if given:
            how = {"group": "group", "time": "time", "split": "given"}[given[0]]  # type: ignore[assignment]
        parts = split_parts(
            frame, found.y, how=how, column=group or time or split, seed=seed,
            test=shares["test"], validation=shares["validation"],
        )  # fmt: skip
        thin(parts, max_rows, seed)
        task.notes += parts.notes
        left_out = [target, *drop, *(name for name in (group, split) if name)]
        unused = [name for name in keep if name in left_out]
        if unused:
            raise DataError(f"column {unused[0]!r} cannot be kept: it is no feature in this table")
        features = frame.drop(columns=list(dict.fromkeys(left_out)))
        if keep:
            features.attrs[KEEP] = keep  # the rows that are taken from it carry this along
        picked: dict[Part, np.ndarray] = {
            "train": parts.train, "validation": parts.validation, "test": parts.test
        }  # fmt: skip
        task._parts = {part: (features.iloc[rows], found.y[rows]) for part, rows in picked.items()}
        for part, (X, y) in own.items():
            task._parts[part] = (X[features.columns], y)
        task._groups = None if group is None or own else frame[group]
        task._finish(drop, group, split)
        return task

    _parts: dict[Part, tuple[pd.DataFrame, np.ndarray]]
    _groups: pd.Series | None = None

    def _own_part(
        self,
        part: str,
        source: Any,
        like: TargetColumn,
        frame: pd.DataFrame,
        sep: str | None,
        encoding: str | None,
    ) -> tuple[pd.DataFrame, np.ndarray]:
        """A validation or test part that has a file of its own."""
        own = _prepared(read_table(source, sep=sep, encoding=encoding))
        lacking = [name for name in frame.columns if name not in own.columns]
        if lacking:
            raise DataError(
                f"the {part} table lacks the column {lacking[0]!r}.{nearest(lacking[0], own)}"
            )
        read = read_as(own[self.target], like)
        self.notes += [f"{part} table: {note}" for note in read.notes]
        return own[read.known], read.y

    def _finish(self, drop: Sequence[str], group: str | None, split: str | None) -> None:
        """Read the columns off the training part, and refuse one that teaches nothing."""
        X, y = self._parts["train"]
        self.classes = None if self.problem == "regression" else np.unique(y)
        if len(y) and (y == y[0]).all():
            raise DataError(
                f"target {self.target!r} is always {y[0]} in the training part; split otherwise"
            )
        if self.classes is not None:
            for part in ("validation", "test"):
                strange = np.setdiff1d(self._parts[part][1], self.classes)
                if len(strange):
                    listed = ", ".join(str(name) for name in strange[:5])
                    self.notes.append(
                        f"the {part} part has classes without training rows: {listed}"
                    )
        found = infer_columns(X)
        if not any(column.used for column in found):
            dropped = "; ".join(f"{column.name!r} {column.detail['why']}" for column in found[:4])
            raise DataError(
                f"no column is left to learn {self.target!r} from"
                + (f": {dropped}" if dropped else "; the table has no other column")
            )
        self.columns = [{"column": self.target, "kind": "target", "done": self.problem}]
        self.columns += [column.report() for column in found]
        for name, why in [*((n, "as asked") for n in drop), (group, "groups the rows"),
                          (split, "names the parts")]:  # fmt: skip
            if name is not None:
                self.columns.append({"column": name, "kind": "dropped", "done": f"dropped: {why}"})
        self.notes += [
            f"column {column.name!r} was dropped: {column.detail['why']}"
            for column in found
            if not column.used
        ]
        self.notes += [
            f"column {column.name!r}: {column.detail['infinite']:,} infinite, taken as missing"
            for column in found
            if column.used and column.detail.get("infinite")
        ]
        self.data_hash = fingerprint(self._parts, self.target, self.problem, self.options)

    def part(self, part: Part) -> tuple[pd.DataFrame, np.ndarray]:
        """The features and the target of a part; the frame's index is the row in the source."""
        if part not in self._parts:
            raise DataError(f"there is no part {part!r}.{nearest(part, self._parts)}")
        return self._parts[part]

    @property
    def size_bytes(self) -> int:
        """Bytes that the rows take in memory."""
        frames = [frame for frame, _ in self._parts.values()]
        return sum(int(frame.memory_usage(deep=True).sum()) for frame in frames)

    @property
    def fit_options(self) -> dict[str, Any]:
        """What `fit` of a learner is told beside the rows: the metric that was asked for."""
        return {} if self.watched is None else {"metric": self.watched}

    def fit(self, learner: Any) -> Any:
        """Fit a learner on the training part; the validation part decides when to stop."""
        held = self.part("validation")
        return learner.fit(*self.part("train"), validation=held, **self.fit_options)

    def judge(self, learner: Any, part: Part) -> Judged:
        """Score a fitted learner on a part; a bagged one's validation answers are out of fold."""
        X, y = self.part(part)
        began = time.perf_counter()
        if part == "validation" and hasattr(learner, "out_of_fold_"):
            X, y = learner.out_of_fold_rows_
            prediction, probability = learner.out_of_fold_
        else:
            prediction, probability = predict_once(learner, X)
        seconds = time.perf_counter() - began
        table = answer_frame(learner, prediction, probability)
        table.insert(0, "row", X.index)
        table.insert(1, "target", y)
        one = _one_row_seconds(learner, X) if part == "test" else None
        return Judged(self.score(y, prediction, probability), table, seconds, one)

    def resampled(self, run: Any) -> tuple[int, Callable[[np.ndarray], float]]:
        """The test rows of a finished run, and its deciding score on any of them.

        A row of a class that training lacks is left out: no learner has a probability for it.
        """
        from stackwise.studies.answers import answers

        truth = self.part("test")[1]
        keep = np.ones(len(truth), dtype=bool)
        if self.classes is not None:
            keep = np.isin(truth, self.classes)
        if self.metric.needs_probability and self.classes is not None:
            answer = answers(run, "test", self)[keep]
            truth = np.searchsorted(self.classes, truth[keep])
        else:
            answer = run.predictions["prediction"].to_numpy()[keep]
            truth = truth[keep]
        scored = self.metric.function
        assert scored is not None  # the metric of a table has one
        return len(truth), lambda rows: scored(truth[rows], answer[rows])

    def importance(self, learner: Any) -> list[dict[str, Any]]:
        """Which columns a fitted learner uses; see `permutation_importance`."""
        from stackwise.studies.importance import permutation_importance

        return permutation_importance(learner, self)

    def folds(self, count: int, *, seed: int = 0) -> np.ndarray:
        """Part the training and validation rows, in this order, into folds for bagging.

        Returns:
            (n,) int64 numbers 0 .. count - 1. Each class is shared out alike, a group stays whole.

        Raises:
            DataError: the rows are split by time, which folds would mix; or they are too few.
        """
        if "time" in self.options:
            raise DataError("rows that are split by time cannot be bagged: folds would mix times")
        (X, y), (Z, z) = self._parts["train"], self._parts["validation"]
        labels = np.concatenate([y, z])
        groups = None
        if self._groups is not None:
            groups = pd.factorize(self._groups.loc[[*X.index, *Z.index]])[0]
        return fold_numbers(
            labels if self.classes is not None else None, groups, len(labels), count, seed
        )

    @cached_property
    def contract(self) -> FeatureContract:
        """The features, fitted on the training part."""
        return FeatureContract().fit(self._parts["train"][0])

    def batches(self, part: Part, *, batch_size: int = 1024) -> Iterator[dict[str, Tensor]]:
        """The part in the order of its rows.

        Yields:
            `numeric` (B, n_numeric) float32, `categorical` (B, n_categorical) int64 and `target`
            (B,) float32, or int64 class numbers.
        """
        X, y = self.part(part)
        target = self._target(y)
        for start in range(0, len(y), batch_size):
            rows = slice(start, start + batch_size)
            arrays = self.contract.transform(X.iloc[rows])
            yield {
                "numeric": torch.from_numpy(arrays.numeric),
                "categorical": torch.from_numpy(arrays.categorical),
                "target": target[rows],
            }

    def _target(self, y: np.ndarray) -> Tensor:
        if self.classes is None:
            return torch.from_numpy(y.astype(np.float32))
        strange = np.setdiff1d(y, self.classes)
        if len(strange):
            raise DataError(f"class {strange[0]!s} has no training rows, so that it has no loss")
        return torch.from_numpy(np.searchsorted(self.classes, y))

    def loss(self, model: torch.nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Squared error, or cross entropy of class scores; the mean over members where there are.

        The model maps (numeric, categorical) to (B, outputs) or, with k members, (B, k, outputs).
        """
        output = model(batch["numeric"], batch["categorical"])
        members = output if output.ndim == 3 else output[:, None]
        target = batch["target"][:, None].expand(members.shape[:2])
        if self.classes is None:
            return torch.nn.functional.mse_loss(members[..., 0], target)
        return torch.nn.functional.cross_entropy(members.flatten(0, 1), target.flatten())

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the scores, the deciding one first."""
        y = np.arange(3) % 2
        sure = np.full((3, 2), 0.5)
        if self.problem == "regression":
            return tuple(score(self.problem, y, y, metric=self.metric))
        return tuple(score(self.problem, y, y, sure, metric=self.metric))

    def score(
        self, y: np.ndarray, prediction: np.ndarray, probability: np.ndarray | None = None
    ) -> dict[str, float]:
        """Every score by name, the deciding one first; probabilities are of `classes`."""
        names = None if self.classes is None else list(self.classes)
        return score(self.problem, y, prediction, probability, self.metric, names)

    def write_predictions(self, path: Path | str, learner: Any, source: Any, **options: Any) -> int:
        """Write the predictions of new rows; see `write_predictions` of this module."""
        return write_predictions(path, learner, source, **options)

    def _class_shares(self) -> dict[str, float] | None:
        """The share of the training rows of each of the ten largest classes."""
        if self.classes is None:
            return None
        names, counts = np.unique(self._parts["train"][1], return_counts=True)
        largest = np.argsort(-counts, kind="stable")[:10]
        return {str(names[i]): float(counts[i] / counts.sum()) for i in largest}

    def describe(self) -> dict[str, Any]:
        """What a run records about its data, as JSON."""
        return {
            "name": self.title,
            "task": self.name,
            "target": self.target,
            "problem": self.problem,
            "classes": None if self.classes is None else [str(name) for name in self.classes],
            "shares": self._class_shares(),
            "rows": {part: len(y) for part, (_, y) in self._parts.items()},
            "features": self._parts["train"][0].shape[1],
            "metric": self.metric.name,
            "options": self.options,
            "notes": self.notes,
            "hash": self.data_hash,
        }


def _named(
    group: str | None, time: str | None, split: str | None
) -> tuple[tuple[str, str | None], ...]:
    return (("group", group), ("time", time), ("split", split))


def _prepared(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with text names and row numbers as its index; its data is not copied."""
    names = [str(name) for name in frame.columns]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"the column name {repeated[0]!r} appears twice; give each its own name")
    attrs = frame.attrs
    frame = frame.set_axis(names, axis=1).reset_index(drop=True)
    frame.attrs = dict(attrs)
    return frame


def _one_row_seconds(learner: Any, X: pd.DataFrame) -> float:
    """Median seconds of predicting a single row."""
    taken = []
    for i in range(5):
        row = X.iloc[[i % len(X)]]
        began = time.perf_counter()
        learner.predict(row)
        taken.append(time.perf_counter() - began)
    return sorted(taken)[len(taken) // 2]


def _title(source: Any) -> str:
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        return text if text.startswith("hf://") else Path(text).stem
    return type(source).__name__


def _options(**given: Any) -> dict[str, Any]:
    """The options that differ from their defaults, as JSON, for repeating the load."""
    defaults = {
        "drop": [],
        "keep": [],
        "validation": 0.2,
        "test": 0.2,
        "problem": "auto",
        "seed": 0,
    }
    kept: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, os.PathLike):
            kept[name] = os.fspath(value)
        elif not isinstance(value, (str, int, float, list, type(None))):
            kept[name] = type(value).__name__  # a frame; its rows are in the hash
        elif value is not None and value != defaults.get(name):
            kept[name] = value
    return kept
