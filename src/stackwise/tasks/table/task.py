"""The table task: predict one column of a table from the others.

    task = TableTask.load("sales.csv", target="price")
    X, y = task.part("train")
    task.score(y, learner.predict(X))

The rows are parted once, when the table is loaded; what the columns hold is read off the training
part alone. The test part is for the final score: nothing here looks at it but `part("test")`.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stackwise.catalog import Knob, task
from stackwise.errors import DataError
from stackwise.findings import Findings
from stackwise.learning.metrics import Metric, metric_for
from stackwise.protocols import Part, RunLike
from stackwise.tasks.labelled.task import LabelledTask, class_codes, wants
from stackwise.tasks.table import showing
from stackwise.tasks.table.explaining import contributions, partial_dependence
from stackwise.tasks.table.features.contract import FeatureContract
from stackwise.tasks.table.importance import permutation_importance
from stackwise.tasks.table.loading import Choices, load_parts, title_of, usable_columns
from stackwise.tasks.table.marks import recognises
from stackwise.tasks.table.predictions import answer_rows, write_predictions
from stackwise.tasks.table.reading.columns import Column
from stackwise.tasks.table.reading.fingerprint import fingerprint
from stackwise.tasks.table.small import small_table
from stackwise.training.batches import ArrayBatches

__all__ = ["Metric", "TableTask", "write_predictions"]


@task(
    title="Rows of a table, one column to predict",
    recognises=recognises,
    first=True,
    sample="sales.csv --target price",
    class_sample="clicks.csv --target click",
)
class TableTask(LabelledTask):
    """A table with a column to predict, parted into training, validation and test.

    Attributes, besides those of `LabelledTask`:
        columns: `column`, `kind` and `done` of every column.
    """

    name: ClassVar[str] = "table"
    ending: ClassVar[str] = "csv"
    write_predictions = staticmethod(write_predictions)
    answer_rows = staticmethod(answer_rows)
    partial_dependence = staticmethod(partial_dependence)
    contributions = staticmethod(contributions)

    columns: list[dict[str, str]]

    @classmethod
    def load(
        cls,
        source: Any,
        *,
        target: Annotated[str | None, Knob("the column to predict", role=True)] = None,
        sep: Annotated[str | None, Knob("what parts the columns (found by itself)")] = None,
        encoding: Annotated[str | None, Knob("the text encoding (utf-8)")] = None,
        drop: Annotated[Sequence[str], Knob("a column to leave out; repeat")] = (),
        keep: Annotated[Sequence[str], Knob("use it though it looks like an id; repeat")] = (),
        group: Annotated[str | None, Knob("rows with equal values stay in one part")] = None,
        time: Annotated[str | None, Knob("split by time: the latest rows are the test")] = None,
        split: Annotated[str | None, Knob("a column that says train, validation or test")] = None,
        validation: Annotated[float | str | Any, Knob("share of the rows, or a file")] = 0.2,
        test: Annotated[float | str | Any, Knob("share of the rows, or a file")] = 0.2,
        metric: Annotated[
            str | Metric | None,
            Knob("what better means: rmse, mae, auc, or a scorer of scikit-learn"),
        ] = None,
        problem: Annotated[
            str, Knob("regression, binary or multiclass (found by itself)")
        ] = "auto",
        max_rows: Annotated[int | None, Knob("train on at most this many rows")] = None,
        split_seed: Annotated[int, Knob("of the split", ge=0)] = 0,
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
            metric: a name such as rmse, mae, auc, accuracy; the name of any scorer of
                scikit-learn that serves the problem, such as f1_weighted; or a `Metric`.
            problem: regression, classification, binary, multiclass, or auto.
            max_rows: train on at most this many rows, drawn at random.
            split_seed: of the split. Classes are split so that each part has its share of each.

        Raises:
            DataError: one sentence about what cannot be used, and what would be right.
        """
        choices = Choices(
            sep=sep, encoding=encoding, drop=_listed(drop), keep=_listed(keep), group=group,
            time=time, split=split, validation=validation, test=test, problem=problem,
            max_rows=max_rows, split_seed=split_seed,
        )  # fmt: skip
        loaded = load_parts(source, None if target is None else str(target), choices)
        made = cls()
        made.title = title_of(source)
        made.target = loaded.target
        made.problem = loaded.problem
        made.metric = metric_for(loaded.problem, metric)
        made.watched = None if metric is None else made.metric
        made.options = choices.as_options(made.metric.name if metric else None, loaded.split)
        made._parts, made._groups, made._keep = loaded.parts, loaded.groups, choices.keep
        made.classes = loaded.classes
        made._found = loaded.found
        made.columns = loaded.described(choices)
        made.notes = loaded.notes
        made.data_hash = fingerprint(made._parts, made.target, made.problem, made.options)
        made.check_metric()
        return made

    _parts: dict[Part, tuple[pd.DataFrame, np.ndarray]]
    _keep: tuple[str, ...] = ()
    _found: list[Column]

    def whole(self) -> Self:
        """The same table with all its rows in the training part, for a last fit after the choice.

        The columns are read anew, off all rows.
        """
        made = super().whole()
        made.__dict__.pop("contract", None)  # of the training part alone
        made._found = usable_columns(made.part("train")[0], str(self.target), self._keep)
        apart = [item for item in self.columns if item["kind"] in ("target", "dropped")]
        made.columns = [apart[0], *(column.report() for column in made._found), *apart[1:]]
        return made

    def told(self, learner: Any) -> dict[str, Any]:
        """What `fit` of a learner is told of the task beside rows, whatever part they are."""
        keep = {"keep": self._keep} if self._keep and wants(learner, "keep") else {}
        return super().told(learner) | keep

    def _known_of_data(self, learner: Any) -> dict[str, Any]:
        return {"columns": self._found} if wants(learner, "columns") else {}

    def importance(self, learner: Any, *, seconds: float | None = None) -> list[dict[str, Any]]:
        """Which columns a fitted learner uses; see `permutation_importance`."""
        return permutation_importance(learner, self, seconds=seconds)

    def columns_of(self, learner: Any) -> list[dict[str, str]]:
        """`columns` as a fitted learner reads them: its knobs may take some otherwise."""
        contract = getattr(learner, "contract_", None)
        read = {} if contract is None else {c.name: c.report() for c in contract.columns}
        return [read.get(item["column"], item) for item in self.columns]

    @cached_property
    def contract(self) -> FeatureContract:
        """The features, fitted on the training part."""
        return FeatureContract().fit(self._parts["train"][0], columns=self._found)

    def batches(
        self, part: Part, *, model: Any = None, batch_size: int | None = None, seed: int = 0
    ) -> ArrayBatches:
        """The rows of a part: `numeric` (B, n_numeric) float32, `categorical` (B, n_categorical)
        int64 and `target` (B,) float32, or int64 class numbers.
        """
        if getattr(getattr(model, "config", None), "model_type", ""):
            raise DataError(f"{type(model).__name__} takes text or images, not rows of a table")
        X, y = self.part(part)
        arrays = self.contract.transform(X)
        tensors = {
            "numeric": torch.from_numpy(arrays.numeric),
            "categorical": torch.from_numpy(arrays.categorical),
            "target": self._target(y),
        }
        return ArrayBatches(tensors, batch_size or 256, seed=seed)

    def _target(self, y: np.ndarray) -> Tensor:
        if self.classes is None:
            return torch.from_numpy(y.astype(np.float32))
        return torch.from_numpy(class_codes(y, self.classes))

    def loss(self, model: torch.nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Squared error, or cross entropy of class scores; the mean over members where there are.

        The model maps `numeric` and `categorical` to (B, outputs) or, with k members,
        (B, k, outputs).
        """
        output = model(numeric=batch["numeric"], categorical=batch["categorical"])
        members = output if output.ndim == 3 else output[:, None]
        target = batch["target"][:, None].expand(members.shape[:2])
        if self.classes is None:
            return torch.nn.functional.mse_loss(members[..., 0], target)
        return torch.nn.functional.cross_entropy(members.flatten(0, 1), target.flatten())

    @classmethod
    def shows(cls, runs: Sequence[RunLike], data: Mapping[str, Any]) -> Findings:
        """How the errors of finished runs lie; see `stackwise.tasks.table.showing`."""
        return showing.shows(runs, data)

    @classmethod
    def small(cls, problem: str | None = None) -> "TableTask":
        """120 rows of a number, a number with gaps and a category; see `small_table`."""
        X, y = small_table(problem)
        return cls.load(X.assign(target=y), target="target")

    def describe(self) -> dict[str, Any]:
        """What a run records about its data, as JSON."""
        return super().describe() | {"features": self._parts["train"][0].shape[1]}


def _listed(names: Sequence[str] | str) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
