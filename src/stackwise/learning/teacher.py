"""A teacher that a network learns from: opened, held against the student's target, and asked.

    distill_from=    a run, a fitted estimator (of anyone), or a module

What it answers becomes logits (n, C) in the order of the student's classes, or for a number (n, 1)
in the target's own unit. An estimator is given the student's samples, as they came in; a bare
module what the student's network is given. Of a module whose rows sum to 1 the output is taken for
probabilities, else for logits.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from sklearn.base import is_classifier
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

from stackwise.errors import DataError, ModelError
from stackwise.learning.labelled_rows import LabelledRows, taken
from stackwise.learning.outputs import Distilling, batch_loss
from stackwise.models import open_model
from stackwise.training.distillation import are_probabilities, check_finite, checked_teacher
from stackwise.training.session import current_session

BLOCK = 256
"""Rows that a bare module is asked at once."""


class Teacher:
    """A model that answers rows.

    Attributes:
        model: what was opened.
        classes: (C,) of the student, in its order; None where it predicts a number.
        inputs_of: (module, samples) -> what a bare module is called with, by name.
    """

    def __init__(
        self,
        reference: Any,
        classes: np.ndarray | None,
        inputs_of: Callable[[nn.Module, Any], Mapping[str, Any]],
    ) -> None:
        """Open the teacher.

        Raises:
            ModelError: there is no such model, or it is none that could teach.
            DataError: it knows other classes than the student.
        """
        model = open_model(reference)
        self.model, self.classes, self.inputs_of = model, classes, inputs_of
        self.name = type(model).__name__
        self._order: np.ndarray | None = None
        if isinstance(model, nn.Module):
            return
        if not hasattr(model, "predict"):
            raise ModelError(f"a {self.name} cannot teach: it is no run, estimator or module")
        if classes is None:
            if is_classifier(model):
                raise DataError(
                    f"the teacher ({self.name}) predicts classes, the target is a number"
                )
            return
        if not hasattr(model, "predict_proba") and not hasattr(model, "decision_function"):
            raise DataError(
                f"the teacher ({self.name}) gives no probabilities; the target has "
                f"{len(classes)} classes"
            )
        known = getattr(model, "classes_", None)
        if known is not None:
            self._order = _places(np.asarray(known), classes)

    @torch.no_grad()
    def answers(self, samples: Any) -> Tensor:
        """Logits (n, C) float32, or values (n, 1) float64, of samples as they came in.

        Raises:
            DataError: it answers with other classes, or with what is no number.
        """
        state = torch.get_rng_state()  # the student's own draws are those of training without it
        try:
            with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
                given, certain = self._asked(samples)
        except NotFittedError as error:
            raise ModelError(
                f"the teacher ({self.name}) is not fitted; scikit-learn's clone makes an estimator "
                "forget what it learned: give a run, or wrap it in sklearn.frozen.FrozenEstimator"
            ) from error
        finally:
            torch.set_rng_state(state)
        if self.classes is None:
            values = given.double().reshape(len(given), -1)
            if values.shape[1] != 1:
                raise DataError(
                    f"the teacher ({self.name}) returns {values.shape[1]} numbers a row, the "
                    "target is one"
                )
            check_finite(values)
            return values
        certain = certain or (given.shape[-1] == len(self.classes) and are_probabilities(given))
        kind = "probabilities" if certain else "logits"
        logits = checked_teacher(given.double(), len(self.classes), kind=kind)  # type: ignore[arg-type]
        return (logits if self._order is None else logits[:, self._order]).float()

    def _asked(self, samples: Any) -> tuple[Tensor, bool]:
        """What the model gives, (n, C) or (n,), and whether these are probabilities for sure."""
        model = self.model
        if isinstance(model, nn.Module):
            return self._through(model, self.inputs_of(model, samples)), False
        if type(model).__module__.partition(".")[0] != "stackwise":
            samples = _as_rows(samples)
        if self.classes is None:
            return _tensor(model.predict(samples)), False
        if hasattr(model, "predict_proba"):
            return _tensor(model.predict_proba(samples)), True
        margins = _tensor(model.decision_function(samples))
        if margins.ndim == 1:  # of two classes, the second's
            margins = torch.stack([torch.zeros_like(margins), margins], 1)
        return margins, False

    def _through(self, module: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
        """(n, C) what a module answers, in blocks of rows, on the device where it is."""
        place = next(module.parameters(), torch.zeros(())).device
        by_name = set(inputs) <= set(inspect.signature(module.forward).parameters)
        rows = len(next(iter(inputs.values())))
        training = module.training
        module.eval()
        found = []
        try:
            for start in range(0, rows, BLOCK):
                part = {
                    name: torch.as_tensor(tensor[start : start + BLOCK]).to(place)
                    for name, tensor in inputs.items()
                }
                output = module(**part) if by_name else module(*part.values())
                output = output if isinstance(output, Tensor) else output.logits
                if output.ndim == 3:  # members of an ensemble
                    output = output.double()
                    output = (output if self.classes is None else output.softmax(-1)).mean(1)
                found.append(output.cpu())
        finally:
            module.train(training)
        return torch.cat(found)


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))


def _places(known: np.ndarray, wanted: np.ndarray) -> np.ndarray | None:
    """Where the student's classes stand among the teacher's; None where they are the same.

    Raises:
        DataError: they are not the same classes.
    """
    if known.shape == wanted.shape and (known == wanted).all():
        return None
    lacking = [one for one in wanted.tolist() if one not in known.tolist()]
    if lacking or len(known) != len(wanted):
        odd = lacking or [one for one in known.tolist() if one not in wanted.tolist()]
        who = "teacher does not know" if lacking else "labels do not have"
        raise DataError(
            f"the teacher returns {len(known)} classes, the labels have {len(wanted)}; the {who} "
            f"{odd[0]!r}"
        )
    return np.array([known.tolist().index(one) for one in wanted.tolist()])


def _as_rows(samples: Any) -> Any:
    """Samples as estimators of others read them: pictures become rows of numbers."""
    if hasattr(samples, "iloc") or getattr(samples, "ndim", 2) == 2:
        return samples
    array = samples if isinstance(samples, np.ndarray) else samples[np.arange(len(samples))]
    return np.asarray(array).reshape(len(array), -1)


def loss_beside_teacher(learner: Any, train: LabelledRows) -> tuple[Any, dict[str, Tensor]]:
    """The loss of a learner's batches, and what its teacher answers to the training rows, (n, C) by
    the name `teacher`; `batch_loss` and nothing where it has none.

    The answers are computed once, before training. Where samples vary the teacher is asked in each
    step instead, about the samples as they are in that step: an answer to another form of a sample
    would teach something wrong.

    Args:
        learner: a `LabelledNetwork` that knows its target. train: the rows that it learns from.
    """
    if learner.distill_from is None:
        return batch_loss, {}
    by_class = learner._by_class
    teacher = Teacher(
        learner.distill_from, learner.classes_ if by_class else None, learner.inputs_of_module
    )
    told = current_session().on_event
    if told is not None:
        told({"phase": "teacher", "note": "asking the teacher"})

    def answers(samples: Any) -> Tensor:
        found = teacher.answers(samples)
        return found if by_class else torch.as_tensor(learner._standard(found.numpy())).float()

    def ask(inputs: dict[str, Tensor]) -> Tensor:
        return answers(learner.samples_of(inputs))

    temperature = float(getattr(learner, "temperature", 1.0))  # numbers have none
    if learner.varies_samples():
        answers(taken(train.samples, np.arange(min(2, len(train.target)))))  # fails here if ever
        return Distilling(learner.distill_alpha, temperature, ask), {}
    return Distilling(learner.distill_alpha, temperature), {"teacher": answers(train.samples)}
