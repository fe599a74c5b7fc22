"""Sizes of networks by name, as their papers call them."""

from collections.abc import Mapping
from typing import TypeVar

from stackwise.errors import ModelError

Size = TypeVar("Size")


def named_size(name: str, sizes: Mapping[str, Size]) -> Size:
    """What a name stands for.

    Raises:
        ModelError: there is no such size.
    """
    if name not in sizes:
        raise ModelError(f"size must be one of {', '.join(sizes)}, got {name!r}")
    return sizes[name]
