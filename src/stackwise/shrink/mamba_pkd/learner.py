"""The estimator: one Mamba, or a chain of small ones that is learned student by student."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from stackwise.catalog import Knob, learner
from stackwise.errors import KnobError, ModelError
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.learning.measuring import multiply_adds
from stackwise.learning.outputs import mean_values, through_network
from stackwise.models import open_model
from stackwise.shrink.mamba_pkd.chain import Mode, until_sure
from stackwise.shrink.mamba_pkd.cost import shares, width_of_cost, within_budget
from stackwise.shrink.mamba_pkd.network import Mamba, decays
from stackwise.shrink.mamba_pkd.stage import StageLoss
from stackwise.shrink.mamba_pkd.students import MambaChain, plan
from stackwise.tasks.images.estimators.learner import ImageClassifier, ImageLearner, ImageRows
from stackwise.training.batches import ArrayBatches
from stackwise.training.phases import Phase, Trained

CARD: dict[str, Any] = {
    "title": "A chain of small Mambas that is distilled from a large model",
    "paper": "2503.01727",
    "cost": "trains one small network after another; a prediction costs what it is given",
    "verified": "tests/layers/test_s6_parity.py",
    "presets": {
        "quick": {"d_state": 8, "max_epochs": 4, "epochs": 4},
        "standard": {},
        "best": {"max_epochs": 40, "epochs": 40},
    },
}
PIXELS = 256
"""Pictures that go through a chain at once where each stops when it is sure."""


@learner(
    "mamba-pkd",
    problem="classification",
    training={"lr": 3e-3, "weight_decay": 0.01, "schedule": "cosine", "warmup": 0.1,
              "max_epochs": 14, "patience": None},
    **CARD,
)  # fmt: skip
class MambaClassifier(ImageClassifier):
    """A Mamba that reads a picture as a sequence; or with `students` a chain of small ones.

    A chain learns from the labels alone, or with `distill_from` from a teacher too. Its students
    cost shares of the teacher, or where nobody can count what that costs, of a Mamba of `width` and
    `depth`. `max_epochs` is for each student.
    """

    def __init__(
        self,
        *,
        students: Annotated[int, Knob("networks of the chain; 1 is one Mamba", ge=1, le=64)] = 1,
        width: Annotated[
            int, Knob("numbers of a token, of one Mamba", ge=1, le=4096, log=True, search=(32, 256))
        ] = 64,
        depth: Annotated[int, Knob("blocks of one Mamba", ge=1, le=64, search=(1, 4))] = 2,
        mode: Annotated[
            Literal["residual", "regress", "boosted", "independent", "classic"],
            Knob("what a student learns; classic is one student that costs as much as the chain"),
        ] = "residual",
        first: Annotated[float, Knob("cost of the first student as a share", gt=0, le=10)] = 0.01,
        total: Annotated[float, Knob("cost of the chain as a share", gt=0, le=10)] = 0.63,
        shrinkage: Annotated[float, Knob("what each student's answer counts", gt=0, le=1)] = 1.0,
        reuse: Annotated[bool, Knob("a student reads the features of the one before")] = False,
        patch: Annotated[
            int | None, Knob("pixels of a patch's side; none: each row is a token", ge=1)
        ] = None,
        d_state: Annotated[int, Knob("numbers of the state of a channel", ge=1, le=256)] = 16,
        bidirectional: Annotated[bool, Knob("read the tokens from both ends")] = False,
        pooling: Annotated[
            Literal["mean", "last"], Knob("the mean of all tokens, or the last one")
        ] = "mean",
    ) -> None:
        """A Mamba, or a chain of Mambas."""

    def build_network(self, rows: ImageRows) -> nn.Module:
        """A `Mamba`, or a `MambaChain` of its first student."""
        arguments: dict[str, Any] = {
            "image_shape": [rows.channels, *rows.size], "n_outputs": rows.n_outputs,
            "patch": self.patch, "d_state": self.d_state, "bidirectional": self.bidirectional,
            "pooling": self.pooling,
        }  # fmt: skip
        if self.mode in ("regress", "boosted") and self.distill_from is None:
            raise KnobError(f"mode={self.mode} fits a teacher's logits: give distill_from")
        if self.mode == "boosted" and self.varies_samples():
            raise KnobError("mode=boosted has a weight for each picture: give augment=none")
        if self.students == 1 and self.mode != "classic":
            return Mamba(**arguments, width=self.width, depth=self.depth)
        reference = self._reference(rows, arguments)

        def width(share: float, **more: Any) -> int:
            return width_of_cost(
                share * reference, lambda w: Mamba(**arguments | more, width=w).multiply_adds()
            )

        if self.mode == "classic":
            return Mamba(**arguments, width=width(self.total, depth=self.depth), depth=self.depth)
        widths = [
            width(share, depth=1)
            for share in shares(self.students, first=self.first, total=self.total)
        ]
        return MambaChain(
            planned=plan(arguments, widths, reuse=self.reuse), mode=cast(Mode, self.mode),
            shrinkage=self.shrinkage, reference=float(reference),
        )  # fmt: skip

    def _reference(self, rows: ImageRows, arguments: dict[str, Any]) -> int:
        """Multiply-adds of a picture that costs are shares of."""
        teacher = None if self.distill_from is None else open_model(self.distill_from)
        network = getattr(teacher, "network_", teacher)
        pictures = rows.pixels.pictures
        if isinstance(network, nn.Module) and isinstance(teacher, ImageLearner):
            return multiply_adds(network, teacher.pixels(pictures)[:1])
        if isinstance(teacher, nn.Module):
            inputs = self.inputs_of_module(teacher, pictures)
            return multiply_adds(teacher, *(torch.as_tensor(one[:1]) for one in inputs.values()))
        if teacher is not None:
            self.notes_.append(
                f"nobody counts what a {type(teacher).__name__} costs: shares are of a Mamba of "
                f"width {self.width} and depth {self.depth}"
            )
        return Mamba(**arguments, width=self.width, depth=self.depth).multiply_adds()

    def build_batches(self, tensors: dict[str, Any], batch_size: int, seed: int) -> ArrayBatches:
        """As ever; where each row has a weight, it knows its number."""
        if self.mode == "boosted":
            tensors = tensors | {"row": torch.arange(len(tensors["target"]))}
        return super().build_batches(tensors, batch_size, seed)

    def build_phases(
        self, batches: ArrayBatches, held: LabelledRows | None, watched: dict[str, Any]
    ) -> list[Phase]:
        """A phase a student; one for a single network."""
        if self.students == 1 or self.mode == "classic":
            return super().build_phases(batches, held, watched)
        patience = self.patience if held is not None else None
        phases = []
        for place in range(1, self.students + 1):
            loss = StageLoss(watched["loss"], cast(Mode, self.mode), rows=batches.tensors)
            rule = self.build_rule(**watched | {"loss": loss})
            phases.append(Phase(
                f"student {place}", rule, batches, self.epochs(batches), patience,
                start=_as_it_is if place == 1 else _grown, rebuild=_rebuilt,
                ends_at=place / self.students,
            ))  # fmt: skip
        return phases

    def train(self, network: nn.Module, phases: list[Phase]) -> Trained:
        """Train, after which all students may be trained further."""
        trained = super().train(network, phases)
        trained.model.requires_grad_(True)
        return trained

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Matrices decay, but for the rates of the states."""
        return decays(name, parameter)

    @property
    def chain_(self) -> MambaChain:
        """The chain.

        Raises:
            ModelError: it is a single network.
        """
        check_is_fitted(self, "network_")
        if not isinstance(self.network_, MambaChain):
            raise ModelError("this is one network, not a chain: fit it with students=2 or more")
        return self.network_

    def cost(self, students: int | None = None) -> int:
        """Multiply-adds of a picture with the first students, or all; no teacher is among them."""
        if not isinstance(self.network_, MambaChain):
            return int(cast(Mamba, self.network_).multiply_adds())
        chain = self.chain_ if students is None else self.chain_.first(students)
        return round(sum(chain.costs()) * chain.reference)

    def predict_proba(
        self, X: Any, students: int | None = None, budget: float | None = None
    ) -> np.ndarray:
        """(n, C) probabilities.

        Args:
            students: only the first ones answer, and only they are computed.
            budget: as many as cost at most this share of the teacher.
        """
        network = self._asked_network(students, budget)
        return self._of(network, self._asked_inputs(X))

    def predict(
        self, X: Any, students: int | None = None, budget: float | None = None
    ) -> np.ndarray:
        """(n,) classes; see `predict_proba`."""
        found = self.predict_proba(X, students, budget)
        return np.asarray(self.classes_[found.argmax(1)])

    def staged_predict_proba(self, X: Any) -> Iterator[np.ndarray]:
        """(n, C) probabilities after 1, 2, ... students."""
        inputs = self._asked_inputs(X)
        for count in range(1, len(self.chain_) + 1):
            yield self._of(self.chain_.first(count), inputs)

    def staged_predict(self, X: Any) -> Iterator[np.ndarray]:
        """(n,) classes after 1, 2, ... students, as boosted trees of scikit-learn have it."""
        for found in self.staged_predict_proba(X):
            yield np.asarray(self.classes_[found.argmax(1)])

    def predict_adaptive(self, X: Any, tau: float) -> tuple[np.ndarray, np.ndarray]:
        """Each picture stops at the first student after which its likeliest class is above `tau`.

        Returns:
            (n,) classes, and (n,) how many students each took.
        """
        chain = self.chain_.eval()
        if any(cast(Mamba, student).previous for student in chain.students):
            raise ModelError("with reuse=true a student needs the one before for every picture")
        pixels = self._asked_inputs(X)["pixels"]
        classes, used = [], []
        with torch.no_grad():
            for start in range(0, len(pixels), PIXELS):
                part = torch.as_tensor(pixels[start : start + PIXELS])
                part = part.to(next(chain.parameters()).device)
                logits, count = until_sure(
                    list(chain.students), part, tau, chain.mode, chain.shrinkage
                )
                classes.append(logits.argmax(1).cpu().numpy())
                used.append(count.cpu().numpy())
        return np.asarray(self.classes_[np.concatenate(classes)]), np.concatenate(used)

    def _asked_network(self, students: int | None, budget: float | None) -> nn.Module:
        check_is_fitted(self, "network_")
        if students is None and budget is None:
            return self.network_
        if budget is not None:
            most = within_budget(self.chain_.costs(), budget)
            students = most if students is None else min(students, most)
        return self.chain_.first(cast(int, students))

    def _asked_inputs(self, X: Any) -> Mapping[str, Any]:
        check_is_fitted(self, "network_")
        return self._inputs(self._asked(X))

    @staticmethod
    def _of(network: nn.Module, inputs: Mapping[str, Any]) -> np.ndarray:
        return through_network(network, inputs, lambda outputs: mean_values(outputs, classes=True))


def _as_it_is(network: nn.Module) -> nn.Module:
    return network


def _grown(network: nn.Module) -> nn.Module:
    return cast(MambaChain, network).grown()


def _rebuilt(arguments: dict[str, Any]) -> nn.Module:
    return MambaChain(**arguments).freeze()
