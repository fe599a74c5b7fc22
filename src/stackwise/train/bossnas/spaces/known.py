"""Spaces by the name of their kind, as a file of a network names them."""

from collections.abc import Mapping
from typing import Any

from stackwise.errors import KnobError
from stackwise.train.bossnas.spaces.hytra import HyTra
from stackwise.train.bossnas.spaces.inverted import MBConvSpace
from stackwise.train.bossnas.spaces.operations import OperationSpace
from stackwise.train.bossnas.spaces.rows import RowSpace
from stackwise.train.bossnas.spaces.slimmable import SlimSpace
from stackwise.train.bossnas.spaces.space import Space

KNOWN: dict[str, Any] = {
    kind.kind: kind for kind in (HyTra, MBConvSpace, OperationSpace, RowSpace, SlimSpace)
}


def space_of(spec: Mapping[str, Any]) -> Space:
    """The space of a `spec`.

    Raises:
        KnobError: there is no such kind.
    """
    arguments = dict(spec)
    kind = arguments.pop("kind", None)
    if kind not in KNOWN:
        raise KnobError(f"there is no search space {kind!r}; there are {', '.join(KNOWN)}")
    made: Space = KNOWN[kind](**arguments)
    return made
