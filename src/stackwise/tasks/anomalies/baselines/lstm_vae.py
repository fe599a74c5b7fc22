"""The recurrent baseline: a small LSTM reads a window into a distribution, another one writes it
back from a draw (Park et al. 2018, without their progressive prior).

    loss = |x_hat - x|^2 + KL,   summed over channels, moments and latent numbers
"""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from stackwise.catalog import Knob, baseline
from stackwise.layers.arguments import keeps_arguments
from stackwise.tasks.anomalies.detectors.divergence import kl_to_standard_normal
from stackwise.tasks.anomalies.detectors.network import (
    L2,
    Decay,
    DecayEvery,
    LearningRate,
    NetworkDetector,
    Window,
)


@keeps_arguments
class LSTMVAE(nn.Module):
    """(B, n, w) -> (B, n, w), by way of `latent` numbers."""

    arguments: dict[str, Any]

    def __init__(self, *, channels: int, window: int, hidden: int = 32, latent: int = 8) -> None:
        super().__init__()
        self.window = window
        self.noise_shapes = [(latent,)]
        self.reads = nn.LSTM(channels, hidden, batch_first=True)
        self.mean, self.logvar = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.writes = nn.LSTM(latent, hidden, batch_first=True)
        self.out = nn.Linear(hidden, channels)

    def encoded(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """(B, latent) mean and log variance."""
        _, (last, _) = self.reads(windows.transpose(1, 2))
        return self.mean(last[-1]), self.logvar(last[-1])

    def decoded(self, z: Tensor) -> Tensor:
        """(B, latent) -> (B, n, w)."""
        steps, _ = self.writes(z[:, None].expand(-1, self.window, -1))
        found: Tensor = self.out(steps).transpose(1, 2)
        return found

    def forward(self, windows: Tensor) -> Tensor:
        """The windows, written back from the mean."""
        return self.decoded(self.encoded(windows)[0])

    def losses(self, windows: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """See `Variational`."""
        mean, logvar = self.encoded(windows)
        written = self.decoded(mean + torch.exp(logvar / 2) * noise)
        wrong = (written - windows).square().sum((1, 2)).mean()
        kl = kl_to_standard_normal(mean, logvar).sum(1).mean()
        return {"loss": wrong + kl, "reconstruction": wrong, "kl": kl}

    def last_errors(self, windows: Tensor) -> Tensor:
        """See `Variational`."""
        found: Tensor = (self(windows)[:, :, -1] - windows[:, :, -1]).square()
        return found


@baseline(
    "lstm-vae",
    title="A small LSTM variational autoencoder",
    training={"max_epochs": 60, "patience": None, "grad_clip": 12.0},
    presets={"quick": {"window": 12, "hidden": 8, "latent": 3, "max_epochs": 8}},
)
class LSTMVAEDetector(NetworkDetector):
    """Score a moment by how badly a recurrent autoencoder writes it back."""

    def __init__(
        self,
        *,
        window: Window = 30,
        hidden: Annotated[int, Knob("units of each LSTM", ge=1, search=(16, 128))] = 32,
        latent: Annotated[int, Knob("latent numbers", ge=1, search=(4, 32))] = 8,
        lr: LearningRate = 1e-3,
        weight_decay: L2 = 1e-3,
        lr_decay: Decay = 0.8,
        decay_every: DecayEvery = 10,
    ) -> None: ...

    def build_network(self, channels: int) -> nn.Module:
        """An `LSTMVAE` of this size."""
        return LSTMVAE(
            channels=channels, window=self.window, hidden=self.hidden, latent=self.latent
        )  # fmt: skip

    def network_of(self, arguments: Mapping[str, Any]) -> nn.Module:
        """The same from its arguments."""
        return LSTMVAE(**arguments)
