"""An LSTM that reads a picture as a series: its rows from the top, one a step.

    h_t, c_t = LSTM(row_t, h_{t-1}, c_{t-1}),   logits = W [h_H; mean_t h_t] + b

A recurrent network without convolutions, which shows how much of a score comes from knowing that
pictures have two directions.
"""

from typing import Annotated, Any

import torch
from torch import Tensor, nn

from stackwise.catalog import Knob, baseline
from stackwise.layers.arguments import keeps_arguments
from stackwise.tasks.images.estimators.learner import ImageClassifier, ImageRows


@keeps_arguments
class RowLSTM(nn.Module):
    """An LSTM over the rows of a picture, and a linear head.

    Args:
        channels: of the pictures. image_size: (H, W): H steps of channels * W numbers.
        n_outputs: outputs. width: units of a layer. depth: layers.
        dropout: probability that a unit is dropped between layers and before the head.
    """

    arguments: dict[str, Any]

    def __init__(
        self,
        *,
        channels: int,
        image_size: tuple[int, int],
        n_outputs: int,
        width: int = 128,
        depth: int = 1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            channels * image_size[1], width, depth, batch_first=True,
            dropout=dropout if depth > 1 else 0.0,
        )  # fmt: skip
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, n_outputs)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, n_outputs)."""
        rows = pixels.transpose(1, 2).flatten(2)  # (B, H, channels * W)
        states, _ = self.lstm(rows)
        output: Tensor = self.head(self.dropout(torch.cat([states[:, -1], states.mean(1)], dim=1)))
        return output


@baseline(
    "row-lstm",
    title="LSTM over the rows of a picture",
    training={"lr": 2e-3, "weight_decay": 1e-4, "schedule": "cosine", "max_epochs": 40,
              "patience": None},
    presets={
        "quick": {"max_epochs": 15},
        "standard": {},
        "best": {"width": 256, "depth": 2, "max_epochs": 120},
    },
)  # fmt: skip
class RowLSTMClassifier(ImageClassifier):
    """An LSTM that reads a picture row by row."""

    def __init__(
        self,
        *,
        width: Annotated[
            int, Knob("units of a layer", ge=1, le=8192, log=True, search=(32, 512))
        ] = 128,
        depth: Annotated[int, Knob("layers", ge=1, le=16, search=(1, 3))] = 1,
        dropout: Annotated[
            float, Knob("probability that a unit is dropped", ge=0, lt=1, search=(0.0, 0.5))
        ] = 0.1,
    ) -> None:
        """An LSTM over rows."""

    def build_network(self, rows: ImageRows) -> nn.Module:
        """A `RowLSTM` of the estimator's size."""
        return RowLSTM(
            channels=rows.channels, image_size=rows.size, n_outputs=rows.n_outputs,
            width=self.width, depth=self.depth, dropout=self.dropout,
        )  # fmt: skip
