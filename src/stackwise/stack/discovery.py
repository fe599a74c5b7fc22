"""Find the list of blocks inside a model.

Nothing here knows a family of models by name. A stack shows in the structure: it is the list of
like modules (one class, with parameters) that is not itself inside a block. Where a model holds
several such lists, the ones of an encoder and a decoder say for example, the caller names one.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from stackwise.errors import ModelError

SIDES = ("encoder", "decoder")


@dataclass(frozen=True)
class BlockList:
    """Where the blocks are: children `start` to `stop` of `container`, which `name` leads to."""

    container: nn.Module
    name: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def blocks(self) -> list[nn.Module]:
        """The modules in the list now, which in an open path are those that run there."""
        return children_of(self.container)[self.start : self.stop]

    @property
    def side(self) -> str | None:
        """The side of an encoder-decoder that these blocks are on, read from their name."""
        return next((part for part in self.name.split(".") if part in SIDES), None)

    @property
    def composite(self) -> bool:
        """Whether every block has parts, as a residual block has and a bare layer has not."""
        return all(next(block.children(), None) is not None for block in self.blocks)

    def __str__(self) -> str:
        kinds = sorted({type(block).__name__ for block in self.blocks})
        return f"{self.name or 'the model itself'} ({len(self)} x {'/'.join(kinds)})"


def children_of(container: nn.Module) -> list[nn.Module]:
    """The children in order; a module that stands there twice counts twice."""
    return [child for child in container._modules.values() if child is not None]


def is_pretrained(module: object) -> bool:
    """Whether `module` is a transformers model; never imports transformers."""
    library: Any = sys.modules.get("transformers.modeling_utils")
    return library is not None and isinstance(module, library.PreTrainedModel)


def network_of(model: object) -> nn.Module:
    """The module inside a fitted learner or a compiled model; a plain module as it is."""
    network = getattr(model, "network_", model)
    network = getattr(network, "_orig_mod", network)
    if isinstance(network, nn.Module):
        return network
    raise ModelError(
        f"Stack.of takes a torch module or a fitted learner with a network_, "
        f"not {type(model).__name__}."
    )


def find_blocks(model: nn.Module, blocks: str | None = None, side: str | None = None) -> BlockList:
    """The blocks of `model`.

    Args:
        blocks: dotted name of the module whose children, all of them, are the blocks.
        side: "encoder" or "decoder", where the model has both.

    Raises:
        ModelError: there is no list of like blocks, or more than one; it names those seen.
    """
    if side is not None and side not in SIDES:
        raise ModelError(f"side is {side!r}; it is 'encoder' or 'decoder'.")
    if blocks is not None:
        return _named(model, blocks)
    seen = list(candidates(model))
    chosen = [found for found in seen if side is None or found.side == side]
    if side is None and len(chosen) > 1:
        chosen = _text_decoder(model, chosen)
    chosen = _longest(chosen)
    if len(chosen) == 1:
        return chosen[0]
    if not seen and isinstance(model, nn.Sequential) and len(model):
        return BlockList(model, "", 0, len(model))
    raise ModelError(_explain(model, seen, side))


def candidates(module: nn.Module, name: str = "") -> Iterator[BlockList]:
    """Every outermost list of like modules with parameters, in the order of the model."""
    run = _run(module)
    if run is not None:
        yield BlockList(module, name, *run)
        inside = set(children_of(module)[slice(*run)])
    else:
        inside = set()
    for child_name, child in module.named_children():
        if child not in inside:
            yield from candidates(child, f"{name}.{child_name}" if name else child_name)


def _run(module: nn.Module) -> tuple[int, int] | None:
    """Which children of a list are like blocks: all of a ModuleList, or a run of a Sequential.

    In a Sequential the children before and after the run are a stem and a head.
    """
    children = children_of(module)
    if not children or not isinstance(module, nn.ModuleList | nn.Sequential):
        return None
    if not any(True for _ in module.parameters()):
        return None
    if _alike(children):
        return (0, len(children))
    if not isinstance(module, nn.Sequential):
        return None
    best = (0, 0)
    start = 0
    for end in range(1, len(children) + 1):
        if end == len(children) or _form(children[end]) != _form(children[start]):
            if end - start > best[1] - best[0]:
                best = (start, end)
            start = end
    composite = next(children[best[0]].children(), None) is not None
    return best if best[1] - best[0] >= 2 and composite else None


def _alike(children: list[nn.Module]) -> bool:
    """One class, or the several layer classes of one hybrid transformer."""
    if len({type(child) for child in children}) == 1:
        return True
    library: Any = sys.modules.get("transformers.modeling_layers")
    layer = getattr(library, "GradientCheckpointingLayer", None)
    return layer is not None and all(isinstance(child, layer) for child in children)


def _form(module: nn.Module) -> tuple[object, ...]:
    """Class and parameter shapes: what two like blocks of a Sequential have in common."""
    return (type(module), *((name, p.shape) for name, p in module.named_parameters()))


def _named(model: nn.Module, blocks: str) -> BlockList:
    try:
        container = model.get_submodule(blocks)
    except AttributeError:
        lists = "; ".join(map(str, candidates(model))) or "none"
        raise ModelError(
            f"{type(model).__name__} has no module {blocks!r}; lists of like blocks in it: {lists}."
        ) from None
    size = len(children_of(container))
    if size == 0:
        raise ModelError(f"{blocks!r} is a {type(container).__name__} that holds no blocks.")
    return BlockList(container, blocks, 0, size)


def _text_decoder(model: nn.Module, found: list[BlockList]) -> list[BlockList]:
    """Of a model with a vision tower and a language model, the blocks of the language model."""
    if not is_pretrained(model) or getattr(model.config, "is_encoder_decoder", False):
        return found
    decoder = model.get_decoder()  # type: ignore[operator]
    inside = set(decoder.modules()) if isinstance(decoder, nn.Module) else set()
    return [one for one in found if one.container in inside] or found


def _longest(found: list[BlockList]) -> list[BlockList]:
    """The one list that is plainly the stack, or all that might be.

    Lists of composite blocks go before lists of bare layers (embeddings, heads), and one list is
    plainly the stack when it is at least twice as long as every other.
    """
    ranked = [one for one in found if one.composite] or found
    ranked = sorted(ranked, key=len, reverse=True)
    sided = {one.side for one in ranked} >= set(SIDES)
    if len(ranked) > 1 and not sided and len(ranked[0]) >= 2 * len(ranked[1]):
        return ranked[:1]
    return ranked


def _explain(model: nn.Module, seen: list[BlockList], side: str | None) -> str:
    name = type(model).__name__
    if side is not None and not any(one.side == side for one in seen):
        lists = "; ".join(map(str, seen)) or "none"
        return f"{name} has no {side} with a list of blocks; lists of like blocks in it: {lists}."
    if seen:
        lists = "; ".join(map(str, seen))
        sides = {one.side for one in seen} >= set(SIDES) and side is None
        hint = "side='encoder' or side='decoder'" if sides else "one as blocks='<name>'"
        return f"{name} has more than one list of like blocks: {lists}. Give {hint}."
    lists = "; ".join(
        f"{path or 'the model itself'} ({type(module).__name__} of {len(module)})"
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList | nn.Sequential)
    )
    return (
        f"{name} has no list of like blocks; lists in it: {lists or 'none'}. "
        f"Give the dotted name of the module that holds the blocks, blocks='<name>'."
    )
