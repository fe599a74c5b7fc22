"""What tasks on whole samples (pictures, texts) do alike once these are read and parted."""

from collections.abc import Callable
from typing import Any, Self, cast

from stackwise.learning.metrics import Metric, Problem, metric_for
from stackwise.tasks.labelled.choosing import FOLDS
from stackwise.tasks.labelled.parting import Loaded, fingerprint
from stackwise.tasks.labelled.task import LabelledTask

FEW = 500
"""Fewer training and validation samples than this choose by folds: with more, copies of a network
over folds would cost more than they tell."""


class SampleTask(LabelledTask):
    """Samples with a class or a number each, parted into training, validation and test."""

    @classmethod
    def of_parts(
        cls,
        loaded: Loaded,
        *,
        title: str,
        target: str | None,
        metric: str | Metric | None,
        options: Callable[[str | None], dict[str, Any]],
    ) -> Self:
        """The task of these parts; accuracy decides, of numbers rmse, where no metric is named.

        Args:
            options: the name of a metric that was given -> what else was given, for a record.

        Raises:
            DataError: the metric has no value on these parts.
        """
        made = cls()
        made.title, made.target = title, target
        if loaded.classes is None:
            made.problem, usual = cast(Problem, "regression"), "rmse"
        else:
            kind = "binary" if len(loaded.classes) == 2 else "multiclass"
            made.problem, usual = cast(Problem, kind), "accuracy"
        made.metric = metric_for(made.problem, metric or usual)
        made.watched = None if metric is None else made.metric
        made.options = options(made.metric.name if metric else None)
        made._parts, made._groups = dict(loaded.parts), loaded.groups
        made.classes, made.notes = loaded.classes, loaded.notes
        made.data_hash = fingerprint(loaded.parts, made.options)
        made.check_metric()
        return made

    @property
    def choosing_folds(self) -> int | None:
        """Into how many folds samples are parted to choose a method."""
        found = super().choosing_folds
        rows = sum(len(self._parts[part][1]) for part in ("train", "validation"))
        return FOLDS if found is not None and rows < FEW else None
