"""How a step learns: one block by itself, or all of them on a batch, one after another.

Noise depends on (seed, block, epoch, place) alone. So a block learns the same whether others are
trained before it, beside it, or not at all, and a fit that is resumed sees the noise that it would
have seen.

No gradient of a block reaches another: each has a loss of its own, on latents that are drawn from
the label. Its graph is freed before the next one's is made, so that the memory of activations does
not grow with the number of blocks.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stackwise.learning.outputs import BESIDE, Distilling
from stackwise.train.noprop.network import NoPropStack
from stackwise.training.rules import Backprop, Loop


def soft_target(batch: dict[str, Tensor], classes: int, loss: Any = None) -> Tensor:
    """(B, m) shares of the classes: one-hot, or of two classes where rows are mixed; beside a
    teacher alpha of that, and the rest of the teacher's softmax at its temperature.

    Args:
        loss: `Distilling` where a teacher is learned from.
    """
    soft = nn.functional.one_hot(batch["target"], classes).float()
    if "share" in batch:
        share = batch["share"][:, None]
        soft = share * soft + (1 - share) * nn.functional.one_hot(batch["target_other"], classes)
    if isinstance(loss, Distilling) and loss.alpha < 1:
        said = (loss.answers(batch) / loss.temperature).softmax(-1).to(soft)
        soft = loss.alpha * soft + (1 - loss.alpha) * said
    return soft


def inputs_of(stack: NoPropStack, batch: dict[str, Any]) -> Tensor:
    """What the towers take, of a batch."""
    return stack.inputs(**{name: value for name, value in batch.items() if name not in BESIDE})


def generator_of(*numbers: int) -> torch.Generator:
    """Random numbers that depend on these numbers alone."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def drawn(loop: Loop, like: Tensor, size: int, *numbers: int) -> Tensor:
    """(B, size) standard normal, for the rows of `like`."""
    generator = generator_of(*numbers, loop.epoch, loop.place)
    noise = loop.for_each_row(len(like), lambda n: torch.randn(n, size, generator=generator))
    return noise.to(like.device)


def weighed(losses: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """The mean of row losses by the rows' weights."""
    if len(losses) != len(batch["weight"]):  # a single row, which went through twice
        losses = losses[: len(batch["weight"])]
    return (losses * batch["weight"]).mean()


class BlockRule(Backprop):
    """Train one block of DT, or the readout (`place` = the number of blocks), and nothing else."""

    def __init__(self, place: int, seed: int, *, loss: Any = None, **options: Any) -> None:
        super().__init__(lambda model, batch: torch.zeros(()), **options)
        self.place, self.seed, self.of_rows = place, seed, loss

    def part(self, model: nn.Module) -> nn.Module:
        """What learns."""
        assert isinstance(model, NoPropStack)
        last = self.place == len(model.blocks)
        return model.readout if last else model.blocks[self.place]

    def optimizers(self, model: nn.Module) -> list[Optimizer]:
        """One of the block's parameters; dropout begins from the block's own seed."""
        torch.manual_seed(int(generator_of(self.seed, self.place).initial_seed() % 2**62))
        return super().optimizers(self.part(model))

    def step(self, loop: Loop, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """One step of the block; of the readout, which is small, as many as there are blocks."""
        assert isinstance(model, NoPropStack)
        soft = soft_target(batch, len(model.embedding), self.of_rows)
        size = model.embedding.shape[1]
        x = inputs_of(model, batch)
        times = len(model.blocks) if self.place == len(model.blocks) else 1
        for turn in range(times):
            noise = drawn(loop, x, size, self.seed, self.place, turn)
            if self.place == len(model.blocks):
                losses = model.readout_loss(soft, noise)
            else:
                losses = model.block_loss(self.place, x, soft, noise)
            loss = weighed(losses, batch)
            loop.backward(loss)
            self.update(loop, loop.optimizers[0])
        return {"loss": loss.detach()}


class NoPropRule(Backprop):
    """Train everything on each batch: of DT block after block with a step after each, as algorithm
    1 has it but for the order of its two loops; of CT and FM the one block.
    """

    def __init__(self, seed: int, *, loss: Any = None, **options: Any) -> None:
        super().__init__(lambda model, batch: torch.zeros(()), **options)
        self.seed, self.of_rows = seed, loss

    def step(self, loop: Loop, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """As many steps of the optimizer as there are blocks."""
        assert isinstance(model, NoPropStack)
        soft = soft_target(batch, len(model.embedding), self.of_rows)
        size = model.embedding.shape[1]
        x = inputs_of(model, batch)
        total = torch.zeros((), device=x.device)
        for place in range(len(model.blocks)):
            noise, other = (drawn(loop, x, size, self.seed, place, k) for k in (0, 1))
            if model.variant == "dt":
                losses = model.block_loss(place, x, soft, noise)[: len(soft)]
                losses = losses + model.readout_loss(soft, other) + model.prior_loss(soft)
            else:
                normal = drawn(loop, x, 1, self.seed, place, 2)[:, 0]
                uniform = torch.special.ndtr(normal)  # times, from the rows' own normal numbers
                losses = model.continuous_loss(x, soft, uniform, noise, other)
            loss = weighed(losses, batch)
            loop.backward(loss)
            self.update(loop, loop.optimizers[0])
            total = total + loss.detach()
        return {"loss": total / len(model.blocks)}


def stack_loss(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    """The loss of all blocks together, for those who train a stack further in their own loop: its
    gradient is each block's own, and the noise is torch's.
    """
    assert isinstance(model, NoPropStack)
    soft, size = soft_target(batch, len(model.embedding)), model.embedding.shape[1]
    x = inputs_of(model, batch)

    def noise() -> Tensor:
        return torch.randn(len(x), size, device=x.device)

    if model.variant != "dt":
        times = torch.rand(len(x), device=x.device)
        return weighed(model.continuous_loss(x, soft, times, noise(), noise()), batch)
    beside = weighed(model.readout_loss(soft, noise()) + model.prior_loss(soft), batch)
    blocks = [
        weighed(model.block_loss(place, x, soft, noise()), batch)
        for place in range(len(model.blocks))
    ]
    return beside + torch.stack(blocks).sum()
