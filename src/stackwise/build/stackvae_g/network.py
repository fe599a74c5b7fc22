"""The network: a shared encoder and decoder for every channel, and the graph between them."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.build.stackvae_g.graph import ChannelGraph, without_self
from stackwise.layers.arguments import keeps_arguments
from stackwise.tasks.anomalies.detectors.divergence import kl_to_standard_normal

Likelihood = Literal["mse", "gaussian"]


@dataclass(frozen=True)
class Written:
    """What the network makes of windows, each (B, n, d) or (B, n, w).

    Attributes:
        x_hat: a draw of what is written back. mu, logvar: of the posterior.
        x_mean, x_logvar: of the decoder. adjacency: A~ (n, n), None where the graph plays no part.
    """

    x_hat: Tensor
    mu: Tensor
    logvar: Tensor
    x_mean: Tensor
    x_logvar: Tensor
    adjacency: Tensor | None


@keeps_arguments
class StackVAEG(nn.Module):
    """(B, n, w) -> what is written back; every channel goes through the same weights.

    Args:
        channels: n. window: w.
        gamma: how much of a channel's feature comes from its neighbours; 0 is StackVAE.
        graph_weight: lambda, of the loss that learns the graph.
        self_loops: whether a channel may be explained by itself in that loss, as in the public
            code, where A~ = 1 makes it zero.
        likelihood: `mse`: the squared error of a draw, as in the public code; `gaussian`: -log p of
            the window, and errors over the learned variance.
        n_samples: draws of the posterior whose mean is decoded when a moment is scored; 0 is mu.
    """

    arguments: dict[str, Any]
    mean_noise: Tensor

    def __init__(
        self,
        *,
        channels: int,
        window: int = 100,
        hidden: int = 200,
        latent: int = 20,
        gamma: float = 0.5,
        graph_weight: float = 1.0,
        neighbours: int = 10,
        embedding: int = 30,
        alpha: float = 3.0,
        directed: bool = False,
        self_loops: bool = True,
        init_scale: float = 1.0,
        likelihood: Likelihood = "mse",
        n_samples: int = 200,
    ) -> None:
        super().__init__()
        self.gamma, self.graph_weight, self.self_loops = gamma, graph_weight, self_loops
        self.likelihood = likelihood
        self.noise_shapes = [(channels, latent), (channels, window)]
        self.encoder = nn.Sequential(
            nn.Linear(window, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.feature = nn.Linear(hidden, latent)
        self.z_mean, self.z_logvar = nn.Linear(latent, latent), nn.Linear(latent, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.x_mean, self.x_logvar = nn.Linear(hidden, window), nn.Linear(hidden, window)
        self.graph = ChannelGraph(
            channels, neighbours=neighbours, embedding=embedding, alpha=alpha, directed=directed,
            init_scale=init_scale,
        )  # fmt: skip
        drawn = torch.randn(n_samples, channels, latent)
        noise = drawn.mean(0) if n_samples else torch.zeros(channels, latent)
        self.register_buffer("mean_noise", noise)  # of every window alike: a stream scores so, too

    @property
    def uses_graph(self) -> bool:
        """Whether the graph plays a part in what is written back or in the loss."""
        return self.gamma > 0 or self.graph_weight > 0

    def encoded(self, windows: Tensor, adjacency: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, n, w) -> mean and log variance (B, n, d) of the posterior."""
        features = self.feature(self.encoder(windows))
        if self.gamma > 0 and adjacency is not None:
            features = (1 - self.gamma) * features + self.gamma * (adjacency @ features)
        return self.z_mean(features), self.z_logvar(features)

    def forward(
        self, windows: Tensor, noise: Tensor | None = None, noise_x: Tensor | None = None
    ) -> Written:
        """Write windows back.

        Args:
            noise, noise_x: (B, n, d) and (B, n, w) standard normal numbers; None draws nothing.
        """
        adjacency = self.graph() if self.uses_graph else None
        mu, logvar = self.encoded(windows, adjacency)
        z = mu if noise is None else mu + torch.exp(logvar / 2) * noise
        hidden = self.decoder(z)
        x_mean, x_logvar = self.x_mean(hidden), self.x_logvar(hidden)
        x_hat = x_mean if noise_x is None else x_mean + torch.exp(x_logvar / 2) * noise_x
        return Written(x_hat, mu, logvar, x_mean, x_logvar, adjacency)

    def losses(self, windows: Tensor, *noise: Tensor) -> dict[str, Tensor]:
        """The mean over windows of sums over channels, moments and latent numbers."""
        found = self(windows, *noise)
        if self.likelihood == "mse":
            wrong = (found.x_hat - windows).square()
        else:
            wrong = 0.5 * (
                found.x_logvar + (found.x_mean - windows).square() * torch.exp(-found.x_logvar)
                + math.log(2 * math.pi)
            )  # fmt: skip
        parts = {
            "reconstruction": wrong.sum((1, 2)).mean(),
            "kl": kl_to_standard_normal(found.mu, found.logvar).sum((1, 2)).mean(),
        }
        loss = parts["reconstruction"] + parts["kl"]
        if self.graph_weight > 0:
            assert found.adjacency is not None
            joined = found.adjacency if self.self_loops else without_self(found.adjacency)
            parts["graph"] = (windows - joined @ windows).square().sum((1, 2)).mean()
            loss = loss + self.graph_weight * parts["graph"]
        return {"loss": loss, **parts}

    def scored(self, windows: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, n, w) -> mean and log variance (B, n, w) written back from the mean of the draws.

        Args:
            noise: (.., n, d) the mean of their noise; by default the one that is kept.
        """
        mu, logvar = self.encoded(windows, self.graph() if self.gamma > 0 else None)
        drawn = self.mean_noise if noise is None else noise
        hidden = self.decoder(mu + torch.exp(logvar / 2) * drawn)
        return self.x_mean(hidden), self.x_logvar(hidden)

    def window_errors(self, windows: Tensor) -> Tensor:
        """(B, n, w) -> (B, n, w) the error of each channel at each moment."""
        mean, logvar = self.scored(windows)
        wrong = (mean - windows).square()
        return wrong if self.likelihood == "mse" else wrong * torch.exp(-logvar)

    def last_errors(self, windows: Tensor) -> Tensor:
        """(B, n, w) -> (B, n) the errors of the last moment, which alone is decoded."""
        mu, logvar = self.encoded(windows, self.graph() if self.gamma > 0 else None)
        hidden = self.decoder(mu + torch.exp(logvar / 2) * self.mean_noise)
        mean = functional.linear(hidden, self.x_mean.weight[-1:], self.x_mean.bias[-1:])[..., 0]
        wrong = (mean - windows[..., -1]).square()
        if self.likelihood == "mse":
            return wrong
        spread = functional.linear(hidden, self.x_logvar.weight[-1:], self.x_logvar.bias[-1:])
        return wrong * torch.exp(-spread[..., 0])
