"""A small residual convolutional network: what a method on pictures has to beat.

    x <- ReLU(N(C2(ReLU(N(C1(x))))) + S(x))        C 3x3 convolutions, N batch normalisation,
                                                    S the identity, or 1x1 where the shape changes

A stem, three stages of like blocks, each stage at half the side and twice the channels, the mean
over places, a linear head: the residual network of arXiv 1512.03385 in the form that it took for
32 x 32 pictures.
"""

from typing import Annotated, Any

from torch import Tensor, nn

from stackwise.catalog import Knob, baseline
from stackwise.layers.arguments import keeps_arguments
from stackwise.layers.residual_block import ResidualBlock
from stackwise.tasks.images.estimators.learner import ImageClassifier, ImageRows

STAGES = 3


@keeps_arguments
class ResidualCNN(nn.Module):
    """Three stages of residual blocks.

    Args:
        channels: of the pictures. n_outputs: outputs.
        width: channels of the first stage; each later one has twice as many.
        n_blocks: blocks of a stage.
        dropout: probability that a feature is dropped before the head, in training.
    """

    arguments: dict[str, Any]

    def __init__(
        self,
        *,
        channels: int,
        n_outputs: int,
        width: int = 32,
        n_blocks: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.blocks = nn.ModuleList()
        before = width
        for stage in range(STAGES):
            after = width * 2**stage
            for place in range(n_blocks):
                stride = 2 if stage and place == 0 else 1
                self.blocks.append(ResidualBlock(before, after, stride))
                before = after
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(before, n_outputs)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, n_outputs)."""
        x = self.stem(pixels)
        for block in self.blocks:
            x = block(x)
        output: Tensor = self.head(self.dropout(x.mean((2, 3))))
        return output


@baseline(
    "residual-cnn",
    title="Small residual CNN",
    training={"lr": 2e-3, "weight_decay": 5e-4, "schedule": "cosine", "max_epochs": 40,
              "patience": None},
    presets={
        "quick": {"width": 12, "max_epochs": 12},
        "standard": {},
        "best": {"width": 48, "n_blocks": 3, "max_epochs": 120},
    },
)  # fmt: skip
class ResidualCNNClassifier(ImageClassifier):
    """A small residual convolutional network on pictures."""

    def __init__(
        self,
        *,
        width: Annotated[
            int, Knob("channels of the first stage", ge=1, le=1024, log=True, search=(8, 64))
        ] = 32,
        n_blocks: Annotated[int, Knob("blocks of a stage", ge=1, le=64, search=(1, 3))] = 2,
        dropout: Annotated[
            float, Knob("probability that a feature is dropped", ge=0, lt=1, search=(0.0, 0.5))
        ] = 0.0,
    ) -> None:
        """A small residual CNN."""

    @property
    def least_size(self) -> int:
        """The least side: maps are halved twice."""
        return 4

    def build_network(self, rows: ImageRows) -> nn.Module:
        """A `ResidualCNN` of the estimator's size."""
        return ResidualCNN(
            channels=rows.channels, n_outputs=rows.n_outputs, width=self.width,
            n_blocks=self.n_blocks, dropout=self.dropout,
        )  # fmt: skip
