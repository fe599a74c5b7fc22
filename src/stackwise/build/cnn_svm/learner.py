"""CNN-SVM as an estimator on pictures: trained with its machines, or with machines put on it
afterwards.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

import torch
from torch import nn

from stackwise.build.cnn_svm.head import SVMHead
from stackwise.build.cnn_svm.network import ConvSVM, Head
from stackwise.build.cnn_svm.posthoc import fit_machines, head_inputs, in_blocks
from stackwise.catalog import Knob, learner
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.tasks.images.estimators.learner import ImageClassifier, ImageRows


@learner(
    "cnn-svm",
    title="A convolutional network with support vector machines as its last layer",
    problem="classification",
    paper="1712.03541",
    cost="trains as the same network with a softmax does",
    training={"max_epochs": 30, "batch_size": 128, "patience": None},
    presets={
        "quick": {"channels": [16, 32], "kernel_size": 3, "hidden": 128, "max_epochs": 20,
                  "batch_size": 64, "lr": 2e-3},
        "standard": {},
        "best": {"channels": [32, 64], "hidden": 1024, "max_epochs": 80, "schedule": "cosine"},
    },
    names={"swap_head": "stackwise.build.cnn_svm.swapping:swap_head"},
)  # fmt: skip
class CNNSVMClassifier(ImageClassifier):
    """Classify pictures by the margins of support vector machines on convolutional features."""

    def __init__(
        self,
        *,
        head: Annotated[
            Literal["svm-l2", "svm-l1", "softmax"],
            Knob("squared hinge, hinge, or cross-entropy to compare with"),
        ] = "svm-l2",
        C: Annotated[
            float, Knob("what a violated margin costs", gt=0, log=True, search=(0.01, 100.0))
        ] = 1.0,
        reduction: Annotated[
            Literal["mean", "sum"], Knob("mean as the paper's code; sum: C is scikit-learn's")
        ] = "mean",
        fit_head: Annotated[
            Literal["joint", "posthoc"],
            Knob("machines learn with the network, or on its frozen features"),
        ] = "joint",
        channels: Annotated[Sequence[int], Knob("channels of each block")] = (32, 64),
        kernel_size: Annotated[int, Knob("side of the convolutions, odd", ge=1, le=31)] = 5,
        hidden: Annotated[
            int, Knob("units before the head", ge=1, log=True, search=(64, 1024))
        ] = 1024,
        dropout: Annotated[
            float, Knob("probability that a hidden unit is dropped", ge=0, lt=1, search=(0.0, 0.6))
        ] = 0.5,
        init: Annotated[
            Literal["torch", "paper"], Knob("how weights begin; the paper's are large")
        ] = "torch",
    ) -> None:
        """A convolutional network with a head of machines."""

    @property
    def least_size(self) -> int:
        """The least side that as many pools leave a pixel of."""
        return 2 ** len(self.channels)

    def build_network(self, rows: ImageRows) -> nn.Module:
        """A `ConvSVM` of the estimator's size; its head is of logits where machines come later."""
        return self._made(rows.channels, rows.size, rows.n_outputs, len(rows), posthoc=False)

    def _made(
        self, channels: int, size: tuple[int, int], n_outputs: int, rows: int, *, posthoc: bool
    ) -> ConvSVM:
        logits = self.fit_head == "posthoc" and not posthoc
        return ConvSVM(
            channels=channels, image_size=size, n_outputs=n_outputs,
            widths=[int(width) for width in self.channels], kernel_size=self.kernel_size,
            hidden=self.hidden, dropout=self.dropout,
            head=cast(Head, "softmax" if logits else self.head), C=float(self.C),
            reduction=self.reduction, rows=rows, init=self.init,
        )  # fmt: skip

    def _fit_parts(self, train: LabelledRows, held: LabelledRows | None) -> None:
        super()._fit_parts(train, held)
        if self.fit_head == "posthoc" and self.head != "softmax":
            self._put_machines(train)

    def _put_machines(self, train: LabelledRows) -> None:
        """Put machines on the features of the trained network, on rows that are not varied."""
        trained = cast(ConvSVM, self.network_)
        tensors: dict[str, Any] = self._tensors(self._features(train.samples, quietly=True), train)
        features, target, weight = head_inputs(trained, trained.head, in_blocks(tensors))
        with torch.random.fork_rng(devices=[]):  # its own first weights are not kept
            given = trained.arguments
            made = self._made(
                given["channels"], tuple(given["image_size"]), given["n_outputs"],
                given["rows"], posthoc=True,
            )  # fmt: skip
        made.load_state_dict(trained.state_dict())
        if not fit_machines(cast(SVMHead, made.head), features, target, weight, self.seed_):
            self.notes_.append("the machines' solver stopped at its most steps; a smaller C helps")
        self.network_ = made.eval()
