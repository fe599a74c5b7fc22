"""Linear models on a table: ridge and logistic regression with a penalty chosen on the data.

Numbers are standardised and categories one-hot, in sparse rows. The penalty is the one with the
lowest loss in cross-validation, by folds that no seed moves; the model is then fitted on all rows.
`RidgeCV` would judge by leaving single rows out, which takes 16 s at 100,000 rows of 525 columns
and does not fit into memory at 8,000; a grid over Ridge takes 1 s and 3 s. Under a time limit
fewer penalties are tried and the solver takes fewer steps, which a note says.
"""

import math
import time
import warnings
from typing import Annotated, Any, ClassVar

import numpy as np
from scipy.sparse import csr_array, hstack
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, make_scorer, root_mean_squared_error
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.validation import check_is_fitted
from torch import nn

from stackwise.catalog import Knob, baseline
from stackwise.errors import DataError
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.learning.targets import ClassTarget, NumberTarget, class_knobs
from stackwise.tasks.labelled.folds import make_folds
from stackwise.tasks.table.estimators.estimator import TableEstimator, table_knobs
from stackwise.tasks.table.estimators.kept import SkopsKept, computing_with
from stackwise.tasks.table.features.contract import FeatureContract, TableArrays
from stackwise.training.session import current_session

CHOOSING_ROWS = 20_000
"""Rows on which the linear models choose their penalty; they are fitted on all."""

PENALTIES = np.logspace(-3, 3, 13)

FIRST_STEPS = 10
"""Steps of the solver that are taken to see how long they last, where there is a time limit."""
LEAST = 1.0
"""Seconds that a fit may take at any rate: on a small table that is all, and nothing is cut."""


def linear_knobs(
    *,
    penalty: Annotated[
        float | None,
        Knob(
            "strength of the squared penalty; none = chosen by cross-validation",
            gt=0,
            log=True,
            search=(1e-3, 1e3),
        ),
    ] = None,
    folds: Annotated[int, Knob("folds that choose the penalty", ge=2, le=20)] = 3,
    max_steps: Annotated[int, Knob("steps of the solver at most", ge=1)] = 300,
    threads: Annotated[int | None, Knob("threads to compute with", ge=1)] = None,
    random_state: Annotated[int | None, Knob("seed of everything random", ge=0)] = 0,
) -> None:
    """The knobs of the linear models."""


class LinearModel(SkopsKept):
    """A linear model with a squared penalty. Fitted: `penalty_`, the strength that was chosen."""

    budget: ClassVar[str | None] = "max_steps"
    shared_knobs: ClassVar[tuple[Any, ...]] = (linear_knobs,)

    def _matrix(self, samples: Any) -> Any:
        """(n, d) features of samples, as an array or in sparse rows."""
        raise DataError(f"{type(self).__name__} does not say what its features are")

    def _fit_parts(self, train_part: LabelledRows, held: LabelledRows | None) -> None:
        features = self._matrix(train_part.samples)
        left = current_session().seconds_left()
        end = math.inf if left is None else time.monotonic() + max(left, LEAST)
        with computing_with(self.threads), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # said in a note
            self.penalty_ = self.penalty or self._choose(features, train_part, end)
            self.estimator_, steps = self._solved(features, train_part, self.penalty_, end)
        if steps < self.max_steps:
            self.notes_.append(
                f"the time limit ended the solver after {steps} of at most {self.max_steps} "
                "steps; more time may help"
            )
        elif not _settled(self.estimator_, steps):
            self.notes_.append(
                f"the solver stopped after {steps} steps, before its weights had settled"
            )

    def whole_knobs(self) -> dict[str, Any]:
        """Those that it has: it chooses its penalty without validation rows."""
        return {}

    def _model(self, penalty: float, steps: int) -> Any:
        if self._by_class:
            return LogisticRegression(C=1 / penalty, max_iter=steps)
        return Ridge(penalty, solver="sparse_cg", tol=1e-6, max_iter=steps)

    def _solved(
        self, features: Any, part: LabelledRows, penalty: float, end: float
    ) -> tuple[Any, int]:
        """A model fitted until `end` (`time.monotonic()`), and the steps that it was allowed.

        The solvers cannot be stopped from outside: with an end they begin anew with four times
        the steps while that fits, so that a limit that is long enough changes no weight.
        """
        steps = self.max_steps if math.isinf(end) else min(FIRST_STEPS, self.max_steps)
        while True:
            began = time.monotonic()
            model = self._model(penalty, steps)
            model.fit(features, part.target, sample_weight=part.weight)
            now = time.monotonic()
            more = min(4 * steps, self.max_steps)
            if more == steps or (self._by_class and _settled(model, steps)):
                return model, self.max_steps
            if now + (now - began) * more / steps > end:
                return model, steps
            steps = more

    def _choose(self, features: Any, part: LabelledRows, end: float) -> float:
        """The penalty with the lowest loss in cross-validation on (some of) the rows.

        It takes half of the time until `end` at most; the middle of the grid comes first.
        """
        rows = np.random.default_rng(0).permutation(len(part.target))[:CHOOSING_ROWS]
        known = part.take(rows)
        try:
            folds = make_folds(self.folds, known.target, by_class=self._by_class)
        except DataError:  # too few rows to choose by
            return 1.0
        loss = (
            make_scorer(
                log_loss,
                greater_is_better=False,
                response_method="predict_proba",
                labels=np.unique(known.target),
            )
            if self._by_class
            else make_scorer(root_mean_squared_error, greater_is_better=False)
        )
        took, until = 0.0, math.inf
        if not math.isinf(end):  # one fit says what a penalty will cost
            began = time.monotonic()
            until = (began + end) / 2
            _, steps = self._solved(features, part, 1.0, until)
            cut = steps < self.max_steps
            took = math.inf if cut else self.folds * (time.monotonic() - began)
        scores: dict[float, float] = {}
        for penalty in sorted(PENALTIES, key=lambda one: abs(math.log(one))):
            began = time.monotonic()
            if began + took > until:
                break
            with config_context(enable_metadata_routing=True):  # weights count in fit and judging
                found = cross_val_score(
                    self._model(penalty, self.max_steps).set_fit_request(sample_weight=True),
                    features[rows], known.target, cv=folds, error_score="raise",
                    scoring=loss.set_score_request(sample_weight=True),
                    params={"sample_weight": known.weight},
                )  # fmt: skip
            scores[float(penalty)] = found.mean()
            took = 0.0 if math.isinf(end) else time.monotonic() - began
        if len(scores) < len(PENALTIES):
            self.notes_.append(
                f"the time limit allowed {len(scores)} of {len(PENALTIES)} penalties to be tried"
            )
        return max(sorted(scores), key=scores.__getitem__, default=1.0)


class LinearClasses(ClassTarget, LinearModel):
    """A linear model whose answer is a class."""

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, C) probabilities, in the order of `classes_`."""
        check_is_fitted(self, "estimator_")
        features = self._matrix(self._read_samples(X, fit=False))
        return np.asarray(self.estimator_.predict_proba(features))


class LinearNumbers(NumberTarget, LinearModel):
    """A linear model whose answer is a number."""

    def predict(self, X: Any) -> np.ndarray:
        """(n,) float64 predictions."""
        check_is_fitted(self, "estimator_")
        features = self._matrix(self._read_samples(X, fit=False))
        return self._in_own_unit(np.asarray(self.estimator_.predict(features)))


def _settled(model: Any, steps: int) -> bool:
    """Whether the solver ended by itself; of ridge regression scikit-learn does not tell."""
    taken = getattr(model, "n_iter_", None)
    return taken is None or np.max(taken) < steps


class LinearLearner(LinearModel, TableEstimator):
    """A linear model on a table."""

    exporter: ClassVar[str | None] = "stackwise.tasks.table.estimators.export:export"
    shared_knobs: ClassVar[tuple[Any, ...]] = (linear_knobs, table_knobs)

    def as_tensors(self) -> nn.Module:
        """The weights as a module of tensors, for export."""
        from stackwise.tasks.table.baselines.tensors import LinearTensors

        return LinearTensors(self)

    def _matrix(self, samples: Any) -> csr_array:
        return one_hot_rows(self.contract_, self.contract_.transform(samples))


def one_hot_rows(contract: FeatureContract, arrays: TableArrays) -> csr_array:
    """(n, n_numeric + sum of cardinalities): numbers and one-hot codes; unseen is all zeros."""
    numbers = csr_array(arrays.numeric.astype(np.float64))
    if not contract.cardinalities:
        return numbers
    encoder = OneHotEncoder(
        categories=[np.arange(size) for size in contract.cardinalities], handle_unknown="ignore"
    )
    return csr_array(hstack([numbers, encoder.fit_transform(arrays.categorical)], format="csr"))


_LINEAR: dict[str, Any] = {
    "title": "Linear model (ridge or logistic regression)",
    "training": {"preprocess": "standard"},
    "presets": {
        "quick": {"folds": 2, "max_steps": 100},
        "standard": {},
        "best": {"folds": 5, "max_steps": 2000, "preprocess": "quantile"},
    },
}


@baseline("linear", problem="regression", **_LINEAR)
class LinearRegressor(LinearNumbers, LinearLearner):
    """Ridge regression on scaled numbers and one-hot categories, its penalty cross-validated."""

    def __init__(self) -> None:
        """A linear model for a number."""


@baseline("linear", problem="classification", **_LINEAR)
class LinearClassifier(LinearClasses, LinearLearner):
    """Logistic regression on scaled numbers and one-hot categories, its penalty cross-validated."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (linear_knobs, table_knobs, class_knobs)

    def __init__(self) -> None:
        """A linear model for a class."""
