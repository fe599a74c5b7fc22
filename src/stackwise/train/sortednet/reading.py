"""Which axes a network has, and its sub-models run in place.

    axes = Axes.of(network)
    axes.extents                        width, depth, heads, ffn, as far as it has them
    with axes.cut_to(sizes):
        network(**inputs)               the sub-model: views of the weights, nothing is copied

Depth is read of every stack that `Stack.of` finds: the first d blocks run, then the shared final
norm and head. The other axes are read of the networks of this method, of the residual CNN, and of
blocks of transformers by the names of their maps; with those of a Llama-like decoder the width of
the stream too. Names prove nothing: the shapes of all tensors are compared with the config.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.stack import Stack
from stackwise.tasks.images.baselines.residual_cnn import STAGES, ResidualCNN
from stackwise.train.sortednet.pretrained import read_pretrained, rebuilder
from stackwise.train.sortednet.spaces import AXES, Extent, Sizes, check_axes, completed, unit_size
from stackwise.train.sortednet.truncation import (
    Place,
    Rules,
    Units,
    check_full,
    cut_down,
    rules_of,
)

Spread = Literal["first", "even"]
"""Which blocks a shallower sub-model has: the first ones, or some that are spread evenly."""


@dataclass
class Axes:
    """The axes of one network, and what of it each sub-model has.

    Attributes:
        extents: by axis. stages: runs of blocks, each cut to the depth.
        rebuilt: sizes -> an empty network of these sizes; None where only the depth can be cut.
    """

    network: nn.Module
    stack: Stack
    extents: dict[str, Extent]
    rules: Rules
    rebuilt: Callable[[Sizes], nn.Module] | None = None
    stages: int = 1
    spread: Spread = "first"
    is_open: bool = False

    @classmethod
    def of(cls, network: nn.Module, *, spread: Spread = "first") -> "Axes":
        """Read a network.

        Raises:
            ModelError: it has no list of blocks that is found, or its sizes are not what the names
                of its modules say.
        """
        stack = Stack.of(network)
        network = stack.model
        extents, places, rebuilt, stages = _read(network, stack)
        if spread == "even" and stages > 1:
            raise ModelError("blocks are spread evenly only in a stack of one stage; take first")
        extents = {axis: extents[axis] for axis in AXES if axis in extents}
        rules = rules_of(network, places)
        full = {axis: extent.full for axis, extent in extents.items()}
        check_full(rules, full)
        return cls(network, stack, extents, rules, rebuilt, stages, spread)

    @property
    def full(self) -> dict[str, int]:
        """The sizes of the whole network."""
        return {axis: extent.full for axis, extent in self.extents.items()}

    def checked(self, sizes: dict[str, float] | Sizes) -> dict[str, int]:
        """Sizes on every axis, from units or shares on some.

        Raises:
            KnobError: an axis that the network has not, or a size that it cannot have.
        """
        check_axes(sizes, self.extents)
        part = {axis: unit_size(axis, self.extents[axis], size) for axis, size in sizes.items()}
        return completed(part, self.extents)

    def order(self, depth: int) -> list[int]:
        """The blocks that run at this depth."""
        every = self.extents["depth"].full
        if self.spread == "even" and depth < every:
            places = torch.linspace(0, every - 1, depth).round().int().tolist()
            return [int(place) for place in places] if depth > 1 else [0]
        return [stage * every + place for stage in range(self.stages) for place in range(depth)]

    @contextlib.contextmanager
    def cut_to(self, sizes: Sizes) -> Iterator[nn.Module]:
        """Have the network be a sub-model while the context is open.

        The full sizes change nothing. Like a path of `Stack`, it changes the network for every
        thread that uses it; a backward pass may come later.
        """
        if sizes == self.full:
            yield self.network
            return
        if self.is_open:
            raise ModelError("a sub-model of this network is open already; close it first")
        self.is_open = True
        narrow = any(sizes[axis] < self.full[axis] for axis in sizes if axis != "depth")
        shallow = sizes["depth"] < self.full["depth"]
        try:
            # weights first: a block at another place is a copy that is made when the path opens
            with (
                cut_down(self.rules, sizes) if narrow else contextlib.nullcontext(),
                self.path(sizes["depth"]) if shallow else contextlib.nullcontext(),
            ):
                yield self.network
        finally:
            self.is_open = False

    def path(self, depth: int) -> contextlib.AbstractContextManager[Stack]:
        """The blocks of a depth, at their full width."""
        return self.stack.path(self.order(depth))

    def state(self, sizes: Sizes) -> dict[str, Tensor]:
        """The state of a sub-model, as copies, under the names that it has there."""
        cuts = {cut.name: cut for cut in self.rules.cuts}
        renamed = self._renamed(sizes)
        kept: dict[str, Tensor] = {}
        for name, tensor in self.network.state_dict().items():
            block, rest = self._in_block(name)
            if block is not None and block not in renamed:
                continue
            part = tensor[cuts[name].index(sizes)] if name in cuts else tensor
            new = name if block is None else f"{renamed[block]}.{rest}"
            kept[new] = part.detach().clone().contiguous()
        return kept

    def parameters(self, sizes: Sizes) -> int:
        """Parameters of a sub-model, tied ones once."""
        cuts = {cut.name: cut for cut in self.rules.cuts}
        running = self._renamed(sizes)
        total = 0
        for name, tensor in self.network.named_parameters():  # tied ones once
            block, _ = self._in_block(name)
            if block is None or block in running:
                total += (tensor[cuts[name].index(sizes)] if name in cuts else tensor).numel()
        return total

    def _renamed(self, sizes: Sizes) -> dict[str, str]:
        """What each block of a sub-model is called there."""
        names = self.stack.names
        return {names[block]: names[at] for at, block in enumerate(self.order(sizes["depth"]))}

    def _in_block(self, name: str) -> tuple[str | None, str]:
        """The block that a tensor is in, and its name there."""
        for block in self.stack.names:
            if name.startswith(f"{block}."):
                return block, name[len(block) + 1 :]
        return None, name


@contextlib.contextmanager
def submodel(network: nn.Module, **sizes: float) -> Iterator[nn.Module]:
    """Have a network be one of its sub-models: `with submodel(model, width=0.5, depth=6):`.

    Args:
        sizes: units or shares by axis, completed as in `SortedSpace.product`.

    Raises:
        KnobError: an axis that the network has not, or a size that it cannot have.
    """
    axes = Axes.of(network)
    with axes.cut_to(axes.checked(sizes)) as opened:
        yield opened


def _read(
    network: Any, stack: Stack
) -> tuple[dict[str, Extent], dict[str, Place], Callable[[Sizes], nn.Module] | None, int]:
    if hasattr(network, "places") and hasattr(network, "extents"):

        def resized(sizes: Sizes) -> nn.Module:
            made: nn.Module = type(network)(**network.arguments | network.resized(sizes))
            return made

        return network.extents(), network.places(), resized, getattr(network, "stages", 1)
    if isinstance(network, ResidualCNN):
        return _read_residual_cnn(network)
    depth = {"depth": Extent(len(stack), unit="blocks")}
    if not hasattr(network, "config"):
        return depth, {}, None, 1
    extents, places = read_pretrained(network, stack)

    def at_depth(wanted: int) -> contextlib.AbstractContextManager[Stack]:
        return stack.path(range(wanted))

    rebuilt = rebuilder(network, at_depth) if places else None
    return depth | extents, places, rebuilt, 1


def _read_residual_cnn(
    network: ResidualCNN,
) -> tuple[dict[str, Extent], dict[str, Place], Callable[[Sizes], nn.Module] | None, int]:
    arguments = network.arguments
    before = Units("width")
    places = {"stem.0": Place(before), "stem.1": Place(before)}
    for place, block in enumerate(network.blocks):
        after = Units("width", 2 ** (place // arguments["n_blocks"]))
        inside = {
            "body.0": Place(after, before), "body.1": Place(after), "body.3": Place(after, after),
            "body.4": Place(after), "skip.0": Place(after, before), "skip.1": Place(after),
        }  # fmt: skip
        there = dict(block.named_modules())
        places |= {f"blocks.{place}.{name}": one for name, one in inside.items() if name in there}
        before = after
    extents = {
        "width": Extent(arguments["width"]), "depth": Extent(arguments["n_blocks"], unit="blocks")
    }  # fmt: skip

    def resized(sizes: Sizes) -> nn.Module:
        return ResidualCNN(**arguments | {"width": sizes["width"], "n_blocks": sizes["depth"]})

    return extents, places | {"head": Place(None, before)}, resized, STAGES
