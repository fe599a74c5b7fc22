"""NoProp: one worker against two, and its cost against plain torch and plain rivals.

- a pass of all blocks over a batch (forward, backward and a step each) against the same written out
  in plain torch, and against back-propagation through the same stack;
- a step of one block against one block trained by cross-entropy: what a block costs;
- activations kept for backward, against back-propagation;
- a whole fit in one process against two (goal: 1.7), their start included.
"""

import copy
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from side_by_side import alternate, line, seconds_of
from stackwise.train.noprop import NoPropClassifier, NoPropImages
from stackwise.train.noprop.peers import (
    BackpropChain,
    OneBlock,
    chain_loss,
    plain_loss,
    saved_bytes,
)

SIZES = {
    "8 x 8, 5 blocks of 8 channels": (8, 5, 8, 64, 15),
    "14 x 14, 10 blocks of 8 channels": (14, 10, 8, 64, 7),
    "28 x 28, 10 blocks of 16 channels": (28, 10, 16, 128, 3),
}
BATCH = 64
PICTURES, EPOCHS = 1500, 22


def stack(side: int, steps: int, width: int, hidden: int) -> NoPropImages:
    torch.manual_seed(0)
    return NoPropImages(
        shape=(1, side, side), variant="dt", classes=10, size=10, steps=steps, embedding="onehot",
        fixed=False, eta=0.1, sigma=0.1, readout="softmax", draws=1, seed=0, width=width,
        hidden=hidden, dropout=0.2,
    )  # fmt: skip


def stepper(model: nn.Module):
    return torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=1e-3, fused=True
    )


def ours(made: NoPropImages, x: torch.Tensor, y: torch.Tensor):
    """The stack's own losses, a step a block."""
    optimizers = [stepper(block) for block in made.blocks]

    def run() -> None:
        soft = F.one_hot(y, 10).float()
        for place, optimizer in enumerate(optimizers):
            made.block_loss(place, x, soft, torch.randn(len(x), 10)).mean().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return run


def written_out(made: NoPropImages, x: torch.Tensor, y: torch.Tensor):
    """The same by the paper's formula, with the weights worked out beforehand."""
    optimizers = [stepper(block) for block in made.blocks]
    abar = made.abar.tolist()
    weights = [made.steps / 2 * 0.1 * (b / (1 - b) - a / (1 - a)) for a, b in pairwise(abar)]

    def run() -> None:
        u = F.one_hot(y, 10).float()
        for place, (block, optimizer) in enumerate(zip(made.blocks, optimizers, strict=True)):
            signal = abar[place]
            z = signal**0.5 * u + (1 - signal) ** 0.5 * torch.randn_like(u)
            h = torch.cat([block.tower(x), block.label(z)], 1)
            estimate = block.last(h).softmax(-1)
            (weights[place] * (estimate - u).square().sum(1).mean()).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return run


def together(made: NoPropImages, x: torch.Tensor, y: torch.Tensor):
    """Back-propagation through all blocks."""
    chain = BackpropChain(made)
    optimizer = stepper(chain)

    def run() -> None:
        chain_loss(chain, {"pixels": x, "target": y}).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return run


def main() -> None:
    torch.set_num_threads(1)
    for name, (side, steps, width, hidden, repeats) in SIZES.items():
        x, y = torch.randn(BATCH, 1, side, side), torch.arange(BATCH) % 10
        made = stack(side, steps, width, hidden)
        own, peer = alternate(ours(made, x, y), written_out(copy.deepcopy(made), x, y), repeats)
        line(f"all blocks on a batch, {name}", own, peer, "written out in torch", "s", "float32", 1,
             "the weights of the losses are worked out in each step")  # fmt: skip
        own, peer = alternate(ours(made, x, y), together(copy.deepcopy(made), x, y), repeats)
        line(f"all blocks on a batch, {name}", own, peer, "back-propagation", "s", "float32", 1,
             "an optimizer's call a block, where back-propagation has one")  # fmt: skip
        plain = OneBlock(copy.deepcopy(made))
        optimizer = stepper(plain.block)

        def one_block(plain=plain, optimizer=optimizer, x=x, y=y) -> None:
            plain_loss(plain, {"pixels": x, "target": y}).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        own, peer = alternate(ours(made, x, y), one_block, repeats)
        line(f"all blocks on a batch, {name}", own, peer, "one block by cross-entropy", "s",
             "float32", 1, f"{steps} blocks are trained, each for what one costs")  # fmt: skip
        soft = F.one_hot(y, 10).float()

        def apart(made=made, x=x, soft=soft) -> None:
            for place in range(len(made.blocks)):
                made.block_loss(place, x, soft, torch.randn(len(x), 10)).mean().backward()

        def chained(made=made, x=x, y=y) -> None:
            chain_loss(BackpropChain(made), {"pixels": x, "target": y}).backward()

        line(f"activations kept, {name}", saved_bytes(apart) / 2**20, saved_bytes(chained) / 2**20,
             "back-propagation", "MiB", "float32", 1)  # fmt: skip
    workers()


def workers() -> None:
    """One process against two."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (PICTURES, 28, 28), dtype=np.uint8)
    y = np.arange(PICTURES) % 10
    knobs = {"steps": 9, "width": 8, "hidden": 64, "max_epochs": EPOCHS, "min_steps": 0,
             "threads": 1, "validation": 0.0, "draws": 1}  # fmt: skip

    def fit(count: int) -> float:
        return seconds_of(lambda: NoPropClassifier(**knobs, workers=count).fit(pictures, y))

    one, two = fit(1), fit(2)
    line(f"a fit of 9 blocks on {PICTURES:,} pictures of 28 x 28", two, one,
         "one process; ours in two", "s", "float32", 1,
         "processes start for some seconds, and other work had the second core")  # fmt: skip


if __name__ == "__main__":
    main()
