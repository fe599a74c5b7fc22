"""The estimator on pictures: a residual CNN, inverted blocks, a vision transformer or an MLP."""

import math
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import torch
from torch import nn

from stackwise.catalog import Knob, learner
from stackwise.errors import KnobError
from stackwise.tasks.images.baselines.residual_cnn import ResidualCNN
from stackwise.tasks.images.estimators.learner import ImageClassifier, ImageRows
from stackwise.train.sortednet.knobs import sorting_knobs
from stackwise.train.sortednet.learner import CARD, FULL, SortedNetwork
from stackwise.train.sortednet.networks import InvertedCNN, PictureMLP, SortedViT
from stackwise.train.sortednet.networks.inverted_cnn import Norm

PATCHES = 8
"""Patches along the longer side of a picture where `patch` is not given."""


@learner(
    "sortednet",
    problem="classification",
    training={"lr": 2e-3, "weight_decay": 5e-4, "schedule": "cosine", "max_epochs": 40,
              "patience": None, "widths": (0.25, 0.5, 0.75, 1.0), "full_probability": FULL},
    **CARD | {"presets": {
        "quick": {"width": 12, "max_epochs": 12}, "standard": {}, "best": {"max_epochs": 120},
    }},
)  # fmt: skip
class SortedNetImageClassifier(SortedNetwork, ImageClassifier):
    """Classify pictures by a network of which every truncation is a good one: a residual CNN, a CNN
    of inverted blocks, a vision transformer, or a residual MLP.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (sorting_knobs, *ImageClassifier.shared_knobs)

    def __init__(
        self,
        *,
        network: Annotated[
            Literal["cnn", "inverted", "vit", "mlp"], Knob("what is trained")
        ] = "cnn",
        width: Annotated[
            int | None, Knob("channels of the first stage, or numbers of the stream", ge=1, le=4096)
        ] = None,
        depth: Annotated[int | None, Knob("blocks, of a CNN those of a stage", ge=1, le=64)] = None,
        heads: Annotated[int | None, Knob("attention heads of a vit; none is 4", ge=1)] = None,
        head_dim: Annotated[int | None, Knob("numbers of such a head; none is 16", ge=1)] = None,
        mlp_ratio: Annotated[
            float | None, Knob("hidden units over the width; none is the network's own", gt=0)
        ] = None,
        patch: Annotated[
            int | None, Knob("pixels of a patch's side of a vit; none: an eighth", ge=1)
        ] = None,
        norm: Annotated[
            Literal["batch", "group"] | None,
            Knob("normalisation of an inverted CNN; none is batch"),
        ] = None,
        statistics: Annotated[
            Literal["recomputed", "running"],
            Knob("of batch normalisation: taken anew after training, or followed in it"),
        ] = "recomputed",
        dropout: Annotated[
            float, Knob("probability that a number is dropped", ge=0, lt=1, search=(0.0, 0.2))
        ] = 0.0,
    ) -> None:
        """A network on pictures that can be cut."""

    @property
    def least_size(self) -> int:
        """The least side: a CNN halves its maps twice."""
        return 4 if self.network in ("cnn", "inverted") else 1

    def follows_statistics(self) -> bool:
        """As `statistics` says."""
        return self.statistics == "running"

    def build_network(self, rows: ImageRows) -> nn.Module:
        """The network of the estimator's kind and size."""
        self._refuse_idle_knobs()
        shape = {"channels": rows.channels, "n_outputs": rows.n_outputs}
        if self.network == "cnn":
            return ResidualCNN(
                width=self.width or 32, n_blocks=self.depth or 2, dropout=self.dropout, **shape
            )
        if self.network == "inverted":
            width = self.width or 16
            return InvertedCNN(
                width=width, hidden=max(1, round((self.mlp_ratio or 3.0) * width)),
                depth=self.depth or 2, norm=cast(Norm, self.norm or "batch"), **shape,
            )  # fmt: skip
        width, depth = self.width or (64 if self.network == "vit" else 128), self.depth or 4
        if self.network == "mlp":
            return PictureMLP(
                shape=[rows.channels, *rows.size], n_outputs=rows.n_outputs, width=width,
                depth=depth, hidden=max(1, round((self.mlp_ratio or 1.0) * width)),
                dropout=self.dropout,
            )  # fmt: skip
        return SortedViT(
            image_size=rows.size, patch=self.patch or math.ceil(max(rows.size) / PATCHES),
            width=width, depth=depth, heads=self.heads or 4, head_dim=self.head_dim or 16,
            hidden=max(1, round((self.mlp_ratio or 4.0) * width)), dropout=self.dropout, **shape,
        )  # fmt: skip

    def _refuse_idle_knobs(self) -> None:
        """Refuse a knob that this network has no use for.

        Raises:
            KnobError: such a knob is given.
        """
        users = {
            "heads": ("vit",), "head_dim": ("vit",), "patch": ("vit",), "norm": ("inverted",),
            "mlp_ratio": ("inverted", "vit", "mlp"), "dropout": ("cnn", "vit", "mlp"),
            "head_counts": ("vit",), "ffns": ("inverted", "vit", "mlp"),
        }  # fmt: skip
        for name, networks in users.items():
            if getattr(self, name) and self.network not in networks:
                raise KnobError(
                    f"{name} is for network={' or '.join(networks)}, not for {self.network}"
                )
        plain = self.network in ("vit", "mlp") or self.norm == "group"
        if self.statistics == "running" and plain:
            raise KnobError("statistics=running is for batch normalisation, which is not here")

    def example_inputs(self) -> dict[str, torch.Tensor]:
        """One picture of zeros."""
        pixels = self.pixels(np.empty((0, *self.image_shape_), np.float32))
        return {"pixels": torch.zeros(1, *pixels.shape[1:])}
