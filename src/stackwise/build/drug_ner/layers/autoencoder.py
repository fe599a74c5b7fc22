"""Denoising auto-encoders with tied weights, which learn the layers of a stacked one one by one.

    x~ = x * Bernoulli(1 - nu)          some inputs are put out
    y  = s(W x~ + b)
    z  = W^T y + b'                     the decoder's weights are the encoder's, turned around

The loss is ||z - x||^2 for numbers, and the cross-entropy of sigmoid(z) for what lies in [0, 1].
"""

from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.training.batches import epoch_generator

Values = Literal["numbers", "bits"]


def denoising_loss(
    x: Tensor, weight: Tensor, bias: Tensor, visible_bias: Tensor, *, noise: float, values: Values,
    generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """The mean over a batch of the loss of its rows.

    Args:
        x: (B, v). weight: (h, v). bias: (h,). visible_bias: (v,).
        noise: nu, the share of inputs that are put out; nothing is drawn where it is 0.
    """
    put_out = x
    if noise:
        put_out = x * torch.bernoulli(torch.full_like(x, 1 - noise), generator=generator)
    hidden = torch.sigmoid(functional.linear(put_out, weight, bias))
    again = functional.linear(hidden, weight.T, visible_bias)
    if values == "bits":
        losses = functional.binary_cross_entropy_with_logits(again, x, reduction="none")
    else:
        losses = (again - x).square()
    return losses.sum(1).mean()


class DenoisingAutoencoder(nn.Module):
    """A denoising auto-encoder: `DenoisingAutoencoder(64, 32, noise=0.2).fit_transform(X)`.

    Parameters: `weight` (h, v), `bias` (h,), `visible_bias` (v,).
    """

    def __init__(
        self, n_visible: int, n_hidden: int, *, noise: float = 0.2, values: Values = "numbers",
        seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        bound = n_visible**-0.5
        weight = torch.empty(n_hidden, n_visible).uniform_(-bound, bound, generator=generator)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(n_hidden))
        self.visible_bias = nn.Parameter(torch.zeros(n_visible))
        self.noise, self.values, self.seed = noise, values, seed

    def encode(self, x: Tensor) -> Tensor:
        """(B, v) -> (B, h)."""
        return torch.sigmoid(functional.linear(x, self.weight, self.bias))

    def decode(self, y: Tensor) -> Tensor:
        """(B, h) -> (B, v)."""
        z = functional.linear(y, self.weight.T, self.visible_bias)
        return torch.sigmoid(z) if self.values == "bits" else z

    def forward(self, x: Tensor) -> Tensor:
        """(B, v) -> (B, v), without noise."""
        return self.decode(self.encode(x))

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The loss of (B, v) rows, of which some inputs are put out."""
        return denoising_loss(
            x, self.weight, self.bias, self.visible_bias, noise=self.noise, values=self.values,
            generator=generator,
        )  # fmt: skip

    def fit(
        self, X: Tensor | np.ndarray, *, epochs: int = 10, lr: float = 1e-3, batch_size: int = 32
    ) -> Self:
        """Learn from (n, v) rows with Adam."""
        rows = torch.as_tensor(X, dtype=torch.float32)
        optimizer = torch.optim.Adam(self.parameters(), lr=lr)
        for epoch in range(epochs):
            generator = epoch_generator(self.seed, epoch)
            order = torch.randperm(len(rows), generator=generator)
            for start in range(0, len(rows), batch_size):
                optimizer.zero_grad()
                self.loss(rows[order[start : start + batch_size]], generator).backward()
                optimizer.step()
        return self

    @torch.no_grad()
    def transform(self, X: Tensor | np.ndarray) -> Tensor:
        """(n, h)."""
        return self.encode(torch.as_tensor(X, dtype=torch.float32))

    def fit_transform(self, X: Tensor | np.ndarray, **options: float) -> Tensor:
        """Learn, and the codes of the same rows."""
        return self.fit(X, **options).transform(X)  # type: ignore[arg-type]
