"""What every estimator on samples with a target shares: its target, weights, and what it holds out.

A kind of data says how its samples come in (`_read_samples`) and what is learned about them before
anything learns from them (`_learn_features`); a method says how it learns (`_fit_parts`) and how
its own state is kept (`_write`, `_read`); `NumberTarget` and `ClassTarget`
(`stackwise.learning.targets`) say what the target is.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from stackwise.catalog import Knob
from stackwise.errors import DataError
from stackwise.learning.labelled_rows import (
    LabelledRows,
    in_reach,
    read_labels,
    read_weight,
    taken,
    validation_rows,
)
from stackwise.learning.learner import Learner
from stackwise.protocols import Task

if TYPE_CHECKING:
    from stackwise.learning.metrics import Metric


def held_out_knobs(
    *,
    validation: Annotated[
        float, Knob("part of the rows that decides when to stop; 0 = none", ge=0, lt=1)
    ] = 0.2,
    min_steps: Annotated[
        int,
        Knob("steps that are allowed at least: few rows take more passes than max_epochs", ge=0),
    ] = 0,
) -> None:
    """The knobs of every network on samples with a target."""


class LabelledEstimator(Learner):
    """An estimator on samples with a target.

    Fitted attributes are those of `Learner`, of its target and of its kind of data.
    """

    standardises: ClassVar[bool] = False
    """Whether it brings a target of any size to its own scale; else the base does where needed."""

    _watched: "Metric | None" = None

    if TYPE_CHECKING:  # what a target brings, which is mixed in (`stackwise.learning.targets`)
        classes_: np.ndarray
        target_mean_: float
        target_scale_: float
        _by_class: ClassVar[bool]

        @property
        def n_outputs_(self) -> int: ...
        def _read_target(self, y: Any) -> np.ndarray: ...
        def _learn_target(self, labels: np.ndarray) -> None: ...
        def _settle_scale(self, target: np.ndarray) -> None: ...
        def _in_unit(self, target: np.ndarray) -> np.ndarray: ...
        def _known(self, labels: np.ndarray) -> np.ndarray: ...
        def _encode(self, labels: np.ndarray) -> np.ndarray: ...
        def _class_weights(self, labels: np.ndarray) -> np.ndarray: ...
        def _target_json(self) -> dict[str, Any]: ...
        def _read_target_json(self, record: dict[str, Any]) -> None: ...

    def _read_samples(self, X: Any, *, fit: bool) -> Any:
        """The samples in a form of which rows can be taken; in `fit` their form is remembered.

        Raises:
            DataError: they cannot be used; the sentence says why.
        """
        raise DataError(f"{type(self).__name__} does not say what it reads")

    def _learn_features(self, train: LabelledRows, *, whole: bool, **told: Any) -> None:
        """Find out what the training rows hold.

        Args:
            whole: these are all rows that were given.
            told: what a task says about its data, as arguments of `fit`.
        """

    def _fit_parts(self, train: LabelledRows, held: LabelledRows | None) -> None:
        """Learn from rows that are read; `held` says when to stop."""
        raise DataError(f"{type(self).__name__} does not say how it learns")

    def _fit_samples(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        validation: tuple[Any, Any] | None,
        metric: "Metric | None",
        **told: Any,
    ) -> Self:
        """The steps of every `fit`, whose arguments are said there; a task alone fits it."""
        if y is None and isinstance(X, Task):
            X.fit(self)
            return self
        self._begin()
        self._watched = metric
        samples = self._read_samples(X, fit=True)
        labels = read_labels(self, y, len(samples))
        weight = read_weight(sample_weight, len(labels))
        self._learn_target(labels[weight > 0])
        rows = np.flatnonzero(weight > 0)
        known = LabelledRows(samples, np.empty(len(labels)), weight).take(rows)
        known.target = self._encode(labels[rows])
        known.weight = in_reach(known.weight * self._class_weights(labels[rows]))
        train, held = self._split(known, validation)
        self._settle_scale(train.target)
        if not self.standardises:
            train.target = self._in_unit(train.target)
            if held is not None:
                held.target = self._in_unit(held.target)
        self._learn_features(train, whole=len(train.target) == len(labels), **told)
        self._fit_parts(train, held)
        return self

    def whole_knobs(self) -> dict[str, Any] | None:
        """Of a fitted learner, the knobs with which it is fitted on all rows, the validation rows
        too: the budget that these chose, and no stop. None where it cannot be fitted without them.
        """
        return None

    def trained_part(self, X: Any, y: Any) -> LabelledRows:
        """The rows of `X` and `y`, read as a fitted estimator reads them."""
        check_is_fitted(self, self.fitted)
        samples, labels = self._rows(X, y)
        return LabelledRows(samples, self._encode(labels), self._class_weights(labels))

    def _write(self, folder: Path) -> dict[str, Any]:
        return {"target": self._target_json()}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        self._read_target_json(record["target"])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def _split(
        self, known: LabelledRows, given: tuple[Any, Any] | None
    ) -> tuple[LabelledRows, LabelledRows | None]:
        """The rows to learn from and those that decide when to stop (None where there are none)."""
        if given is not None:
            held = self._known_rows(given, "validation")
            return known, held if len(held.target) else None
        share = getattr(self, "validation", 0.0)
        out = validation_rows(known.target, share, self._by_class, self.seed_)
        if not out.any():
            if share:
                self.notes_.append("too few rows for a validation part: trained without stopping")
            return known, None
        return known.take(np.flatnonzero(~out)), known.take(np.flatnonzero(out))

    def _known_rows(self, given: tuple[Any, Any], name: str) -> LabelledRows:
        """Read rows that come beside the training rows; classes never seen there are left out."""
        samples, labels = self._rows(*given)
        known = self._known(labels)
        if not known.all():
            self.notes_.append(
                f"{int((~known).sum())} {name} rows of a class that training lacks were left out"
            )
            samples = taken(samples, np.flatnonzero(known))
            labels = labels[known]
        return LabelledRows(samples, self._encode(labels), in_reach(self._class_weights(labels)))

    def _rows(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        samples = self._read_samples(X, fit=False)
        labels = self._read_target(y)
        if len(labels) != len(samples):
            raise DataError(f"X has {len(samples)} rows and y has {len(labels)}; they must agree")
        return samples, labels
