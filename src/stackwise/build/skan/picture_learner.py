"""S-ConvKAN as an estimator on pictures; how it chooses is in `choosing`."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from torch import nn

from stackwise.build.skan.bases import FAMILIES, basis
from stackwise.build.skan.choosing import ChoosesFamilies, selection_knobs
from stackwise.build.skan.picture_network import SConvKAN
from stackwise.build.skan.selectable import SelectableNetwork
from stackwise.catalog import Knob, learner
from stackwise.errors import KnobError
from stackwise.learning.memory import refuse_beyond
from stackwise.tasks.images.estimators.learner import ImageClassifier, ImageRows

VALUES = 8
"""How many times a training step holds the basis maps of a picture, forward and backward."""
MOST_BYTES = 4 * 2**30
RANGED = 2000
"""Most pictures of which the range of a channel is taken."""


@learner(
    "skan",
    title="A Kolmogorov-Arnold network that chooses its activation families",
    problem="classification",
    paper="2408.08338",
    training={"lr": 1e-2, "weight_decay": 1e-4, "schedule": "cosine", "max_epochs": 20,
              "patience": None, "phases": (0.5, 0.25, 0.25), "race": 0.5},
    presets={
        "quick": {"channels": [8, 16, 32], "max_epochs": 8, "race": 0.25},
        "standard": {},
        "best": {"pool": list(FAMILIES), "channels": [32, 64, 128], "max_epochs": 60},
    },
)  # fmt: skip
class SConvKANClassifier(ChoosesFamilies, ImageClassifier):
    """Train convolutions of edge functions, choose their families on validation rows, and prune.

    Half of the epochs go to the full phase and a quarter to each other; a candidate of the race
    gets half of a quarter, since convolutions of several families take long.
    """

    kind: ClassVar[type[SelectableNetwork]] = SConvKAN
    scored: ClassVar[int] = 256
    shared_knobs: ClassVar[tuple[Any, ...]] = (selection_knobs, *ImageClassifier.shared_knobs)

    def __init__(
        self,
        *,
        channels: Annotated[
            Sequence[int], Knob("output channels of each block; all but the last halve the side")
        ] = (16, 32, 64),
        kernel_size: Annotated[int, Knob("side of the windows, odd", ge=1, le=31)] = 3,
        per: Annotated[
            Literal["node", "tap", "edge", "output", "layer"],
            Knob("what has a gate of its own; a node is an input channel, a tap one of its places"),
        ] = "node",
        pad: Annotated[
            Literal["basis", "input"],
            Knob("where zeros surround a picture: basis maps (a border adds nothing), or values"),
        ] = "basis",
    ) -> None:
        """A network of convolutions of edge functions whose families are chosen."""

    def build_network(self, rows: ImageRows) -> nn.Module:
        """An `SConvKAN` of the estimator's size, for the range of each channel in training."""
        self.check_choice()
        widths = [int(n) for n in self.channels]
        if not widths or min(widths) < 1:
            raise KnobError(f"channels are numbers of at least 1, one a block, not {widths}")
        if self.kernel_size % 2 == 0:
            raise KnobError(f"kernel_size must be odd, got {self.kernel_size}")
        self._check_memory(rows)
        return SConvKAN(
            channels=rows.channels, n_outputs=rows.n_outputs, ranges=_ranges(rows),
            widths=widths, kernel_size=self.kernel_size, pool=list(self.pool), per=self.per,
            gate=self.gate, grid=self.grid, degree=self.degree, wavelet=self.wavelet,
            pad=self.pad,
        )  # fmt: skip

    def _check_memory(self, rows: ImageRows) -> None:
        """Refuse steps that would not fit: a picture has maps of each family for each channel.

        Raises:
            DataError: the sentence says which batches would fit.
        """
        size, wanted = self.network_size_, self._batch_size(len(rows))
        refuse_beyond(
            MOST_BYTES, wanted * self._picture_bytes(),
            f"basis maps of pictures of {size[0]} x {size[1]} in a step of {wanted}",
            f"{MOST_BYTES / 2**30:.2g} GiB", f"batch_size={self._fitting} would fit",
        )  # fmt: skip

    def _picture_bytes(self) -> int:
        """What a training step holds of a picture."""
        sizes = sum(basis(f, 1, grid=self.grid, degree=self.degree).size for f in self.pool)
        before, (height, width), values = self.image_shape_[0], self.network_size_, 0
        for after in self.channels:
            values += before * sizes * height * width
            before, height, width = int(after), -(-height // 2), -(-width // 2)
        return 4 * VALUES * values

    @property
    def _fitting(self) -> int:
        """Pictures in a step that fit."""
        return max(1, MOST_BYTES // self._picture_bytes())

    def _batch_size(self, rows: int) -> int:
        """As many as fit where nobody says how many."""
        wanted = super()._batch_size(rows)
        return wanted if self.batch_size != "auto" else min(wanted, self._fitting)


def _ranges(rows: ImageRows) -> list[list[float]]:
    """Least and largest value of each channel, over pictures of all of training."""
    count = len(rows.pixels)
    places = np.unique(np.linspace(0, count - 1, min(count, RANGED)).astype(int))
    low, high = np.full(rows.channels, np.inf), np.full(rows.channels, -np.inf)
    for start in range(0, len(places), 256):
        found = rows.pixels[places[start : start + 256]].movedim(1, 0).flatten(1)
        low = np.minimum(low, found.amin(1).numpy())
        high = np.maximum(high, found.amax(1).numpy())
    return [[float(a), float(b)] for a, b in zip(low, high, strict=True)]
