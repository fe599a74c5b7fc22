"""The scikit-learn estimators that all neural networks on tables share.

A subclass says which network it builds; everything else is here: the split into training and
validation rows, the features, the standardised target, the training loop with early stopping on
the validation score of the mean prediction, prediction, saving, and handing itself to transforms.

    class Plain(TableRegressor):
        def __init__(self, *, width: Annotated[int, Knob("units of a layer", ge=1)] = 64) -> None:
            "A network of one layer."

        def build_network(self, contract, n_outputs):
            return MLP(n_numeric=contract.n_numeric, cardinalities=contract.cardinalities, ...)

Regression targets are standardised with mean and standard deviation of the training rows;
classifiers use cross-entropy, with two logits also for two classes.
"""

import contextlib
import copy
import importlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from stackwise.errors import DataError, ModelError, RunError
from stackwise.sparse_files import load_sparse, save_sparse
from stackwise.tasks.table.contract import FeatureContract, TableArrays
from stackwise.tasks.table.estimator import Part, TableEstimator, table_knobs
from stackwise.tasks.table.metrics import Metric
from stackwise.tasks.table.outputs import (
    batch_loss,
    mean_values,
    member_values,
    through_network,
    validation_scores,
)
from stackwise.tasks.table.targets import ClassTarget, NumberTarget, class_knobs
from stackwise.training.batches import ArrayBatches
from stackwise.training.loop import train_phases
from stackwise.training.phases import Phase
from stackwise.training.rules import Backprop, Rule, decays
from stackwise.training.session import current_session, session
from stackwise.training.trainable import Trainable


class TableNetwork(Protocol):
    """What a network on tables offers.

    `arguments` are its constructor's, as plain JSON: `type(network)(**network.arguments)` is the
    same network before training. An ensemble has its members' count there under `k`.
    """

    arguments: dict[str, Any]

    def forward(self, numeric: torch.Tensor, categorical: torch.Tensor) -> torch.Tensor:
        """(B, n_numeric) float32 and (B, n_categorical) int64 -> (B, C) or (B, k, C)."""
        ...


class TableLearner(TableEstimator):
    """A neural network on a table.

    Fitted attributes, besides those of `TableEstimator`: `network_`, `history_` (one record an
    epoch), `best_epoch_`.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (table_knobs,)

    def build_network(self, contract: FeatureContract, n_outputs: int) -> nn.Module:
        """Make the network, a `TableNetwork`. Subclasses define this."""
        raise ModelError(f"{type(self).__name__} does not say which network it builds")

    def before_build(self, arrays: TableArrays, target: np.ndarray) -> None:
        """See the training rows before the network is made (bins of a number, for example)."""

    def build_batches(
        self, tensors: dict[str, torch.Tensor], batch_size: int, seed: int
    ) -> ArrayBatches:
        """The training batches: dicts of `numeric`, `categorical`, `target` and `weight`."""
        return ArrayBatches(tensors, batch_size=batch_size, seed=seed)

    def build_rule(self, **watched: Any) -> Rule:
        """How a step learns: by default `Backprop` on the members' own losses.

        Args:
            watched: `validate`, `monitor` and `mode` of the rule.
        """
        return Backprop(batch_loss, **self.rule_options(), **watched)

    def rule_options(self) -> dict[str, Any]:
        """The training knobs as arguments of `Backprop`."""
        return {
            "lr": self.lr, "weight_decay": self.weight_decay, "grad_clip": self.grad_clip,
            "decay": self.decays, "schedule": self.schedule, "warmup": self.warmup,
        }  # fmt: skip

    def build_phases(
        self, batches: ArrayBatches, held: Part | None, watched: dict[str, Any]
    ) -> list[Phase]:
        """The phases of the fit: by default one of `build_rule`.

        Args:
            held: the validation rows. watched: `validate`, `monitor` and `mode` of the rules.
        """
        patience = self.patience if held is not None else None
        return [Phase("train", self.build_rule(**watched), batches, self.max_epochs, patience)]

    def in_training(self, network: nn.Module) -> nn.Module:
        """What is trained: the network itself, or something that holds it."""
        return network

    def after_training(self, trained: nn.Module) -> nn.Module:
        """The network of what was trained."""
        return trained

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Whether weight decay pulls at this parameter: not at biases and scales."""
        return decays(name, parameter)

    def precision_of(self, network: nn.Module) -> str:
        """The type of the matrix products in training: what the knob says."""
        return str(self.precision)

    def predict_members(self, X: Any) -> np.ndarray:
        """The predictions of each member.

        Returns:
            (n, k, C): probabilities, or for regression (n, k, 1) values; k = 1 for one network.
        """
        found = self._outputs(X, partial(member_values, classes=self._by_class))
        return found if self._by_class else found * self.target_scale_ + self.target_mean_

    def trainable(
        self, data: Any, *, batch_size: int | None = None, seed: int | None = None
    ) -> Trainable:
        """What a transform needs to go on training the network (a copy of it).

        Args:
            data: a loaded task, whose own training and validation part are used; or (X, y), of
                which the same share is held out as in `fit`.
            batch_size: None takes the one of `fit`.
            seed: of the batches' order; None takes the one of `fit`.
        """
        check_is_fitted(self, "network_")
        train_part, held = self._parts_of(data)
        tensors = self._tensors(self._quietly(train_part.frame), train_part)
        size = batch_size or self._batch_size(len(train_part.target))
        batches = self.build_batches(tensors, size, self.seed_ if seed is None else seed)
        validate, monitor = self._validation(held)
        return Trainable(
            model=copy.deepcopy(self.network_), batches=batches, loss=batch_loss,
            validate=validate, monitor=monitor, mode=self._mode(), finish=self.with_network,
        )  # fmt: skip

    def with_network(self, network: nn.Module) -> Self:
        """A copy of this fitted learner that predicts with another network."""
        check_is_fitted(self, "network_")
        made = copy.copy(self)
        made.network_ = network.eval()
        return made

    def _fit_parts(self, train_part: Part, held: Part | None) -> None:
        seed = self.seed_
        arrays = self.contract_.transform(train_part.frame)
        self.before_build(arrays, self._standard(train_part.target))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self.build_network(self.contract_, self.n_outputs_)
        tensors = self._tensors(arrays, train_part)
        batches = self.build_batches(tensors, self._batch_size(len(arrays)), seed)
        validate, monitor = self._validation(held)
        watched = {"validate": validate, "monitor": monitor, "mode": self._mode()}
        with _threads(self.threads), _told(self.verbose):
            trained = train_phases(
                self.in_training(network), self.build_phases(batches, held, watched), seed=seed,
                precision=self.precision_of(network), device=self.device,
                time_limit=self.time_limit,
            )  # fmt: skip
        self.network_ = self.after_training(trained.model).eval()
        self.history_ = trained.history
        self.best_epoch_ = trained.best_epoch
        if trained.stopped == "time":
            self.notes_.append(
                f"the time limit ended training after {len(trained.history)} of at most "
                f"{self.max_epochs} epochs; more time may help"
            )

    def _mode(self) -> Literal["min", "max"]:
        """Whether less or more of the watched score is better."""
        return "min" if self._watched is None else self._watched.mode

    def _batch_size(self, rows: int) -> int:
        if self.batch_size != "auto":
            return int(self.batch_size)
        return next((size for size, most in AUTO_BATCH_SIZES if rows <= most), 1024)

    def _standard(self, target: np.ndarray) -> np.ndarray:
        """The target as the network learns it."""
        if self._by_class:
            return target
        return np.asarray((target - self.target_mean_) / self.target_scale_)

    def _tensors(self, arrays: TableArrays, part: Part) -> dict[str, torch.Tensor]:
        """The training rows as tensors; weights are scaled to a mean of 1."""
        target = torch.as_tensor(self._standard(part.target))
        return {
            "numeric": torch.as_tensor(arrays.numeric),
            "categorical": torch.as_tensor(arrays.categorical),
            "target": target if self._by_class else target.float(),
            "weight": torch.as_tensor(part.weight / part.weight.mean()).float(),
        }

    def _validation(self, held: Part | None) -> tuple[Any, str | None]:
        """The function that judges a network on the held-out rows, and the score to watch."""
        if held is None:
            return None, None
        arrays = self._quietly(held.frame)
        reduce = partial(mean_values, classes=self._by_class)
        judge = partial(
            validation_scores, target=self._standard(held.target), weight=held.weight,
            classes=self._by_class, scale=1.0 if self._by_class else self.target_scale_,
        )  # fmt: skip

        watched = self._watched

        def validate(network: nn.Module) -> dict[str, float]:
            mean = through_network(network, arrays.numeric, arrays.categorical, reduce)
            if watched is None:
                return judge(mean)
            return judge(mean) | {watched.name: self._watched_score(watched, mean, held)}

        loss = "log_loss" if self._by_class else "rmse"
        return validate, loss if watched is None else watched.name

    def _watched_score(self, metric: Metric, mean: np.ndarray, held: Part) -> float:
        """The user's own metric of (n, C) probabilities or (n, 1) standardised values."""
        assert metric.function is not None
        if not self._by_class:
            values = mean[:, 0] * self.target_scale_ + self.target_mean_
            return float(metric.function(held.target, values))
        if metric.needs_probability:
            return float(metric.function(held.target, mean))
        return float(metric.function(self.classes_[held.target], self.classes_[mean.argmax(1)]))

    def _parts_of(self, data: Any) -> tuple[Part, Part | None]:
        if hasattr(data, "part"):
            held = self._known_rows(data.part("validation"), "validation")
            return self.trained_part(*data.part("train")), held if len(held.target) else None
        if not isinstance(data, tuple) or len(data) != 2:
            raise DataError(
                f"a {type(self).__name__} trains on (X, y) or on a loaded table, not on a "
                f"{type(data).__name__}"
            )
        return self._split(self.trained_part(*data), None)

    def _outputs(self, X: Any, reduce: Any) -> np.ndarray:
        check_is_fitted(self, "network_")
        arrays = self.transform_columns(X)
        return through_network(self.network_, arrays.numeric, arrays.categorical, reduce)

    def _mean(self, X: Any) -> np.ndarray:
        """(n, C) mean probabilities, or (n, 1) standardised values."""
        return self._outputs(X, partial(mean_values, classes=self._by_class))

    def _write(self, folder: Path) -> dict[str, Any]:
        cls = type(self.network_)
        save_sparse(self.network_.state_dict(), folder / "model.safetensors")
        return {
            "network": {
                "class": f"{cls.__module__}:{cls.__qualname__}",
                "arguments": self.network_.arguments,
            },
            "history": self.history_,
            "best_epoch": self.best_epoch_,
        }

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        made = _network_class(type(self), record["network"]["class"])
        network = made(**record["network"]["arguments"])
        try:
            network.load_state_dict(load_sparse(folder / "model.safetensors"))
        except RuntimeError as error:
            raise RunError(f"{folder} holds weights of another network ({error})") from error
        self.network_ = network.eval()
        self.history_ = record["history"]
        self.best_epoch_ = record["best_epoch"]


class TableRegressor(NumberTarget, TableLearner):
    """A neural network that predicts a number from a row of a table."""

    def predict(self, X: Any) -> np.ndarray:
        """(n,) float64 predictions, in the target's own unit."""
        return np.asarray(self._mean(X)[:, 0] * self.target_scale_ + self.target_mean_)


class TableClassifier(ClassTarget, TableLearner):
    """A neural network that predicts a class from a row of a table."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (table_knobs, class_knobs)

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, C) float64 probabilities, in the order of `classes_`."""
        return self._mean(X)


AUTO_BATCH_SIZES = ((128, 6_000), (256, 30_000), (512, 110_000))
"""Batch size for at most this many training rows, as in the experiments of arXiv 2410.24210."""


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Compute with this many threads; None leaves the number as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _told(verbose: bool) -> Iterator[None]:
    """Print a line an epoch, unless a run tells of its progress already."""
    if not verbose or current_session().on_event or current_session().folder:
        yield
        return
    with session(on_event=_print_epoch):
        yield


def _print_epoch(event: dict[str, Any]) -> None:
    if event.get("metrics"):
        scores = "  ".join(f"{name} {value:.5g}" for name, value in event["metrics"].items())
        print(f"epoch {event['epoch']}/{event['max_epochs']}  {scores}", flush=True)


def _network_class(learner: type, path: str) -> type[nn.Module]:
    """The class that a model file names, only from stackwise or the learner's own package."""
    module, _, name = path.partition(":")
    package = learner.__module__.partition(".")[0]
    if module.partition(".")[0] not in ("stackwise", package):
        raise RunError(f"the model file names a network outside of {package}: {path!r}")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise RunError(f"the network {path!r} is not in this installation") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise RunError(f"the model file names {path!r}, which is no network")
    return found
