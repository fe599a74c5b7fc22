"""What ranks architectures otherwise: one supernet for all blocks, trained with labels; and scores
that need no training.

    one_shot    each step trains random whole paths on labels; a path is rated by its loss on
                held-out samples (single-path one-shot, arXiv 1904.00420)
    naswot      -log |K| of how often ReLUs agree between samples of one batch (arXiv 2006.04647)
    synflow     - sum |w dL/dw| of a network of absolute weights on a sample of ones (2006.05467)

All give numbers of which less is better.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from stackwise.layers.evaluating import in_evaluation
from stackwise.train.bossnas.network import build
from stackwise.train.bossnas.search.bootstrapping import Inputs
from stackwise.train.bossnas.search.rating import taking_statistics
from stackwise.train.bossnas.spaces.space import Architecture, Space
from stackwise.train.bossnas.spaces.super_block import SuperBlock, pooled
from stackwise.training.rules import Backprop, Loop


class SuperNetwork(nn.Module):
    """All blocks behind one another, with a linear layer an end."""

    def __init__(self, space: Space, n_outputs: int) -> None:
        super().__init__()
        self.space = space
        count = len(space.depths)
        self.stem = space.stem()
        self.blocks = nn.ModuleList(SuperBlock(space, block) for block in range(count))
        ends = {space.start}
        for block in range(count):
            ends = {end for state in ends for _, end in space.paths(block, state)}
        self.heads = nn.ModuleDict(
            {str(end): nn.Linear(space.channels(count - 1, end), n_outputs) for end in ends}
        )

    def forward(self, inputs: Inputs, architecture: Architecture) -> Tensor:
        """(B, n_outputs) of a path through all blocks."""
        h, state = self.stem(**inputs), self.space.start
        for block, path in zip(self.blocks, architecture, strict=True):
            h, state = block(h, path, state)
        output: Tensor = self.heads[str(state)](pooled(h))
        return output


class OneShotRule(Backprop):
    """Random paths learn labels together."""

    def __init__(self, names: Sequence[str], paths: int, seed: int, **options: Any) -> None:
        super().__init__(lambda model, batch: torch.zeros(()), **options)
        self.names, self.paths, self.seed = list(names), paths, seed

    def step(self, loop: Loop, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """The mean loss of some paths."""
        assert isinstance(model, SuperNetwork)
        number = (self.seed * 1_000_003 + loop.epoch) * 100_003 + loop.place
        generator = torch.Generator().manual_seed(number)
        total = torch.zeros((), device=batch["target"].device)
        inputs = {name: batch[name] for name in self.names}
        for _ in range(self.paths):
            said = model(inputs, model.space.drawn(generator))
            loss = nn.functional.cross_entropy(said, batch["target"]) / self.paths
            loop.backward(loss)
            total = total + loss.detach()
        self.update(loop, loop.optimizers[0])
        return {"loss": total}


@torch.no_grad()
def one_shot_ratings(
    model: SuperNetwork, architectures: Sequence[Architecture], calibration: Inputs, held: Inputs,
    target: Tensor,
) -> list[float]:  # fmt: skip
    """The loss of each on held-out samples, with batch statistics of its own."""
    found = []
    with in_evaluation(model):
        for one in architectures:
            with taking_statistics(model):
                model(calibration, one)
            found.append(float(nn.functional.cross_entropy(model(held, one), target)))
    return found


class _Activity(TorchFunctionMode):
    """Which ReLUs are on, wherever they are called from: a module, a function or a method."""

    RELUS = (nn.functional.relu, torch.relu, torch.Tensor.relu, torch.relu_, torch.Tensor.relu_)

    def __init__(self) -> None:
        super().__init__()
        self.on: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func in self.RELUS:
            self.on.append((found.flatten(1) > 0).double())
        return found


@torch.no_grad()
def naswot(space: Space, architecture: Architecture, batch: Inputs, seed: int = 0) -> float:
    """How alike the ReLUs of an untrained network see different samples; NaN where it has none."""
    network = _fresh(space, architecture, seed)
    with _Activity() as seen:
        network(**batch)
    if not seen.on:
        return float("nan")
    kernel = torch.stack([on @ on.T + (1 - on) @ (1 - on).T for on in seen.on]).sum(0)
    return -float(torch.linalg.slogdet(kernel)[1])


def synflow(space: Space, architecture: Architecture, seed: int = 0) -> float:
    """How much flows through absolute weights."""
    network = _fresh(space, architecture, seed).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    ones = {
        name: torch.ones_like(one).double() if one.is_floating_point() else one
        for name, one in space.example().items()
    }
    network(**ones).sum().backward()
    flow = sum(
        float((p.detach() * p.grad).abs().sum()) for p in network.parameters() if p.grad is not None
    )
    return -float(torch.tensor(flow).log1p())


def _fresh(space: Space, architecture: Architecture, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return copy.deepcopy(build(space, architecture, 10))
