"""A search space: blocks of layers, at each layer one of several operations.

    A = A_1 x ... x A_B        paths of the blocks; a path has one operation a layer

An architecture is a path a block. A path begins in a *state*, which is what a layer must know of
its input: the scale in HyTra, the width in a slimmable network, nothing (0) elsewhere. The
operations of a layer lead from state to state, or are not allowed there.

A space is data: `spec` names its kind and its arguments as JSON, and `known.space_of` makes it
again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from stackwise.errors import KnobError

Path = tuple[int, ...]
"""The number of the operation of each layer of a block."""
Architecture = tuple[Path, ...]
"""A path a block."""


class SuperLayer(Protocol):
    """A layer that holds the weights of all its operations."""

    def __call__(self, h: Tensor, choice: int, state: int) -> Tensor:
        """The layer with one operation, whose input is in a state."""
        ...

    def cut(self, choice: int, state: int) -> nn.Module:
        """That operation alone, with a copy of its weights."""
        ...


class Space:
    """The base of all spaces.

    Attributes:
        kind: its name. reads: what its stem is called with, `pixels`, `rows` or `series`.
        depths: layers of each block. start: the state behind the stem.
        arguments: that it was made with, as JSON.
    """

    kind: ClassVar[str] = ""
    reads: ClassVar[str] = "pixels"
    depths: tuple[int, ...] = ()
    start: int = 0
    arguments: Mapping[str, Any]

    def operations(self, block: int, layer: int) -> list[str]:
        """The names of a layer's operations."""
        raise NotImplementedError

    def after(self, block: int, layer: int, state: int, choice: int) -> int | None:
        """The state behind an operation; None where it is not allowed in this one."""
        return 0

    def gate(self, block: int, state: int) -> int:
        """What of an incoming state decides which paths a block has: of most spaces nothing."""
        return 0

    def entries(self, block: int) -> list[int]:
        """The incoming states in which a block is searched that knows of no block before it."""
        return [self.start]

    def stem(self) -> nn.Module:
        """What comes before the first block; called with the inputs by name."""
        raise NotImplementedError

    def bridge(self, block: int, state: int) -> nn.Module:
        """From the stem's output to what a block is given in a state, where no block is before it.

        Nothing by default: maps keep their form, or the block takes them as they are.
        """
        return nn.Identity()

    def super_layer(self, block: int, layer: int) -> nn.Module:
        """A `SuperLayer`."""
        raise NotImplementedError

    def layer(self, block: int, layer: int, state: int, choice: int) -> nn.Module:
        """One operation alone, fresh."""
        raise NotImplementedError

    def channels(self, block: int, state: int) -> int:
        """Channels behind a block that ends in a state."""
        raise NotImplementedError

    def align(self, block: int, state: int) -> nn.Module:
        """Brings what a block ends with to the widest form that it may end with."""
        return nn.Identity()

    def aligned(self, block: int) -> int:
        """Channels after `align`."""
        return self.channels(block, self.start)

    def final(self, state: int) -> tuple[nn.Module, int]:
        """What follows the last block in every network, and its channels."""
        return nn.Identity(), self.channels(len(self.depths) - 1, state)

    def example(self) -> dict[str, Tensor]:
        """One made-up sample, by the names of the stem's inputs."""
        raise NotImplementedError

    def own_network(self, architecture: Architecture, n_outputs: int) -> nn.Module | None:
        """The network of an architecture, where the space makes it itself and not from `spec`."""
        return None

    @property
    def spec(self) -> dict[str, Any]:
        """The space as JSON."""
        return {"kind": self.kind, **self.arguments}

    # paths

    def paths(self, block: int, state: int) -> list[tuple[Path, int]]:
        """Every path of a block that begins in a state, with the state that it ends in."""
        found: list[tuple[Path, int]] = [((), state)]
        for layer in range(self.depths[block]):
            choices = range(len(self.operations(block, layer)))
            longer = [
                ((*path, choice), self.after(block, layer, now, choice))
                for path, now in found
                for choice in choices
            ]
            found = [(path, now) for path, now in longer if now is not None]
        return found

    def path_count(self, block: int, state: int) -> int:
        """How many they are; nothing is listed."""
        return sum(self._counted(block, state).values())

    def _counted(self, block: int, state: int) -> dict[int, int]:
        """Paths by the state that they end in."""
        now = {state: 1}
        for layer in range(self.depths[block]):
            then: dict[int, int] = {}
            for one, count in now.items():
                for choice in range(len(self.operations(block, layer))):
                    next_state = self.after(block, layer, one, choice)
                    if next_state is not None:
                        then[next_state] = then.get(next_state, 0) + count
            now = then
        return now

    def __len__(self) -> int:
        """How many architectures there are."""
        now = {self.start: 1}
        for block in range(len(self.depths)):
            then: dict[int, int] = {}
            for state, count in now.items():
                for end, more in self._counted(block, state).items():
                    then[end] = then.get(end, 0) + count * more
            now = then
        return sum(now.values())

    def states(self, architecture: Sequence[Sequence[int]]) -> list[int]:
        """The state before each block and behind the last one.

        Raises:
            KnobError: it is none of this space.
        """
        shown = [list(path) for path in architecture]
        if [len(path) for path in shown] != list(self.depths):
            raise KnobError(
                f"architecture {shown} has paths of {[len(p) for p in shown]} layers; this space "
                f"has blocks of {list(self.depths)}"
            )
        states = [self.start]
        for block, path in enumerate(shown):
            state = states[-1]
            for layer, choice in enumerate(path):
                names = self.operations(block, layer)
                where = f"of layer {layer + 1} of block {block + 1}"
                if not 0 <= choice < len(names):
                    raise KnobError(
                        f"architecture {shown}: operation {choice} {where} does not exist "
                        f"(0..{len(names) - 1})"
                    )
                now = self.after(block, layer, state, choice)
                if now is None:
                    raise KnobError(
                        f"architecture {shown}: {names[choice]} {where} cannot follow what stands "
                        "before it"
                    )
                state = now
            states.append(state)
        return states

    def checked(self, architecture: Iterable[Iterable[int]]) -> Architecture:
        """An architecture of this space, from lists.

        Raises:
            KnobError: it is none.
        """
        made = tuple(tuple(int(choice) for choice in path) for path in architecture)
        self.states(made)
        return made

    def words(self, architecture: Architecture) -> str:
        """An architecture as its operations' names, blocks parted by bars."""
        return " | ".join(
            " ".join(self.operations(block, layer)[c] for layer, c in enumerate(path))
            for block, path in enumerate(architecture)
        )

    def drawn(self, generator: torch.Generator) -> Architecture:
        """A random architecture: at each layer an even choice among what is allowed."""
        state, made = self.start, []
        for block, depth in enumerate(self.depths):
            path: list[int] = []
            for layer in range(depth):
                every = range(len(self.operations(block, layer)))
                ends = {c: self.after(block, layer, state, c) for c in every}
                allowed = [c for c, end in ends.items() if end is not None]
                place = int(torch.randint(0, len(allowed), (), generator=generator))
                path.append(allowed[place])
                state = ends[allowed[place]] or 0
            made.append(tuple(path))
        return tuple(made)

    # networks

    def layers(self, block: int, state: int, path: Sequence[int]) -> Iterator[nn.Module]:
        """Fresh modules of a path."""
        for layer, choice in enumerate(path):
            yield self.layer(block, layer, state, choice)
            state = self.after(block, layer, state, choice) or 0
