"""The learner of a one-stage detector: a backbone, a neck and a head, trained on pictures.

A method is a neck. Its class says how it is made, and everything else is here:

    @learner("my-neck", title="...", verb="build")
    class MyDetector(Detector):
        def __init__(self, *, depth: Annotated[int, Knob("...", ge=1)] = 2) -> None: ...

        def build_neck(self, channels: list[int], width: int) -> nn.Module:
            return MyNeck(channels, width, self.levels, depth=self.depth)

`build_neck` gets the channels of the backbone's maps, fine to coarse, the first of stride
`self.finest` (4 or 8) and the last of stride 32. What it makes is called with the list of these
maps (B, channels[l], H_l, W_l) and returns a list of `self.levels` maps (B, width, H_l, W_l), each
next half as large, rounded up: levels beyond the backbone's are the neck's. Where the two branches
of the head read different maps it returns a pair of such lists, (for classes, for boxes).

The head keeps `self.head_convs` 3x3 convolutions in each branch. That is a knob (`tower_knobs`); a
method whose neck does the head's work leaves it away and fixes it:

    shared_knobs = tuple(one for one in Detector.shared_knobs if one is not tower_knobs)
    head_convs = 0

A neck with batch norm over levels wants at least 4 pictures a step.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from stackwise.catalog import Knob
from stackwise.errors import KnobError, ModelError
from stackwise.file_bounds import within
from stackwise.learning.network import NetworkLearner
from stackwise.sparse_files import load_sparse, save_sparse
from stackwise.tasks.detection.boxes import Boxes
from stackwise.tasks.detection.estimators.backbone import ResidualBackbone
from stackwise.tasks.detection.estimators.canvases import Canvases
from stackwise.tasks.detection.estimators.estimator import DetectionEstimator
from stackwise.tasks.detection.estimators.moving import MOVES, MovedBatches
from stackwise.tasks.detection.estimators.network import DetectionNetwork
from stackwise.tasks.detection.estimators.pretrained_backbone import LiteBackbone
from stackwise.tasks.detection.heads.atss import ATSSHead
from stackwise.tasks.detection.heads.decoding import Detected
from stackwise.tasks.detection.heads.dense import DenseHead
from stackwise.tasks.detection.heads.fcos import FCOSHead
from stackwise.tasks.detection.heads.retina import RetinaHead
from stackwise.training.knobs import training_knobs
from stackwise.training.phases import Phase
from stackwise.training.rules import Backprop

HEADS: dict[str, type[DenseHead]] = {"retina": RetinaHead, "fcos": FCOSHead, "atss": ATSSHead}
BATCH = (4, 16)
"""Least and most pictures of a step where nobody says it: an eighth of them, between the two."""
TRAINING: dict[str, Any] = {
    "lr": 1e-3, "weight_decay": 0.01, "schedule": "cosine", "warmup": 0.05, "grad_clip": 10.0,
    "max_epochs": 40, "patience": None,
}  # fmt: skip
"""Defaults of the training knobs; every detector is given the same."""
QUICK: dict[str, Any] = {
    "backbone_width": 8, "width": 16, "head_convs": 1, "max_epochs": 8, "min_steps": 0,
}  # fmt: skip
"""Knobs of the preset `quick`."""
NORMAL = {"residual": (0.5, 0.25), "efficientnet-lite0": (127 / 255, 128 / 255)}
"""What is taken off pixels from 0 to 1, and what they are divided by: grey becomes 0."""
AT_ONCE = 16
"""Pictures that go through the network at once when boxes are looked for."""


def detector_knobs(
    *,
    head: Annotated[
        Literal["retina", "fcos", "atss"], Knob("what locations learn and say")
    ] = "fcos",
    backbone: Annotated[
        Literal["residual", "efficientnet-lite0"],
        Knob("residual learns from scratch; efficientnet-lite0 has learned from ImageNet"),
    ] = "residual",
    backbone_width: Annotated[
        int, Knob("channels of the residual backbone's first stage", ge=4, log=True, search=(8, 64))
    ] = 24,
    backbone_blocks: Annotated[int, Knob("residual blocks of a stage", ge=1, search=(1, 3))] = 1,
    width: Annotated[
        int, Knob("channels of the neck and the head", ge=8, log=True, search=(24, 256))
    ] = 64,
    levels: Annotated[int, Knob("levels on which objects are looked for", ge=2, le=7)] = 4,
    finest: Annotated[Literal[4, 8], Knob("pixels between two locations of the first level")] = 4,
    augment: Annotated[
        Literal["none", "move", "photo", "aerial"],
        Knob("how training pictures are varied: move shifts and scales them, photo mirrors and "
             "recolours too, aerial also turns them"),
    ] = "photo",
    min_steps: Annotated[
        int, Knob("steps that are taken at least: few pictures take more passes", ge=0)
    ] = 0,
) -> None:  # fmt: skip
    """The knobs that every detector has."""


def tower_knobs(
    *,
    head_convs: Annotated[int, Knob("3x3 convolutions of each branch of the head", ge=0)] = 2,
) -> None:
    """The head's own convolutions, where the neck does not take their place."""


class Detector(NetworkLearner, DetectionEstimator):
    """A one-stage detector; a subclass says its neck.

    Fitted attributes are those of `DetectionEstimator` and of `NetworkLearner`.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (detector_knobs, tower_knobs, training_knobs)
    floor: ClassVar[dict[str, Any]] = {"min_steps": 600}

    head: str
    backbone: str
    backbone_width: int
    backbone_blocks: int
    width: int
    levels: int
    finest: Literal[4, 8]
    augment: str
    head_convs: int
    min_steps: int

    def build_neck(self, channels: list[int], width: int) -> nn.Module:
        """The neck; see the module. Torch's random state is that of the seed.

        Args:
            channels: of the backbone's maps, fine to coarse. width: channels that it gives.
        """
        raise ModelError(f"{type(self).__name__} does not say which neck it builds")

    def build_backbone(self, *, pretrained: bool) -> Any:
        """The backbone: pixels -> a list of maps whose channels are its `maps`.

        Args:
            pretrained: with the weights that it comes with; else they are read afterwards.
        """
        if self.backbone == "residual":
            return ResidualBackbone(self.backbone_width, self.backbone_blocks, self.finest)
        return LiteBackbone(self.finest, pretrained=pretrained)

    def build_network(self, classes: int, *, pretrained: bool = True) -> DetectionNetwork:
        """The whole network for so many classes."""
        stages = int(math.log2(32 / self.finest)) + 1
        if self.levels < stages:
            raise KnobError(
                f"levels={self.levels} with finest={self.finest}: the backbone alone has {stages}; "
                f"give at least {stages}"
            )
        backbone = self.build_backbone(pretrained=pretrained)
        neck = self.build_neck(list(backbone.maps), self.width)
        strides = [self.finest * 2**level for level in range(self.levels)]
        head = HEADS[self.head](self.width, classes, strides, self.head_convs)
        return DetectionNetwork(backbone, neck, head)

    def _learn(self, train: Canvases, held: tuple[Canvases, Sequence[Boxes]] | None) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed_)
            network = self.build_network(len(self.classes_))
        auto = min(max(len(train) // 8, BATCH[0]), BATCH[1])
        size = auto if self.batch_size == "auto" else int(self.batch_size)
        batches = MovedBatches(
            train, min(size, len(train)), MOVES[self.augment], seed=self.seed_,
            normalise=self.normalised,
        )  # fmt: skip
        rule = Backprop(
            _loss, lr=self.lr, weight_decay=self.weight_decay, grad_clip=self.grad_clip,
            schedule=self.schedule, warmup=self.warmup, monitor="ap", mode="max",
            validate=None if held is None else self._validation(*held),
        )  # fmt: skip
        epochs = max(int(self.max_epochs), math.ceil(self.min_steps / len(batches)))
        patience = self.patience if held is not None else None
        phase = Phase("train", rule, batches, epochs, patience)
        self.network_ = self.train(network, [phase]).model.eval()

    def _validation(self, canvases: Canvases, truth: Sequence[Boxes]) -> Any:
        """network -> its average precision on held-out pictures."""
        from stackwise.tasks.detection.results.precision import average_precision

        def validate(network: nn.Module) -> Mapping[str, float]:
            found = [one.on_picture(canvases.fits[row]) for row, one in
                     enumerate(self._through(network, canvases))]  # fmt: skip
            return {"ap": average_precision(truth, found)["ap"]}

        return validate

    def _detect(self, canvases: Canvases) -> "list[Any]":
        return self._through(self.network_, canvases)

    @torch.no_grad()
    def _through(self, network: Any, canvases: Canvases) -> "list[Any]":
        """What the network finds on each canvas."""
        from stackwise.tasks.detection.boxes import Answer

        device = next(network.parameters()).device
        found: list[Any] = []
        for start in range(0, len(canvases), AT_ONCE):
            rows = np.arange(start, min(start + AT_ONCE, len(canvases)))
            one: Detected
            for one in network.detect(self.normalised(canvases.take(rows)).to(device)):
                found.append(Answer(*(part.cpu().numpy() for part in one)))
        return found

    def normalised(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) from 0 to 1 -> as the backbone wants them."""
        mean, std = NORMAL[self.backbone]
        return (pictures - mean) / std

    def _write(self, folder: Path) -> dict[str, Any]:
        save_sparse(self.network_.state_dict(), folder / "model.safetensors")
        return super()._write(folder) | {
            "history": self.history_, "best_epoch": self.best_epoch_,
        }  # fmt: skip

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        path = folder / "model.safetensors"
        tensors = load_sparse(path)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}

        def whole(classes: int) -> nn.Module:
            return self.build_network(classes, pretrained=False)

        network = within(whole, {"classes": len(self.classes_)}, shapes, path)
        network.load_state_dict(tensors)
        self.network_ = network.eval()
        self.history_, self.best_epoch_ = record["history"], record["best_epoch"]


def _loss(network: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    found: torch.Tensor = network.losses(batch)["loss"]
    return found
