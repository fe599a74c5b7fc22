"""The series task: predict the class or a number of a whole series, or what comes next.

task = SeriesTask.load("engines.ts")                              a class, or a number, a series
task = SeriesTask.load("load.csv", target="load", horizon=24)     the value 24 moments ahead
X, y = task.part("train")                                         X holds `Series`
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.catalog import Knob, task
from stackwise.findings import Findings
from stackwise.learning.metrics import Metric
from stackwise.learning.row_blocks import output_of
from stackwise.protocols import Judged, Part, RunLike
from stackwise.tasks.labelled.classes_shown import shown_classes
from stackwise.tasks.labelled.samples import SampleTask
from stackwise.tasks.labelled.task import class_codes
from stackwise.tasks.series.estimators.values import PaddedSeries, statistics
from stackwise.tasks.series.loading import Choices, load_parts
from stackwise.tasks.series.marks import recognises
from stackwise.tasks.series.modules import ModuleOnSeries
from stackwise.tasks.series.series import Series
from stackwise.tasks.series.small import small_series
from stackwise.tasks.series.writing import answer_rows, write_predictions
from stackwise.tasks.table.loading import title_of
from stackwise.training.batches import ArrayBatches


@task(
    title="Series of measurements, a class, a number or the next value of each to predict",
    recognises=recognises,
    sample="engines.ts",
)
class SeriesTask(SampleTask):
    """Series with a class or a number each, parted into training, validation and test."""

    name: ClassVar[str] = "series"
    ending: ClassVar[str] = "csv"
    write_predictions = staticmethod(write_predictions)
    answer_rows = staticmethod(answer_rows)

    @classmethod
    def load(
        cls,
        source: Any,
        *,
        target: Annotated[
            str | None, Knob("the column to predict; with --horizon a channel", role=True)
        ] = None,
        series: Annotated[
            str | None, Knob("the column that names the series, where a row is a moment")
        ] = None,
        time: Annotated[str | None, Knob("the column of time, where rows are not in order")] = None,
        horizon: Annotated[
            int | None, Knob("forecast: so many moments ahead; else one answer a series", ge=1)
        ] = None,
        window: Annotated[int, Knob("moments that a forecast looks back on", ge=1)] = 64,
        problem: Annotated[
            Literal["auto", "classification", "regression"],
            Knob("what the target is, where the source leaves it open"),
        ] = "auto",
        group: Annotated[str | None, Knob("rows with equal values stay in one part")] = None,
        validation: Annotated[float | str | Any, Knob("share of the rows, or a source")] = 0.2,
        test: Annotated[float | str | Any, Knob("share of the rows, or a source")] = 0.2,
        metric: Annotated[
            str | Metric | None, Knob("what better means: accuracy, rmse, log_loss, ...")
        ] = None,
        max_rows: Annotated[int | None, Knob("train on at most this many rows")] = None,
        split_seed: Annotated[int, Knob("of the split", ge=0)] = 0,
    ) -> "SeriesTask":
        """Read series and part them.

        Args:
            source: a `.ts` file (X_TRAIN.ts takes X_TEST.ts beside it as the test part), or a
                folder of one such pair; a csv, parquet, arrow or json-lines table, long or wide
                (`reading.tables`); .npz, .npy; the name of a data set; in Python a frame, an
                array (n, channels, length), a list of arrays, or (series, targets).
            target: the column to predict, `label` or the like by default; with `horizon` the
                channel that is forecast.
            series: of a table whose rows are moments, the column that names the series.
            time: of such a table, the column that says the order of the moments.
            horizon: what is predicted is the value so many moments after a window of `window`; the
                parts then follow each other in time.
            problem: whether a target of numbers is one of classes.
            group: series with equal values of this column stay in one part.
            validation: share of all series, or a source of its own.
            test: the same.
            metric: the score that decides; accuracy or rmse by default.
            max_rows: train on at most this many series, drawn at random.
            split_seed: of the split. Each part has its share of each class.

        Raises:
            DataError: one sentence about what cannot be used, and what would be right.
        """
        choices = Choices(
            target=target, group=group, validation=validation, test=test, max_rows=max_rows,
            split_seed=split_seed, series=series, time=time, horizon=horizon, window=window,
            problem=problem,
        )  # fmt: skip
        loaded = load_parts(source, choices)
        title = "series" if isinstance(source, tuple) else title_of(source)
        return cls.of_parts(
            loaded, title=title, target=target, metric=metric, options=choices.as_options
        )

    def batches(
        self, part: Part, *, model: Any = None, batch_size: int | None = None, seed: int = 0
    ) -> ArrayBatches:
        """The series of a part: `values` (B, C, L) float32 on the scale of training, `lengths` (B,)
        and `target` (B,), class numbers or numbers.
        """
        series, y = self.part(part)
        padded = self._padded(series)
        tensors: dict[str, Any] = dict(padded.padded(range(len(padded)), padded.usual))
        if self.classes is None:
            tensors["target"] = torch.from_numpy(y).float()
        else:
            tensors["target"] = torch.from_numpy(class_codes(y, self.classes))
        return ArrayBatches(tensors, batch_size or 32, seed=seed)

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy of (B, C) logits, or the mean squared error of (B, 1) numbers."""
        output = output_of(model, {name: batch[name] for name in ("values", "lengths")}).float()
        if self.classes is None:
            return functional.mse_loss(output[:, 0], batch["target"])
        return functional.cross_entropy(output, batch["target"])

    def judge(self, learner: Any, part: Part) -> Judged:
        """Score a fitted learner, or a module that was trained on this task's batches."""
        if isinstance(learner, nn.Module):
            learner = ModuleOnSeries(learner, self.classes, self._padded)
        return super().judge(learner, part)

    @classmethod
    def shows(cls, runs: Sequence[RunLike], data: Mapping[str, Any]) -> Findings:
        """Of classes, which are taken for which."""
        if not runs or data.get("problem") == "regression":
            return Findings()
        return shown_classes(runs[0], "series")

    @classmethod
    def small(cls, problem: str | None = None) -> "SeriesTask":
        """60 waves; see `small_series`."""
        return cls.load(small_series(problem))

    def describe(self) -> dict[str, Any]:
        """What a run records about its data, as JSON."""
        _, channels, longest = self._parts["train"][0].shape
        return super().describe() | {"features": channels * longest, "shape": [channels, longest]}

    def _padded(self, series: Series) -> PaddedSeries:
        """Series as a bare module takes them: as wide as the longest of the task."""
        train: Series = self._parts["train"][0]
        mean, std, _ = statistics(train)
        longest = max(part[0].shape[2] for part in self._parts.values())
        return PaddedSeries(series, mean, std, max(longest, series.shape[2]), each=False)
