"""A base that learned a little of eight renderings of digits, and donors that learned one each.

MNIST digits at 14 x 14: plain, turned, mirrored, inverted, moved, transposed. A seed parts them:
those that the base learned from, those of the donors, few from which coefficients learn, as many
that choose, and test pictures.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise import data
from stackwise.adapt.atlas import atlas
from stackwise.learning.trainable import Trainable
from stackwise.training import ArrayBatches, Backprop, train

SIDE = 14


def renderings() -> dict[str, Callable[[Tensor], Tensor]]:
    """(B, 14, 14) in 0 to 1 -> the same, by name."""
    return {
        "plain": lambda x: x,
        "left": lambda x: turned(x, 40),
        "right": lambda x: turned(x, -40),
        "inverted": lambda x: 1 - x,
        "horizontal": lambda x: x.flip(2),
        "vertical": lambda x: x.flip(1),
        "moved": lambda x: x.roll((3, 3), (1, 2)),
        "transposed": lambda x: x.transpose(1, 2),
    }


def turned(x: Tensor, degrees: float) -> Tensor:
    """Pictures turned about their middle."""
    angle = torch.tensor(degrees).deg2rad()
    turn = torch.tensor([[angle.cos(), -angle.sin(), 0.0], [angle.sin(), angle.cos(), 0.0]])
    grid = functional.affine_grid(
        turn.expand(len(x), 2, 3), [len(x), 1, SIDE, SIDE], align_corners=False
    )
    return functional.grid_sample(x[:, None], grid, align_corners=False)[:, 0]


def small_net(width: int) -> nn.Sequential:
    """196-w-w-w-10."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(SIDE * SIDE, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10),
    )  # fmt: skip


@dataclass
class Rows:
    """Pictures and digits to learn from, and others that choose."""

    x: Tensor
    y: Tensor
    held_x: Tensor
    held_y: Tensor


class Reader:
    """A network with what it takes to learn on `Rows`: how `atlas` meets it."""

    def __init__(self, network: nn.Module, seed: int) -> None:
        self.network_, self.seed = network, seed

    def trainable(self, rows: Rows) -> Trainable:
        """Batches of 32, cross-entropy, accuracy on the rows that choose."""
        batches = ArrayBatches({"x": rows.x, "y": rows.y}, 32, seed=self.seed)
        return Trainable(
            self.network_, batches, cross_entropy,
            lambda network: {"accuracy": accuracy(network, rows.held_x, rows.held_y)},
            "accuracy", "max",
        )  # fmt: skip

    def with_network(self, network: nn.Module) -> "Reader":
        """The same with another network."""
        return Reader(network, self.seed)


def cross_entropy(network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Of a batch."""
    return functional.cross_entropy(network(batch["x"]), batch["y"])


@torch.no_grad()
def accuracy(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of digits that are right."""
    return float((network(x).argmax(1) == y).double().mean())


class World:
    """A seed: its pictures, its base and its donors."""

    def __init__(self, seed: int, settings: Mapping[str, Any]) -> None:
        self.seed, self.settings = seed, settings
        pictures, digits = data.images("mnist-5k")
        x = functional.avg_pool2d(torch.from_numpy(pictures).float()[:, None] / 255, 2)[:, 0]
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(x)))
        sizes = [settings[name] for name in ("base", "donor", "few", "few", "test")]
        parts = order[: sum(sizes)].split(sizes)
        names = ("base", "donor", "few", "held", "test")
        y = torch.from_numpy(digits).long()
        self.parts = {name: (x[rows], y[rows]) for name, rows in zip(names, parts, strict=True)}

    def rendered(self, part: str, name: str) -> tuple[Tensor, Tensor]:
        """The pictures of a part in a rendering."""
        x, y = self.parts[part]
        return renderings()[name](x), y

    def rows(self, name: str, part: str = "few") -> Rows:
        """What is learned from in a rendering, and what chooses."""
        return Rows(*self.rendered(part, name), *self.rendered("held", name))

    def shots(self, name: str, count: int) -> Rows:
        """The first `count` pictures of each digit."""
        x, y = self.rendered("few", name)
        first = torch.cat([(y == digit).nonzero()[:count, 0] for digit in range(10)])
        return Rows(x[first], y[first], *self.rendered("held", name))

    @cached_property
    def base(self) -> nn.Module:
        """The MLP, having learned each rendering from an eighth of the base's pictures."""
        x, y = self.parts["base"]
        names = list(renderings())
        pieces = [renderings()[n](x[place :: len(names)]) for place, n in enumerate(names)]
        labels = torch.cat([y[place :: len(names)] for place in range(len(names))])
        torch.manual_seed(self.seed)
        return self._trained(small_net(self.settings["width"]), torch.cat(pieces), labels).eval()

    @cached_property
    def donors(self) -> dict[str, nn.Module]:
        """The base, having gone on with one rendering; its head is frozen."""
        found = {}
        for name in renderings():
            network = copy.deepcopy(self.base)
            head: Any = list(network.children())[-1]
            head.requires_grad_(False)
            found[name] = self._trained(network, *self.rendered("donor", name)).eval()
        return found

    def _trained(self, network: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
        batches = ArrayBatches({"x": x, "y": y}, 64, seed=self.seed)
        return train(
            network, Backprop(cross_entropy, lr=1e-3, weight_decay=0.1), batches,
            max_epochs=self.settings["epochs"], seed=self.seed, device="cpu",
        ).model  # fmt: skip

    @cached_property
    def random_bases(self) -> dict[str, nn.Module]:
        """The base plus noise as long, block by block, as each donor's task vector."""
        found = {}
        generator = torch.Generator().manual_seed(self.seed)
        for name, donor in self.donors.items():
            found[name] = copy.deepcopy(self.base)
            for (_, weight), moved in zip(
                found[name].named_parameters(), donor.parameters(), strict=True
            ):
                noise = torch.randn(weight.shape, generator=generator)
                length = (moved - weight).detach().norm() / noise.norm()
                weight.data.add_(length * noise)
        return found

    def others(self, name: str, bases: Mapping[str, nn.Module] | None = None) -> dict[str, Any]:
        """All donors but that of a rendering."""
        every = self.donors if bases is None else bases
        return {one: donor for one, donor in every.items() if one != name}

    def scaled(self, rows: Rows, donors: Mapping[str, Any], lr: float, **knobs: Any) -> nn.Module:
        """`atlas` with the steps that all have."""
        made: Reader = atlas(
            Reader(self.base, self.seed), rows, donors=cast(Any, dict(donors)), lr=lr, epochs=10,
            min_steps=self.settings["steps"], random_state=self.seed, device="cpu", **knobs,
        )  # fmt: skip
        return made.network_

    def tuned(self, rows: Rows, lr: float, *, head: bool) -> nn.Module:
        """The base with all of its weights, or those of its head, learned in as many steps."""
        network = copy.deepcopy(self.base)
        if head:
            network.requires_grad_(False)
            last: Any = list(network.children())[-1]
            last.requires_grad_(True)
        joined = Reader(network, self.seed).trainable(rows)
        rule = Backprop(cross_entropy, lr=lr, weight_decay=0.1, schedule="cosine",
                        validate=joined.validate, monitor="accuracy", mode="max")  # fmt: skip
        epochs = max(10, -(-self.settings["steps"] // len(joined.batches)))
        return train(network, rule, joined.batches, max_epochs=epochs, seed=self.seed,
                     device="cpu").model  # fmt: skip

    def test(self, network: nn.Module, name: str) -> float:
        """Accuracy on test pictures in a rendering, in per cent."""
        return 100 * accuracy(network, *self.rendered("test", name))

    def held(self, network: nn.Module, name: str) -> float:
        """Likewise on the pictures that choose."""
        return 100 * accuracy(network, *self.rendered("held", name))

    def mean(self, network: nn.Module) -> float:
        """The mean over renderings of test accuracy."""
        return float(np.mean([self.test(network, name) for name in renderings()]))
