"""Run the blocks of a list side by side: all of a group read what stood before it.

A block f adds F(h) = f(h) - h to the stream. In a group of g blocks with input x, m sweeps give

    X_i^(0) = x,    X_i^(k) = x + sum_{j <= i} F_j( X_{j-1}^(k-1) ),    what comes out is X_g^(m)

m = 1 sums what all blocks make of x; m = g is the sequence itself, since after k sweeps the first k
states are exact. Each sweep runs its blocks at once, on states of the sweep before.

The list keeps its children under their names, so that a checkpoint of one form loads in the other:
it only gives a group where a model asks for the next block.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from stackwise.errors import ModelError


def side_by_side(
    adds: Callable[[int, Tensor], Tensor], x: Tensor, count: int, order: int
) -> Tensor:
    """X_g^(m) of a group.

    Args:
        adds: (j, state) -> F_j(state), blocks counted from 0.
        x: the group's input. count: g. order: m, from 1 to g.
    """
    added, states = [x] * count, [x] * count  # a state is the input of the block at its place
    for sweep in range(order):
        for place in range(sweep, count):  # those before are exact already
            added[place] = adds(place, states[place])
        *states, x_behind = itertools.accumulate(added, initial=x)
    return x_behind


class Sweep:
    """A group of blocks, called as one block is. What else a model asks of it, its first one says.

    Args:
        blocks: at least one. A block with `residual(x)` says what it adds without `x`, and one with
            `together(blocks, x)` the sum of what several add, in one piece.
        order: sweeps, from 1 to the number of blocks.
        fuse: use `together` where blocks have it.
    """

    def __init__(self, blocks: Sequence[nn.Module], order: int, fuse: bool = True) -> None:
        self.blocks = list(blocks)
        self.order = min(order, len(self.blocks))
        kinds = {type(block) for block in self.blocks}
        found = getattr(next(iter(kinds)), "together", None) if len(kinds) == 1 else None
        self.together = found if fuse and self.order == 1 else None

    def __call__(self, x: Tensor, *args: Any, **named: Any) -> Any:
        """What stands in the stream behind the group; of blocks that return a tuple, its first."""
        if self.together is not None:
            return x + self.together(self.blocks, x)
        rest: tuple[Any, ...] | None = None

        def adds(place: int, state: Tensor) -> Tensor:
            nonlocal rest
            found, rest = self._added(place, state, args, named)
            return found

        behind = side_by_side(adds, x, len(self.blocks), self.order)
        return behind if rest is None else (behind, *rest)

    def _added(
        self, place: int, x: Tensor, args: Any, named: Any
    ) -> tuple[Tensor, tuple[Any, ...] | None]:
        block = self.blocks[place]
        residual = getattr(block, "residual", None)
        if residual is not None and not args and not named:
            return residual(x), None
        output = block(x, *args, **named)
        found, rest = (output, None) if isinstance(output, Tensor) else (output[0], output[1:])
        if found.shape != x.shape:
            what = "channels" if found.ndim == 4 else "numbers"
            raise ModelError(
                f"block {place} of a group maps {tuple(x.shape[1:])} to {tuple(found.shape[1:])} "
                f"{what}: blocks that run side by side keep the shape"
            )
        return found - x, rest

    def __getattr__(self, name: str) -> Any:
        if name in ("blocks", "order", "together"):
            raise AttributeError(name)
        return getattr(self.blocks[0], name)


class _Swept:
    """What a list of blocks does once its groups run side by side."""

    groups: list[list[int]]
    sweeps: int
    fused: bool

    def __iter__(self) -> Iterator[Any]:
        own: Any = self
        children = [child for child in own._modules.values() if child is not None]
        groups = self.groups
        if len(children) != sum(map(len, groups)):  # a path that skips or repeats: groups as large
            size = max(map(len, groups))
            places = range(len(children))
            groups = [list(places[at : at + size]) for at in range(0, len(children), size)]
        for group in groups:
            blocks = [children[place] for place in group]
            yield blocks[0] if len(blocks) == 1 else Sweep(blocks, self.sweeps, self.fused)

    def __getitem__(self, place: Any) -> Any:
        own: Any = self
        children = list(own._modules.values())
        if not isinstance(place, slice):
            return children[place]
        if children[place] != children:
            raise ModelError("blocks that run side by side cannot be taken in part")
        return list(iter(self))


class SweptList(_Swept, nn.ModuleList):
    """A ModuleList that gives groups where it is walked through."""


class SweptSequential(_Swept, nn.Sequential):
    """A Sequential that runs its groups."""


_SWEPT: dict[type, type[nn.Module]] = {nn.ModuleList: SweptList, nn.Sequential: SweptSequential}
_PLAIN = {swept: plain for plain, swept in _SWEPT.items()}


def put_sweeps(
    model: nn.Module, name: str, groups: Sequence[Sequence[int]], order: int, fuse: bool = True
) -> None:
    """Have the list of blocks `name` of a model run groups side by side, from now on.

    Args:
        name: dotted name of a ModuleList or a Sequential; "" is the model itself.
        groups: all places of the list, in their order, in consecutive groups.
        order: sweeps in a group.
        fuse: see `Sweep`.

    Raises:
        ModelError: it is no such list, its blocks run side by side already, or groups leave
            places out.
    """
    container: Any = model.get_submodule(name) if name else model
    if isinstance(container, _Swept):
        raise ModelError("the blocks run side by side already")
    if type(container) in _SWEPT and _places(groups) != list(range(len(container))):
        raise ModelError(f"groups {groups} are not the {len(container)} blocks in their order")
    _put(container, name, groups, order, fuse)


def _places(groups: Sequence[Sequence[int]]) -> list[int]:
    return [place for group in groups for place in group]


def _put(
    container: Any, name: str, groups: Sequence[Sequence[int]], order: int, fuse: bool
) -> None:
    swept = _SWEPT.get(type(container))
    if swept is None:
        raise ModelError(
            f"{name or 'the model'} is a {type(container).__name__}; blocks are put side by side "
            "in a ModuleList or a Sequential"
        )
    if not groups or not all(groups) or _places(groups) != list(range(len(_places(groups)))):
        raise ModelError(f"groups {groups} are not blocks in their order")
    if order < 1:
        raise ModelError("order 0 removes every block; use 1 or more")
    container.__class__ = swept
    container.groups = [list(group) for group in groups]
    container.sweeps, container.fused = order, fuse


def take_sweeps_off(model: nn.Module) -> None:
    """Have the blocks of a model run one after the other again, with the weights that they have."""
    for module in model.modules():
        if isinstance(module, _Swept):
            own: Any = module
            own.__class__ = _PLAIN[type(module)]
            del own.groups, own.sweeps, own.fused


def sweeps_of(model: nn.Module) -> dict[str, Any] | None:
    """What `put_sweeps` was told of a model, as JSON; None where nothing runs side by side."""
    for name, module in model.named_modules():
        if isinstance(module, _Swept):
            return {
                "name": name, "groups": module.groups, "order": module.sweeps, "fuse": module.fused
            }  # fmt: skip
    return None


def with_sweeps(model: Any, told: Mapping[str, Any] | None) -> Any:
    """A model just made, as `sweeps_of` told of it, whatever its constructor put side by side.

    A model that was rebuilt since may have more or fewer blocks than were put in groups: it runs
    here as it did there (`_Swept.__iter__`).
    """
    if told is not None:
        take_sweeps_off(model)
        container = model.get_submodule(told["name"]) if told["name"] else model
        _put(container, told["name"], told["groups"], told["order"], told["fuse"])
    return model
