"""The user's own space: for each layer, operations by name.

    SearchSpace(
        blocks=[[{"conv": make_conv, "identity": nn.Identity}] * 2] * 2,
        stem=make_stem, channels=32,
    )

Values are called without arguments and give modules, (B, channels, ...) -> the same. The stem is
called with what the learner's networks are called with (pictures: `pixels`). All paths of a block
must end with as many channels. Classes of the user's that are decorated by `keeps_arguments` can be
saved with the network that holds them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from stackwise.errors import KnobError, ModelError
from stackwise.layers.arguments import keeps_arguments, put_part
from stackwise.train.bossnas.spaces.choice import Choice
from stackwise.train.bossnas.spaces.space import Architecture, Path, Space
from stackwise.train.bossnas.spaces.super_block import pooled

Factory = Callable[[], nn.Module]


class SearchSpace(Space):
    """Operations that the user brings.

    Args:
        blocks: for each block, for each layer, name -> what makes the operation.
        stem: makes what comes before the first block.
        channels: behind the stem and behind each block.
        example: one made-up sample by the names of the stem's inputs, by which shapes are checked
            and multiply-adds counted.
        legal: (block, path) -> whether the path may be; all may by default.
    """

    kind: ClassVar[str] = "own"

    def __init__(
        self,
        blocks: Sequence[Sequence[Mapping[str, Factory]]],
        *,
        stem: Factory,
        channels: int,
        example: Mapping[str, Tensor],
        legal: Callable[[int, Path], bool] | None = None,
    ) -> None:
        if not blocks or not all(blocks) or not all(layer for block in blocks for layer in block):
            raise KnobError("a space needs a block, each block a layer, each layer an operation")
        self.given = [[dict(layer) for layer in block] for block in blocks]
        self.make_stem, self.wide, self.sample = stem, channels, dict(example)
        self.legal = legal
        self.depths = tuple(len(block) for block in blocks)
        self.arguments = {}
        self._check_ends()

    def operations(self, block: int, layer: int) -> list[str]:
        """The names that were given."""
        return list(self.given[block][layer])

    def paths(self, block: int, state: int) -> list[tuple[Path, int]]:
        """Those that `legal` lets be."""
        found = super().paths(block, state)
        kept = [one for one in found if self.legal is None or self.legal(block, one[0])]
        if not kept:
            raise KnobError(f"block {block + 1} has no path that `legal` lets be")
        return kept

    def stem(self) -> nn.Module:
        """The user's."""
        return self.make_stem()

    def super_layer(self, block: int, layer: int) -> nn.Module:
        """All operations."""
        return Choice([make() for make in self.given[block][layer].values()])

    def layer(self, block: int, layer: int, state: int, choice: int) -> nn.Module:
        """One of them."""
        return list(self.given[block][layer].values())[choice]()

    def channels(self, block: int, state: int) -> int:
        """Those that were given."""
        return self.wide

    def example(self) -> dict[str, Tensor]:
        """The user's."""
        return dict(self.sample)

    def own_network(self, architecture: Architecture, n_outputs: int) -> nn.Module:
        """A fresh network, its parts the user's modules."""
        layers = [
            one for block, path in enumerate(architecture) for one in self.layers(block, 0, path)
        ]
        network = OwnNetwork(layers=len(layers), channels=self.wide, n_outputs=n_outputs)
        parts = {"stem": self.stem()} | {f"blocks.{i}": one for i, one in enumerate(layers)}
        for name, part in parts.items():
            if hasattr(part, "arguments"):
                put_part(network, name, part)
            else:
                network.set_submodule(name, part)
        return network

    @torch.no_grad()
    def _check_ends(self) -> None:
        """Every path of a block ends with `channels`, by trying each operation once."""
        with torch.random.fork_rng(devices=[]):
            h = self.make_stem().eval()(**self.sample)
            for block, layers in enumerate(self.given):
                for number, operations in enumerate(layers):
                    found = {}
                    for name, make in operations.items():
                        module = make()
                        if not isinstance(module, nn.Module):
                            raise KnobError(f"{name!r} makes a {type(module).__name__}, no module")
                        found[name] = module.eval()(h)
                    self._compare(block, number, found)
                    h = next(iter(found.values()))

    def _compare(self, block: int, layer: int, found: Mapping[str, Tensor]) -> None:
        """All paths of a block end with the same channels: nothing aligns them."""
        wide = {name: pooled(one).shape[1] for name, one in found.items()}
        if layer + 1 < self.depths[block] or set(wide.values()) == {self.wide}:
            return
        shapes = ", ".join(f"{name} {list(one.shape[1:])}" for name, one in found.items())
        raise KnobError(
            f"paths of block {block + 1} end with {shapes}, and nothing aligns them: each must end "
            f"with channels={self.wide}"
        )


@keeps_arguments
class OwnNetwork(nn.Module):
    """A network whose stem and layers are put into it.

    Args:
        layers: how many. channels: before the head. n_outputs: of the head.
    """

    arguments: dict[str, Any]

    def __init__(self, *, layers: int, channels: int, n_outputs: int) -> None:
        super().__init__()
        self.stem: nn.Module = nn.Identity()
        self.blocks = nn.ModuleList(nn.Identity() for _ in range(layers))
        self.final = nn.Identity()
        self.head = nn.Linear(channels, n_outputs)

    def features(self, *given: Tensor, **inputs: Tensor) -> Tensor:
        """(B, channels): what the head reads."""
        h = self.stem(*given, **inputs)
        for block in self.blocks:
            h = block(h)
        return pooled(h)

    def forward(self, *given: Tensor, **inputs: Tensor) -> Tensor:
        """What the stem takes -> (B, n_outputs)."""
        output: Tensor = self.head(self.features(*given, **inputs))
        return output


def check_keepable(network: nn.Module) -> None:
    """Refuse to keep a network of the user's whose parts nothing could make again.

    Raises:
        ModelError: such a part is in it.
    """
    if not isinstance(network, OwnNetwork):
        return
    parts = {"stem": network.stem, **{f"blocks.{i}": b for i, b in enumerate(network.blocks)}}
    for name, part in parts.items():
        if not hasattr(part, "arguments"):
            raise ModelError(
                f"the network cannot be kept: its {name} is a {type(part).__name__}, which no file "
                "can make again; decorate your class by stackwise.layers.arguments.keeps_arguments"
            )
