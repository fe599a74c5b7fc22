"""What stands around the blocks of a model: its stem before them, its head after them.

Which side a module is on, the order of registration does not say: OPT registers its last norm
before the blocks, and BART the norm of its embeddings after them. The forward says it. Of each
module on the way down to the list of blocks, the parts count in the order in which the source of
its forward, and of the methods that it calls, has them run first:

    h = self.embed(x)                   # stem: embed
    for block in self.blocks:
        h = block(h)
    return self.out(self.norm(h))       # head: norm, out

Where that does not name the blocks (the forward of a Sequential runs through its children), or has
no source, the order of registration stands; so it does for each part that is not named.
"""

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import FunctionType

from torch import nn

from stackwise.stack.discovery import BlockList


def modules_around(
    model: nn.Module, found: BlockList, children: dict[str, nn.Module | None]
) -> tuple[list[nn.Module], list[nn.Module]]:
    """The outermost modules before the first block, and those after the last.

    Args:
        children: those of the list of blocks, as the model has it while no path is open.
    """
    inner = list(children.values())
    stem, head = inner[: found.start], inner[found.stop :]
    above = [model]
    parts = found.name.split(".") if found.name else []
    for part in parts[:-1]:
        above.append(above[-1].get_submodule(part))
    for module, part in zip(reversed(above), reversed(parts), strict=False):
        before, after = _sides(module, part)
        stem = [module._modules[name] for name in before] + stem
        head = head + [module._modules[name] for name in after]
    once = dict.fromkeys(module for module in (*stem, *head) if module is not None)
    first = {module for module in stem if module is not None}
    return [one for one in once if one in first], [one for one in once if one not in first]


def _sides(module: nn.Module, part: str) -> tuple[list[str], list[str]]:
    """The names of the other children of a module: those before the child `part`, those after."""
    registered = list(module._modules)
    named = [name for name in dict.fromkeys(_names_in_forward(module)) if name in registered]
    if part not in named:
        named = registered
    place, first = named.index(part), registered.index(part)
    before = [name for name in registered[:first] if name not in named]
    after = [name for name in registered[first:] if name not in named]
    return [*before, *named[:place]], [*named[place + 1 :], *after]


def _names_in_forward(module: nn.Module) -> Iterator[str]:
    """The parts of a module that its forward reads, `self.<name>`, in the order of their calls."""
    return _names(type(module), "forward", {"forward"})


def _names(owner: type[nn.Module], method: str, seen: set[str]) -> Iterator[str]:
    for name in _read_by(inspect.unwrap(getattr(owner, method))):
        own = getattr(owner, name, None)
        if not isinstance(own, FunctionType):
            yield name
        elif name not in seen:  # a method of its own: what it reads, once
            seen.add(name)
            yield from _names(owner, name, seen)


@functools.cache
def _read_by(function: Callable[..., object]) -> tuple[str, ...]:
    """The attributes of its first argument that a function reads; none where it has no source."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, TypeError, ValueError, SyntaxError):
        return ()
    if not isinstance(tree, ast.FunctionDef) or not tree.args.args:
        return ()
    return tuple(name for line in tree.body for name in _read_in(line, tree.args.args[0].arg))


def _read_in(node: ast.AST, own: str) -> Iterator[str]:
    inside = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.Call):  # f(g(x)) calls g first
        inside = [*inside[1:], node.func]
    for child in inside:
        yield from _read_in(child, own)
    if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) == own:
        yield node.attr
