"""Restricted Boltzmann machines, which learn the layers of a deep belief network one by one.

    p(h_j = 1 | v) = sigmoid(c_j + v W_j)
    p(v | h)       = sigmoid(b + h W^T)                    bits
    v | h          ~ N(b + h W^T, 1)                       numbers, which are standardised before

One step of contrastive divergence (CD-1), over a batch, h0 drawn and h1 a probability:

    dW = <v0 h0> - <v1 h1>,     db = <v0> - <v1>,     dc = <h0> - <h1>
"""

from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.errors import DataError
from stackwise.knobs import Knob
from stackwise.training.batches import epoch_generator

Visible = Literal["gaussian", "bernoulli"]


class Divergence(NamedTuple):
    """What a step adds: to the weights (v, h), to the biases of visible and of hidden units."""

    weight: Tensor
    visible: Tensor
    hidden: Tensor
    error: Tensor


def contrastive_divergence(
    v0: Tensor, weight: Tensor, visible_bias: Tensor, hidden_bias: Tensor, visible: Visible,
    generator: torch.Generator | None = None,
) -> Divergence:  # fmt: skip
    """CD-1 of a batch.

    Args:
        v0: (B, v). weight: (v, h). visible_bias: (v,). hidden_bias: (h,).

    Returns:
        means over the batch, and `error`, the mean squared distance of v1 from v0.
    """
    p0 = torch.sigmoid(hidden_bias + v0 @ weight)
    h0 = torch.bernoulli(p0, generator=generator)
    v1 = visible_bias + h0 @ weight.T
    if visible == "bernoulli":
        v1 = torch.sigmoid(v1)
    h1 = torch.sigmoid(hidden_bias + v1 @ weight)
    rows = len(v0)
    return Divergence(
        (v0.T @ h0 - v1.T @ h1) / rows, (v0 - v1).mean(0), (h0 - h1).mean(0),
        (v0 - v1).square().mean(),
    )  # fmt: skip


class RBM(nn.Module):
    """A restricted Boltzmann machine.

        RBM(64, 32, visible="bernoulli").fit_transform(X)

    Parameters: `weight` (v, h), `visible_bias` (v,), `hidden_bias` (h,).
    """

    def __init__(
        self, n_visible: int, n_hidden: int, visible: Visible = "gaussian", *, seed: int = 0
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        weight = torch.empty(n_visible, n_hidden).normal_(0, 0.01, generator=generator)
        self.weight = nn.Parameter(weight)
        self.visible_bias = nn.Parameter(torch.zeros(n_visible))
        self.hidden_bias = nn.Parameter(torch.zeros(n_hidden))
        self.visible: Visible = visible
        self.seed = seed

    def forward(self, v: Tensor) -> Tensor:
        """(B, v) -> (B, h) the probabilities of the hidden units."""
        return torch.sigmoid(self.hidden_bias + v @ self.weight)

    def free_energy(self, v: Tensor) -> Tensor:
        """(B,) F(v), with p(v) in proportion to exp(-F(v)).

        F(v) = -b v - sum_j softplus(c_j + v W_j), of bits; of numbers (v - b)^2 / 2 is there in
        place of -b v.
        """
        hidden = functional.softplus(self.hidden_bias + v @ self.weight).sum(1)
        if self.visible == "bernoulli":
            return -(v @ self.visible_bias) - hidden
        return (v - self.visible_bias).square().sum(1) / 2 - hidden

    @torch.no_grad()
    def fit(
        self,
        X: Tensor | np.ndarray,
        *,
        epochs: Annotated[int, Knob("passes over the rows")] = 10,
        lr: float = 0.01,
        batch_size: int = 32,
    ) -> Self:
        """Learn from (n, v) rows by CD-1.

        Raises:
            DataError: they are of another width, or bits are none.
        """
        rows = torch.as_tensor(X, dtype=torch.float32)
        if rows.ndim != 2 or rows.shape[1] != len(self.visible_bias):
            raise DataError(
                f"rows have the shape {tuple(rows.shape)}; (n, {len(self.visible_bias)}) is right"
            )
        if self.visible == "bernoulli" and bool(((rows < 0) | (rows > 1)).any()):
            raise DataError("bits lie between 0 and 1; for other numbers take visible='gaussian'")
        for epoch in range(epochs):
            generator = epoch_generator(self.seed, epoch)
            order = torch.randperm(len(rows), generator=generator)
            for start in range(0, len(rows), batch_size):
                step = contrastive_divergence(
                    rows[order[start : start + batch_size]], self.weight, self.visible_bias,
                    self.hidden_bias, self.visible, generator,
                )  # fmt: skip
                self.weight.add_(lr * step.weight)
                self.visible_bias.add_(lr * step.visible)
                self.hidden_bias.add_(lr * step.hidden)
        return self

    @torch.no_grad()
    def transform(self, X: Tensor | np.ndarray) -> Tensor:
        """(n, h) the probabilities of the hidden units."""
        found: Tensor = self(torch.as_tensor(X, dtype=torch.float32))
        return found

    def fit_transform(self, X: Tensor | np.ndarray, **options: float) -> Tensor:
        """Learn, and the hidden units of the same rows."""
        return self.fit(X, **options).transform(X)  # type: ignore[arg-type]
