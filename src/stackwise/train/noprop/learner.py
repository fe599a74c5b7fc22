"""NoProp as estimators, on pictures and on tables.

DT with a fixed embedding is trained block by block (`apart`), in turn or side by side; everything
else learns in one fit.
"""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from stackwise.catalog import Knob, learner
from stackwise.errors import KnobError
from stackwise.learning.labelled_network import LabelledNetwork
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.learning.network import told
from stackwise.learning.outputs import member_values, through_network
from stackwise.learning.trainable import Trainable
from stackwise.tasks.images.estimators.learner import ImageClassifier, ImageRows
from stackwise.tasks.table.estimators.learner import NetworkRows, TableClassifier
from stackwise.train.noprop.apart import Blocks, train_blocks
from stackwise.train.noprop.embeddings import prototypes
from stackwise.train.noprop.network import (
    ETA,
    NoPropImages,
    NoPropStack,
    NoPropTable,
    Stages,
    picture_size,
)
from stackwise.train.noprop.rule import (
    BlockRule,
    NoPropRule,
    generator_of,
    inputs_of,
    soft_target,
    stack_loss,
    weighed,
)
from stackwise.training.batches import ArrayBatches
from stackwise.training.phases import Phase, Trained

ROWS = 256
"""Validation rows that go through a block at a time."""
STEPS = {"dt": 10, "ct": 100, "fm": 100}
LEARNED_SIZE = 20
CARD: dict[str, Any] = {
    "title": "Blocks that learn each by itself, by denoising the label",
    "paper": "2503.24322",
    "cost": "trains as many networks as blocks, each alone, on as many machines as there are",
    "problem": "classification",
    "presets": {
        "quick": {"steps": 4, "width": 8, "hidden": 32, "max_epochs": 8, "draws": 1},
        "standard": {},
        "best": {"width": 32, "hidden": 256, "max_epochs": 60},
    },
}  # fmt: skip


class NoPropKnobs(LabelledNetwork):
    """The knobs and the training that NoProp on pictures and on tables share."""

    def __init__(
        self,
        *,
        variant: Annotated[
            Literal["dt", "ct", "fm"],
            Knob("discrete time, continuous time, or flow matching"),
        ] = "dt",
        embedding: Annotated[
            Literal["onehot", "learned", "prototype"], Knob("what blocks predict of a label")
        ] = "onehot",
        embed_dim: Annotated[
            int | None, Knob("numbers of a learned embedding; none is 20", ge=1)
        ] = None,
        fixed: Annotated[
            bool, Knob("keep the embedding as it begins, so that blocks stay apart")
        ] = False,
        steps: Annotated[
            int | None, Knob("steps of denoising, and blocks of dt; none is 10, else 100", ge=1)
        ] = None,
        eta: Annotated[
            float | None, Knob("weight of the denoising loss; none is 0.1, of ct 1", gt=0)
        ] = None,
        sigma: Annotated[float, Knob("noise of the paths of fm", ge=0)] = 0.1,
        readout: Annotated[
            Literal["softmax", "posterior"], Knob("how dt and ct read the label off the latent")
        ] = "softmax",
        draws: Annotated[
            int, Knob("draws of noise that a prediction averages over", ge=1, le=1000)
        ] = 4,
        width: Annotated[
            int, Knob("first channels or units of a tower", ge=1, le=1024, log=True)
        ] = 16,
        hidden: Annotated[int, Knob("units of a block", ge=1, le=4096, log=True)] = 128,
        dropout: Annotated[
            float, Knob("probability that a feature is dropped", ge=0, lt=1, search=(0.0, 0.5))
        ] = 0.2,
        workers: Annotated[
            int, Knob("processes in which blocks are trained side by side", ge=1)
        ] = 1,
        on: Annotated[
            str | None, Knob("train blocks on a Ray cluster: ray, or ray://host:port")
        ] = None,
    ) -> None:
        """A stack whose blocks denoise the label."""

    def stack_arguments(self, classes: int, inputs: int) -> dict[str, Any]:
        """What the network is made with, but for its towers.

        Raises:
            KnobError: knobs that do not go together.
        """
        sizes = {"onehot": classes, "prototype": inputs,
                 "learned": self.embed_dim or LEARNED_SIZE}  # fmt: skip
        size = sizes[self.embedding]
        if self.embed_dim is not None and self.embed_dim != size:
            raise KnobError(
                f"embedding={self.embedding} has {size} numbers here, not embed_dim="
                f"{self.embed_dim}; only a learned one has as many as you like"
            )
        if (self.workers > 1 or self.on) and not self._apart:
            raise KnobError(
                "blocks can be trained apart only with a fixed embedding and variant=dt: take "
                "embedding=onehot, or fixed=true"
            )
        return {
            "variant": self.variant, "classes": classes, "size": size,
            "steps": self.steps or STEPS[self.variant], "embedding": self.embedding,
            "fixed": self.fixed, "eta": self.eta or ETA[self.variant], "sigma": self.sigma,
            "readout": self.readout, "draws": self.draws, "seed": self.seed_, "width": self.width,
            "hidden": self.hidden, "dropout": self.dropout,
        }  # fmt: skip

    @property
    def _apart(self) -> bool:
        return self.variant == "dt" and (self.fixed or self.embedding == "onehot")

    def begun(self, stack: NoPropStack, batches: dict[str, Any], target: np.ndarray) -> nn.Module:
        """The stack with its prototypes in place, where it has some.

        Args:
            batches: the training inputs by name, whole.
        """
        if self.embedding == "prototype":
            whole = {name: torch.as_tensor(value[: len(target)]) for name, value in batches.items()}
            found = prototypes(
                stack.inputs(**whole), torch.as_tensor(target), len(stack.embedding), self.seed_
            )
            with torch.no_grad():
                stack.embedding.copy_(found)
        return stack

    def build_phases(
        self, batches: ArrayBatches, held: LabelledRows | None, watched: dict[str, Any]
    ) -> list[Phase]:
        """One fit of everything, or one a block and one of the readout."""
        patience = self.patience if held is not None else None
        epochs, options = self.epochs(batches), self.rule_options()
        if not self._apart:
            rule = NoPropRule(self.seed_, **options, **watched)
            return [Phase("train", rule, batches, epochs, patience)]
        count = self.steps or STEPS[self.variant]
        tensors: dict[str, Any] | None = None
        if held is not None:
            tensors = self._tensors(self._features(held.samples, quietly=True), held)
        phases = []
        for place in range(count + 1):
            judge = None if tensors is None else Judged(tensors, place, self.seed_)
            own = BlockRule(place, self.seed_, loss=watched["loss"], **options, validate=judge)
            name = "readout" if place == count else f"block {place + 1}"
            phases.append(Phase(name, own, batches, epochs, patience))
        return phases

    def train(self, network: nn.Module, phases: list[Phase]) -> Trained:
        """Train everything in one fit, or the blocks apart."""
        if not self._apart:
            return super().train(network, phases)
        options = self.training_options()
        limit = options.pop("time_limit")
        blocks = Blocks(
            names=[phase.name for phase in phases], stack=cast(NoPropStack, network),
            phases=phases, options=options, threads=self.threads, workers=self.workers, on=self.on,
        )  # fmt: skip
        with told(self.verbose):
            made, fits = train_blocks(blocks, limit)
        self.history_ = [line for fit in fits for line in fit.history]
        self.best_epoch_ = 0
        late = sum(fit.stopped == "time" for fit in fits)
        if late:
            self.notes_.append(
                f"the time limit ended the training of {late} of {len(fits)} parts; more time may "
                "help"
            )
        return dataclasses.replace(fits[0], model=made, history=self.history_, best_epoch=0)

    def trainable(
        self, data: Any, *, batch_size: int | None = None, seed: int | None = None
    ) -> Trainable:
        """What a transform needs to go on training; the loss is the blocks' own, not that of the
        prediction.
        """
        found = super().trainable(data, batch_size=batch_size, seed=seed)
        return dataclasses.replace(found, loss=stack_loss)

    def staged_predict_proba(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """What the stack would answer after each step.

        Returns:
            (n, T, C) probabilities read off the latents z_1 .. z_T, and (n, T, C) those of the
            blocks' own softmax, of which the first sees nothing but the input and noise. Means over
            the draws.
        """
        check_is_fitted(self, "network_")
        stages = Stages(cast(NoPropStack, self.network_))

        def reduce(outputs: torch.Tensor) -> np.ndarray:
            return member_values(outputs, classes=True)

        found = through_network(stages, self._inputs(self._asked(X)), reduce)
        half = found.shape[1] // 2
        return found[:, :half], found[:, half:]


class Judged:
    """The loss of a block on validation rows, under noise that is the same each time.

    For the blocks also how often the class of the largest weight is right.
    """

    def __init__(self, tensors: dict[str, Any], place: int, seed: int) -> None:
        self.tensors, self.place, self.seed = tensors, place, seed

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Scores of the network, which is in eval mode."""
        stack = cast(NoPropStack, network)
        device, size = stack.embedding.device, stack.embedding.shape[1]
        rows = len(self.tensors["target"])
        generator = generator_of(self.seed, self.place, 2**31)
        total = 0.0
        for start in range(0, rows, ROWS):
            taken = {k: v[start : start + ROWS].to(device) for k, v in self.tensors.items()}
            soft = soft_target(taken, len(stack.embedding))
            noise = torch.randn(len(soft), size, generator=generator).to(device)
            if self.place == len(stack.blocks):
                losses = stack.readout_loss(soft, noise)
            else:
                losses = stack.block_loss(self.place, inputs_of(stack, taken), soft, noise)
            total += float(weighed(losses, taken)) * len(soft)
        return {"loss": total / rows}


@learner("noprop", **CARD, training={"width": 64, "hidden": 64, "max_epochs": 100,
                                     "weight_decay": 1e-3, "patience": None})  # fmt: skip
class NoPropTableClassifier(NoPropKnobs, TableClassifier):
    """Classify by blocks that are trained each by itself, to denoise the label; rows of a table."""

    floor: ClassVar[dict[str, Any]] = {"min_steps": 500}  # of each block

    def build_network(self, rows: NetworkRows) -> nn.Module:
        """A `NoPropTable` of the estimator's size."""
        inputs = rows.n_numeric + sum(rows.cardinalities)
        stack = NoPropTable(
            n_numeric=rows.n_numeric, cardinalities=rows.cardinalities,
            **self.stack_arguments(rows.n_outputs, inputs),
        )  # fmt: skip
        given = {"numeric": rows.arrays.numeric, "categorical": rows.arrays.categorical}
        return self.begun(stack, given, rows.target)


@learner("noprop", **CARD, training={"max_epochs": 20, "weight_decay": 1e-3, "patience": None,
                                     "batch_size": 128})  # fmt: skip
class NoPropClassifier(NoPropKnobs, ImageClassifier):
    """Classify by blocks that are trained each by itself, to denoise the label; pictures."""

    @property
    def least_size(self) -> int:
        """The least side: maps are halved twice."""
        return 4

    def build_network(self, rows: ImageRows) -> nn.Module:
        """A `NoPropImages` of the estimator's size."""
        shape = [rows.channels, *rows.size]
        stack = NoPropImages(
            shape=shape, **self.stack_arguments(rows.n_outputs, picture_size(shape))
        )
        return self.begun(stack, {"pixels": rows.pixels}, rows.target)
