"""What every estimator shares that trains a network on samples with a target.

The split into training and validation rows, the standardised target, the training loop with early
stopping on the validation score of the mean prediction, prediction, saving, and handing itself to
transforms. A kind of data says how samples become what its networks take (`_features`, `_inputs`),
a method which network it builds.

Regression targets are standardised with mean and standard deviation of the training rows;
classifiers use cross-entropy, with two logits also for two classes. A classifier whose network
gives margins (`outputs.MarginHead`) has `decision_function` in place of `predict_proba`.
"""

import copy
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import nn

from stackwise.errors import DataError, ModelError
from stackwise.learning.kept_network import keep_network, network_in
from stackwise.learning.labelled_estimator import LabelledEstimator, held_out_knobs
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.learning.metrics import Metric
from stackwise.learning.network import NetworkLearner
from stackwise.learning.outputs import (
    as_tensors,
    batch_loss,
    margin_head,
    mean_values,
    member_values,
    through_network,
    validation_scores,
)
from stackwise.learning.targets import ClassTarget, NumberTarget
from stackwise.learning.teacher import loss_beside_teacher
from stackwise.learning.trainable import Trainable
from stackwise.training.batches import ArrayBatches
from stackwise.training.knobs import distillation_knobs, training_knobs
from stackwise.training.phases import Phase
from stackwise.training.rules import Backprop, Rule, decays


class LabelledNetwork(NetworkLearner, LabelledEstimator):
    """A neural network on samples with a target.

    Fitted attributes are those of `LabelledEstimator` and of `NetworkLearner`.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (held_out_knobs, training_knobs, distillation_knobs)
    standardises: ClassVar[bool] = True

    def _features(self, samples: Any, *, quietly: bool = False) -> Any:
        """The samples as a network reads them.

        Args:
            quietly: say nothing of what is expected of rows that were held out.
        """
        return samples

    def _inputs(self, features: Any) -> Mapping[str, Any]:
        """What the network is called with, by name: arrays, or what gives tensors by rows."""
        raise ModelError(f"{type(self).__name__} does not say what its network takes")

    def _network(self, features: Any, target: np.ndarray) -> nn.Module:
        """Make the network for training rows; torch's random state is that of the seed.

        Args:
            target: (n,) standardised values, or class codes.
        """
        raise ModelError(f"{type(self).__name__} does not say which network it builds")

    def build_batches(
        self, tensors: dict[str, torch.Tensor], batch_size: int, seed: int
    ) -> ArrayBatches:
        """The training batches: dicts of the network's inputs, `target` and `weight`."""
        return ArrayBatches(tensors, batch_size=batch_size, seed=seed)

    def build_rule(self, **watched: Any) -> Rule:
        """How a step learns: by default `Backprop` on the members' own losses.

        Args:
            watched: `loss`, `validate`, `monitor` and `mode` of the rule.
        """
        return Backprop(**self.rule_options(), **watched)

    def rule_options(self) -> dict[str, Any]:
        """The training knobs as arguments of `Backprop`."""
        return {
            "lr": self.lr, "weight_decay": self.weight_decay, "grad_clip": self.grad_clip,
            "decay": self.decays, "schedule": self.schedule, "warmup": self.warmup,
        }  # fmt: skip

    def build_phases(
        self, batches: ArrayBatches, held: LabelledRows | None, watched: dict[str, Any]
    ) -> list[Phase]:
        """The phases of the fit: by default one of `build_rule`.

        Args:
            held: the validation rows.
            watched: `loss`, `validate`, `monitor` and `mode` of the rules.
        """
        patience = self.patience if held is not None else None
        return [Phase("train", self.build_rule(**watched), batches, self.epochs(batches), patience)]

    def epochs(self, batches: ArrayBatches) -> int:
        """Passes over the rows at most: `max_epochs`, or as many as `min_steps` take."""
        return max(int(self.max_epochs), math.ceil(self.min_steps / max(len(batches), 1)))

    def whole_knobs(self) -> dict[str, Any] | None:
        """The epochs that were kept, where the learning rate does not depend on their number."""
        phases = {line.get("phase") for line in self.history_}
        if self.schedule != "constant" or self.warmup or len(phases) > 1 or self.best_epoch_ < 1:
            return None
        return {"max_epochs": self.best_epoch_, "min_steps": 0, "patience": None, "validation": 0.0}

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Whether weight decay pulls at this parameter: not at biases and scales."""
        return decays(name, parameter)

    def predict_members(self, X: Any) -> np.ndarray:
        """The predictions of each member.

        Returns:
            (n, k, C): probabilities or margins, or for regression (n, k, 1) values; k = 1 for one
            network.
        """
        check_is_fitted(self, "network_")
        found = self._outputs(X, partial(member_values, classes=self._gives_logits(self.network_)))
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
        features = self._features(train_part.samples, quietly=True)
        tensors = self._tensors(features, train_part)
        size = batch_size or self._batch_size(len(train_part.target))
        batches = self.build_batches(tensors, size, self.seed_ if seed is None else seed)
        validate, monitor = self._validation(held, self.network_)
        return Trainable(
            model=copy.deepcopy(self.network_), batches=batches, loss=batch_loss,
            validate=validate, monitor=monitor, mode=self._mode(), finish=self.with_network,
        )  # fmt: skip

    def _fit_parts(self, train: LabelledRows, held: LabelledRows | None) -> None:
        seed = self.seed_
        features = self._features(train.samples)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self._network(features, self._standard(train.target))
        tensors = self._tensors(features, train)
        if self._watched is not None and self._watched.needs_probability:
            self._check_probabilities(network, self._watched.name)
        loss, taught = loss_beside_teacher(self, train)
        batches = self.build_batches(tensors | taught, self._batch_size(len(train.target)), seed)
        validate, monitor = self._validation(held, network)
        watched = {"loss": loss, "validate": validate, "monitor": monitor, "mode": self._mode()}
        trained = self.train(network, self.build_phases(batches, held, watched))
        self.network_ = trained.model.eval()

    def varies_samples(self) -> bool:
        """Whether `build_batches` gives a sample in another form each time."""
        return False

    def samples_of(self, inputs: dict[str, torch.Tensor]) -> Any:
        """What the network is called with as samples again; asked where samples vary."""
        raise ModelError(f"{type(self).__name__} varies its samples and cannot read them back")

    def inputs_of_module(self, module: nn.Module, samples: Any) -> Mapping[str, Any]:
        """What a bare module is called with that teaches: what the network itself is."""
        return self._inputs(self._features(samples, quietly=True))

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

    def _tensors(self, features: Any, part: LabelledRows) -> dict[str, torch.Tensor]:
        """The training rows as tensors; weights are scaled to a mean of 1."""
        target = torch.as_tensor(self._standard(part.target))
        return as_tensors(self._inputs(features)) | {
            "target": target if self._by_class else target.float(),
            "weight": torch.as_tensor(part.weight / part.weight.mean()).float(),
        }

    def _gives_logits(self, network: nn.Module) -> bool:
        """Whether a network's outputs become probabilities by a softmax."""
        return self._by_class and margin_head(network) is None

    def _check_probabilities(self, network: nn.Module, metric: str) -> None:
        """Refuse a metric of probabilities where there are margins.

        Raises:
            DataError: it cannot be had from this network.
        """
        if self._by_class and not self._gives_logits(network):
            raise DataError(
                f"{metric} needs probabilities and this {type(self).__name__} gives margins; take "
                "a metric of the predicted classes, such as accuracy"
            )

    def _validation(self, held: LabelledRows | None, network: nn.Module) -> tuple[Any, str | None]:
        """The function that judges a network on the held-out rows, and the score to watch."""
        if held is None:
            return None, None
        features = self._features(held.samples, quietly=True)
        logits = self._gives_logits(network)
        reduce = partial(mean_values, classes=logits)
        judge = partial(
            validation_scores, target=self._standard(held.target), weight=held.weight,
            classes=self._by_class, scale=1.0 if self._by_class else self.target_scale_,
        )  # fmt: skip

        watched = self._watched

        def validate(network: nn.Module) -> dict[str, float]:
            mean = self._put_through(network, features, reduce)
            scores = judge(mean, head=margin_head(network))
            if watched is None:
                return scores
            return scores | {watched.name: self._watched_score(watched, mean, held)}

        loss = ("log_loss" if logits else "margin_loss") if self._by_class else "rmse"
        return validate, loss if watched is None else watched.name

    def _watched_score(self, metric: Metric, mean: np.ndarray, held: LabelledRows) -> float:
        """The user's own metric of (n, C) probabilities or margins, or of (n, 1) standard values
        of a number.
        """
        assert metric.function is not None
        if not self._by_class:
            values = mean[:, 0] * self.target_scale_ + self.target_mean_
            return float(metric.function(held.target, values))
        if metric.needs_probability:
            return float(metric.function(held.target, mean))
        return float(metric.function(self.classes_[held.target], self.classes_[mean.argmax(1)]))

    def _parts_of(self, data: Any) -> tuple[LabelledRows, LabelledRows | None]:
        if hasattr(data, "part"):
            held = self._known_rows(data.part("validation"), "validation")
            return self.trained_part(*data.part("train")), held if len(held.target) else None
        if not isinstance(data, tuple) or len(data) != 2:
            raise DataError(
                f"a {type(self).__name__} trains on (X, y) or on a loaded task, not on a "
                f"{type(data).__name__}"
            )
        return self._split(self.trained_part(*data), None)

    def _outputs(self, X: Any, reduce: Any) -> np.ndarray:
        check_is_fitted(self, "network_")
        return self._put_through(self.network_, self._asked(X), reduce)

    def _put_through(self, network: nn.Module, features: Any, reduce: Any) -> np.ndarray:
        """What `reduce` keeps of a network's outputs of all rows; see `through_network`."""
        return through_network(network, self._inputs(features), reduce)

    def _asked(self, X: Any) -> Any:
        """The samples of a user as features."""
        return self._features(self._read_samples(X, fit=False))

    def _mean(self, X: Any) -> np.ndarray:
        """(n, C) mean probabilities or margins, or (n, 1) standardised values."""
        check_is_fitted(self, "network_")
        return self._outputs(X, partial(mean_values, classes=self._gives_logits(self.network_)))

    def _write(self, folder: Path) -> dict[str, Any]:
        return super()._write(folder) | self._write_network(folder) | {
            "history": self.history_,
            "best_epoch": self.best_epoch_,
        }  # fmt: skip

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        self.network_ = self._read_network(folder, record).eval()
        self.history_ = record["history"]
        self.best_epoch_ = record["best_epoch"]

    def _write_network(self, folder: Path) -> dict[str, Any]:
        """Write the network; returns what `model.json` keeps of it."""
        return {"network": keep_network(self.network_, folder)}

    def _read_network(self, folder: Path, record: Mapping[str, Any]) -> nn.Module:
        """The inverse of `_write_network`; `record` is the content of `model.json`."""
        return network_in(folder, record["network"])


class PredictsNumbers(NumberTarget, LabelledNetwork):
    """A network's answer is a number."""

    def predict(self, X: Any) -> np.ndarray:
        """(n,) float64 predictions, in the target's own unit."""
        return np.asarray(self._mean(X)[:, 0] * self.target_scale_ + self.target_mean_)


def _has_probabilities(learner: Any) -> bool:
    """Whether a classifier has `predict_proba`: all but those whose network gives margins.

    Raises:
        AttributeError: it has not; the sentence says what else there is.
    """
    network = getattr(learner, "network_", None)
    if network is not None and margin_head(network) is not None:
        raise AttributeError(
            f"this {type(learner).__name__} gives margins, not probabilities: ask its "
            "decision_function, or wrap it in scikit-learn's CalibratedClassifierCV"
        )
    return True


def _has_margins(learner: Any) -> bool:
    network = getattr(learner, "network_", None)
    return network is not None and margin_head(network) is not None


class PredictsClasses(ClassTarget, LabelledNetwork):
    """A network's answer is a class: the one of the largest probability, or margin."""

    def predict(self, X: Any) -> np.ndarray:
        """(n,) the class of the largest probability or margin of each row."""
        if not _has_margins(self):
            return super().predict(X)
        margins = self._mean(X)
        return np.asarray(self.classes_[margins.argmax(1)])

    @available_if(_has_margins)
    def decision_function(self, X: Any) -> np.ndarray:
        """(n, C) float64 margins in the order of `classes_`; the largest decides.

        Of two classes, as scikit-learn has it, (n,): half of what the second margin is above the
        first, which is the second where they are each other's negative.
        """
        margins = self._mean(X)
        return margins if margins.shape[1] > 2 else (margins[:, 1] - margins[:, 0]) / 2

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, C) float64 probabilities, in the order of `classes_`."""
        return np.asarray(self._mean(X))


AUTO_BATCH_SIZES = ((128, 6_000), (256, 30_000), (512, 110_000))
"""Batch size for at most this many training rows, 1,024 beyond. The experiments of arXiv 2410.24210
fix a size for each data set, near these but not by a rule: 128 at about 6,000 rows, 256 at 13,000
to 26,000, 512 at 35,000 to 107,000, and 1,024 above."""
