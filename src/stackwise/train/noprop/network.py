"""The stack: its latents, its losses, and how it answers.

    loss of DT's block t     (T / 2) eta (SNR(t) - SNR(t-1)) ||uhat_t(z_{t-1}, x) - u_y||^2
    beside it                CE(y, z_T) + KL(q(z_0 | y) || N(0, I))                        (eq. 8)
    CT                       the same with SNR'(t) / 2 and a time t ~ U[0, 1] a row        (eq. 9)
    FM                       ||v(z_t, x, t) - (u_y - z_0)||^2,  z_t = t u_y + (1-t) z_0 + sigma eps,
                             and CE(y, z_t + (1 - t) v) where W is learned             (eq. 10-13)

Squared errors are summed over d. z_T, z_{t-1} and z_t are drawn from (eq. 6): no block is run
to train another one, and the CE reads no block's output.

Answers: the latent is driven from noise to the label, and read by softmax(linear(z)) or by its
distance to the embeddings, which FM always does.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.layers.arguments import keeps_arguments
from stackwise.layers.one_hot import one_hot
from stackwise.train.noprop.blocks import (
    DenoisingBlock,
    LabelPath,
    PicturePath,
    PictureTower,
    RowTower,
)
from stackwise.train.noprop.embeddings import Embedding, first_embedding
from stackwise.train.noprop.schedules import LearnedSchedule, cosine_abar, snr, transition

Variant = Literal["dt", "ct", "fm"]
Readout = Literal["softmax", "posterior"]
ETA = {"dt": 0.1, "ct": 1.0, "fm": 1.0}
POSTERIOR = 0.5
"""Sigma of p(y | z), proportional to exp(-||z - u_y||^2 / (2 sigma^2)) (eq. 16); not in the paper.
It changes probabilities and no prediction of one draw."""


class NoPropStack(nn.Module):
    """What all three variants on every kind of input share. Subclasses make blocks.

    Args:
        classes: m. size: d. steps: of the latent in prediction; of DT also the number of blocks.
        embedding: see `embeddings`. fixed: W stays as it begins.
        eta: weight of the squared error. sigma: noise of FM's paths.
        draws: of noise, whose probabilities are averaged. seed: of that noise, which is the same
            for every row.
    """

    arguments: dict[str, Any]
    abar: Tensor
    noise: Tensor

    def __init__(
        self, *, variant: Variant, classes: int, size: int, steps: int, embedding: Embedding,
        fixed: bool, eta: float, sigma: float, readout: Readout, draws: int, seed: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.variant, self.steps, self.eta, self.sigma = variant, steps, eta, sigma
        self.reads: Readout = "posterior" if variant == "fm" else readout
        learned = embedding != "onehot" and not fixed
        self.embedding = nn.Parameter(first_embedding(embedding, classes, size), learned)
        self.readout = nn.Linear(size, classes)
        self.blocks = nn.ModuleList()
        self.schedule = LearnedSchedule() if variant == "ct" else None
        # numpy: torch would draw other numbers, or none, on another device
        drawn = np.random.default_rng(seed).standard_normal((draws, steps + 1, size))
        self.register_buffer("noise", torch.from_numpy(drawn.astype(np.float32)), persistent=False)
        self.register_buffer("abar", cosine_abar(steps).float(), persistent=False)

    def inputs(self, **given: Tensor) -> Tensor:
        """What a tower takes, of what the network is called with."""
        raise NotImplementedError

    @property
    def apart(self) -> bool:
        """Whether blocks can be trained apart: DT with a fixed embedding."""
        return self.variant == "dt" and not self.embedding.requires_grad

    # learning

    def label(self, soft: Tensor) -> Tensor:
        """(B, m) shares of the classes -> (B, d) embedding of the label."""
        return soft @ self.embedding

    def noised(self, u: Tensor, abar: Tensor, noise: Tensor) -> Tensor:
        """z ~ q(z | y): sqrt(abar) u + sqrt(1 - abar) noise (eq. 6)."""
        return abar.sqrt() * u + (1 - abar).sqrt() * noise

    def block_loss(self, place: int, x: Tensor, soft: Tensor, noise: Tensor) -> Tensor:
        """(B,) loss of DT's block number `place` (from 0): its squared error, by its step of SNR.

        Args:
            noise: (B, d) standard normal.
        """
        x, soft, noise = _at_least_two(x, soft, noise)
        u = self.label(soft)
        z = self.noised(u, self.abar[place], noise)
        block: DenoisingBlock = self.blocks[place]  # type: ignore[assignment]
        estimate = block.logits(z, x).softmax(-1) @ self.embedding
        gain = snr(self.abar[place + 1]) - snr(self.abar[place])
        return self.steps / 2 * self.eta * gain * (estimate - u).square().sum(1)

    def readout_loss(self, soft: Tensor, noise: Tensor, abar: Tensor | None = None) -> Tensor:
        """(B,) CE(y, z_T), with z_T drawn from (eq. 6)."""
        z = self.noised(self.label(soft), self.abar[-1] if abar is None else abar, noise)
        return _cross_entropy(self.readout(z), soft)

    def prior_loss(self, soft: Tensor, abar: Tensor | None = None) -> Tensor:
        """(B,) KL(q(z_0 | y) || N(0, I)) = (abar ||u||^2 - d abar - d log(1 - abar)) / 2."""
        u, first = self.label(soft), self.abar[0] if abar is None else abar
        d = u.shape[1]
        return (first * u.square().sum(1) - d * first - d * torch.log1p(-first)) / 2

    def continuous_loss(
        self, x: Tensor, soft: Tensor, t: Tensor, noise: Tensor, other: Tensor
    ) -> Tensor:
        """(B,) loss of CT or FM at a time a row.

        Args:
            t: (B,) in [0, 1]. noise, other: (B, d) standard normal.
        """
        u = self.label(soft)
        block: DenoisingBlock = self.blocks[0]  # type: ignore[assignment]
        if self.variant == "fm":
            time = t[:, None]
            z = time * u + (1 - time) * noise + self.sigma * other
            velocity = block.logits(z, x, t) @ self.embedding
            loss = (velocity - (u - noise)).square().sum(1)
            if self.embedding.requires_grad:  # or all rows of W would become one
                loss = loss + _cross_entropy(self.readout(z + (1 - time) * velocity), soft)
            return loss
        assert self.schedule is not None
        _, slope = self.schedule.snr_and_slope(t)
        z = self.noised(u, self.schedule.abar(t)[:, None], noise)
        estimate = block.logits(z, x, t).softmax(-1) @ self.embedding
        ends = self.schedule.abar(torch.tensor([0.0, 1.0], device=t.device))
        error = self.eta / 2 * slope * (estimate - u).square().sum(1)
        return error + self.readout_loss(soft, other, ends[1]) + self.prior_loss(soft, ends[0])

    # answering

    def latents(self, x: Tensor, noise: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """z after each of the steps, and what the block then took the label for, (B, m).

        Args:
            noise: (steps + 1, d): z_0, and what is added in each step.
        """
        z = noise[0].expand(x.shape[0], -1)
        blocks: Any = self.blocks
        if self.variant == "dt":
            for place, block in enumerate(blocks):
                said = block.logits(z, x)
                step = transition(self.abar[place], self.abar[place + 1])
                z = block(z, x, self.embedding, step, noise[place + 1])
                yield z, said
            return
        block, seen = blocks[0], blocks[0].tower(x)
        times = torch.linspace(0, 1, self.steps + 1, device=x.device)
        abar = self.abar if self.schedule is None else self.schedule.abar(times)
        for place in range(self.steps):
            said = block.logits(z, x, times[place].expand(x.shape[0]), seen)
            if self.variant == "fm":
                z = z + said @ self.embedding / self.steps
            else:
                a, b, c = transition(abar[place], abar[place + 1])
                z = a * said.softmax(-1) @ self.embedding + b * z + c.sqrt() * noise[place + 1]
            yield z, said

    def probabilities(self, z: Tensor) -> Tensor:
        """(B, d) -> (B, m) p(y | z)."""
        if self.reads == "softmax":
            return self.readout(z).softmax(-1)
        if self.variant != "fm":
            z = self.readout(z).softmax(-1) @ self.embedding
        # the distance by its parts: cdist has no gradient at 0, and no ONNX
        squares = self.embedding.square().sum(1) - 2 * z @ self.embedding.T
        return (-squares / (2 * POSTERIOR**2)).softmax(-1)

    def run(self, x: Tensor, noise: Tensor) -> Tensor:
        """(B, m) probabilities at the end of all steps, for one draw of noise."""
        z = x
        for z, _ in self.latents(x, noise):  # noqa: B007
            pass
        return self.probabilities(z)

    def answer(self, x: Tensor) -> Tensor:
        """(B, m) logarithms of the mean probabilities over the draws."""
        total = sum(self.run(x, noise) for noise in self.noise)
        assert isinstance(total, Tensor)
        return (total / len(self.noise)).clamp(min=1e-12).log()


class Stages(nn.Module):
    """The stack's answers after each step: (B, 2 T, m), the latents' and then the blocks' own."""

    def __init__(self, stack: NoPropStack) -> None:
        super().__init__()
        self.stack = stack

    def forward(self, **given: Tensor) -> Tensor:
        """Logarithms of mean probabilities over the draws."""
        x = self.stack.inputs(**given)
        read: list[Tensor] = []
        said: list[Tensor] = []
        for noise in self.stack.noise:
            for place, (z, logits) in enumerate(self.stack.latents(x, noise)):
                if len(read) == place:
                    read.append(torch.zeros_like(logits))
                    said.append(torch.zeros_like(logits))
                read[place] = read[place] + self.stack.probabilities(z)
                said[place] = said[place] + logits.softmax(-1)
        found = torch.stack(read + said, 1) / len(self.stack.noise)
        return found.clamp(min=1e-12).log()


@keeps_arguments
class NoPropImages(NoPropStack):
    """NoProp on pictures: a tower of convolutions in each block.

    Args:
        shape: (C, H, W). width: channels of the first convolution; the others have two and four
            times as many. hidden: units of each path. dropout: after convolutions.
    """

    def __init__(
        self, *, shape: Sequence[int], variant: Variant, classes: int, size: int, steps: int,
        embedding: Embedding, fixed: bool, eta: float, sigma: float, readout: Readout, draws: int,
        seed: int, width: int, hidden: int, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__(
            variant=variant, classes=classes, size=size, steps=steps, embedding=embedding,
            fixed=fixed, eta=eta, sigma=sigma, readout=readout, draws=draws, seed=seed,
        )  # fmt: skip
        norm, sides = variant == "dt", (shape[0], shape[1], shape[2])

        def label() -> nn.Module:
            if embedding == "prototype":
                return PicturePath(sides, width, hidden, dropout, norm=norm)
            return LabelPath(size, hidden, norm=norm)

        for _ in range(steps if variant == "dt" else 1):
            tower = PictureTower(sides, width, hidden, dropout, norm=norm)
            self.blocks.append(DenoisingBlock(tower, label(), hidden, classes, timed=not norm))

    def inputs(self, **given: Tensor) -> Tensor:
        """The pictures."""
        return given["pixels"]

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, m) logarithms of probabilities."""
        return self.answer(pixels)


@keeps_arguments
class NoPropTable(NoPropStack):
    """NoProp on tables: a tower of linear layers in each block.

    Args:
        n_numeric: numeric features. cardinalities: codes of each categorical one, made one-hot.
        width, hidden: units. dropout: after each layer of the tower.
    """

    def __init__(
        self, *, n_numeric: int, cardinalities: list[int], variant: Variant, classes: int,
        size: int, steps: int, embedding: Embedding, fixed: bool, eta: float, sigma: float,
        readout: Readout, draws: int, seed: int, width: int, hidden: int, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__(
            variant=variant, classes=classes, size=size, steps=steps, embedding=embedding,
            fixed=fixed, eta=eta, sigma=sigma, readout=readout, draws=draws, seed=seed,
        )  # fmt: skip
        self.cardinalities = list(cardinalities)
        inputs, norm = n_numeric + sum(self.cardinalities), variant == "dt"
        for _ in range(steps if norm else 1):
            tower = RowTower(inputs, width, hidden, dropout, norm=norm)
            label = LabelPath(size, hidden, norm=norm)
            self.blocks.append(DenoisingBlock(tower, label, hidden, classes, timed=not norm))

    def inputs(self, **given: Tensor) -> Tensor:
        """(B, inputs) numbers and one-hot categories."""
        hot = one_hot(given["categorical"], self.cardinalities)
        return torch.cat([given["numeric"], hot], dim=1)

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """(B, n_numeric) and (B, n_categorical) codes -> (B, m) logarithms of probabilities."""
        return self.answer(self.inputs(numeric=numeric, categorical=categorical))


def _cross_entropy(logits: Tensor, soft: Tensor) -> Tensor:
    """(B,) of logits and shares of the classes."""
    return -(soft * functional.log_softmax(logits.float(), -1)).sum(1)


def _at_least_two(*rows: Tensor) -> list[Tensor]:
    """A batch of one row twice: batch norm has no deviation over one."""
    return [torch.cat([one, one]) if len(one) == 1 else one for one in rows]


def picture_size(shape: Sequence[int]) -> int:
    """Numbers of a picture."""
    return math.prod(shape)
