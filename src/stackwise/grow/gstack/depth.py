"""Growth in depth: more blocks of the same width.

direct    each place gets a copy of its source block. Repeating the whole list (6 blocks four
          times over) is G_stack, the paper's choice. It does not keep the function.
zero      places that repeat a block have the output projections of attention and MLP at zero,
          so that they add nothing yet: the function is kept, exactly. Their gradient is not
          zero, that of the weights before them is at the first step.
random    blocks of fresh random weights are put on top, and what they add is multiplied by a
          mask c that goes from 0 to 1 while the model trains (`Masked`).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from stackwise.errors import ModelError
from stackwise.grow.gstack.orders import check_order
from stackwise.stack import Stack

ENDS = ("o_proj", "out_proj", "down_proj", "c_proj", "dense_4h_to_h", "fc2", "fc_out", "wo", "w2")
"""What families call the last projection of attention and of the MLP."""
LAST_DENSE = ("attention.dense", "self_attention.dense", "output.dense", "attn.dense")


def output_projections(block: nn.Module) -> dict[str, nn.Parameter]:
    """The weights and biases of a block that write to the stream, by dotted name.

    Those of a layer, and those that a mixture of experts holds for all experts in one tensor.

    Raises:
        ModelError: they belong to fewer than two: to attention and to the MLP.
    """
    found: dict[str, nn.Parameter] = {}
    writers = set()
    for name, module in block.named_modules():
        whole = name.rsplit(".", 1)[-1] in ENDS or name.endswith(LAST_DENSE)
        for own, parameter in module.named_parameters(recurse=False):
            if whole or own.removesuffix("_bias") in ENDS:
                found[f"{name}.{own}"] = parameter
                writers.add(name)
    if len(writers) < 2:
        raise ModelError(
            f'operator "zero" needs named output projections; {type(block).__name__} has '
            f"{', '.join(writers) or 'none'}"
        )
    return found


def stacked(model: nn.Module, order: Sequence[int]) -> nn.Module:
    """G_direct: a new model whose block i is a copy of block `order[i]`; nothing is shared.

    Raises:
        ModelError: blocks share weights, change the width, or the config cannot say the order.
    """
    stack = Stack.of(model)
    refuse_unstackable(stack, order)
    return stack.rebuild(order)


def refuse_unstackable(stack: Stack, order: Sequence[int]) -> None:
    """See that copies of these blocks fit on top of each other.

    Raises:
        KnobError: the order names no block, or one that is not there. ModelError: blocks share
            weights, or change the width.
    """
    check_order(order, len(stack))
    _refuse_tied_blocks(stack)
    for place in sorted(set(order)):
        _refuse_change_of_width(stack.blocks[place], place)


def with_identity_blocks(model: nn.Module, order: Sequence[int]) -> nn.Module:
    """G_zero: as `stacked`, but a block that repeats an earlier one adds nothing.

    With an order that interleaves (0 0 1 1 ...) or stacks (0 1 0 1), the first occurrences alone
    compute, in their own order; where they would not be in the model's own order, the function
    is that of the path of first occurrences.

    Raises:
        ModelError: as `stacked`; or a block has other ways to write to the stream than those that
            are known, which a short forward pass finds out.
    """
    grown = stacked(model, order)
    repeats = [place for place, source in enumerate(order) if source in order[:place]]
    with torch.no_grad():
        for place in repeats:
            for parameter in output_projections(Stack.of(grown).blocks[place]).values():
                parameter.zero_()
    _check_identity(grown, repeats)
    return grown


def with_random_blocks(model: nn.Module, layers: int, *, seed: int = 0) -> nn.Module:
    """G_random: `layers` blocks in all, those on top with the model's own random initialisation.

    What the new blocks add is not masked yet; see `Masked`.

    Raises:
        ModelError: the model is not one that its config builds anew.
    """
    depth = len(Stack.of(model))
    if layers < depth:
        raise ModelError(f"{layers} blocks are fewer than the model's {depth}")
    order = [*range(depth), *(index % depth for index in range(layers - depth))]
    grown = stacked(model, order)
    fresh = _new_like(grown, seed)
    places = zip(Stack.of(grown).blocks[depth:], Stack.of(fresh).blocks[depth:], strict=True)
    for block, source in places:
        block.load_state_dict(source.state_dict())
    return grown


class Masked:
    """Multiplies what some blocks add to the stream by a mask c: y = x + c (f(x) - x).

    At c = 0 the blocks do nothing, at 1 they are ordinary blocks. The mask is held by hooks that
    `remove` takes away, so that the model which is kept is a plain one.

    Attributes:
        c: the mask, between 0 and 1; set it while training.
    """

    def __init__(self, model: nn.Module, places: Sequence[int], c: float = 0.0) -> None:
        self.c = c
        blocks = Stack.of(model).blocks
        self._handles = [blocks[place].register_forward_hook(self._mask) for place in places]

    def _mask(self, block: nn.Module, inputs: Any, output: Any) -> Any:
        if self.c == 1.0:
            return None
        y = output[0] if isinstance(output, tuple) else output
        x = inputs[0] if inputs else None
        if x is None or x.shape != y.shape:
            raise ModelError(
                f"{type(block).__name__} does not take the stream first, so it cannot be masked"
            )
        masked = torch.lerp(x, y, self.c)
        return (masked, *output[1:]) if isinstance(output, tuple) else masked

    def remove(self) -> None:
        """Take the mask away; the blocks then add all they compute."""
        for handle in self._handles:
            handle.remove()


def _new_like(model: Any, seed: int) -> nn.Module:
    """A model of the same config with random weights."""
    config = getattr(model, "config", None)
    if config is None:
        raise ModelError(
            f"a {type(model).__name__} has no config from which random blocks could be made"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh: nn.Module = type(model)(config)
    return fresh


def _refuse_tied_blocks(stack: Stack) -> None:
    owner: dict[int, int] = {}
    for place, block in enumerate(stack.blocks):
        for parameter in block.parameters():
            other = owner.setdefault(id(parameter), place)
            if other != place:
                raise ModelError(
                    f"blocks {other} and {place} share weights; growing would copy a tied block "
                    "(untie first)"
                )


def _refuse_change_of_width(block: nn.Module, place: int) -> None:
    """Of a bare block (no transformer's), compare what its first layer reads and its last writes.

    Raises:
        ModelError: they differ, so that no copy of the block fits behind it.
    """
    ends = [
        (getattr(module, before), getattr(module, after))
        for module in block.modules()
        for before, after in (("in_features", "out_features"), ("in_channels", "out_channels"))
        if isinstance(getattr(module, before, None), int)
    ]
    composed = any("attn" in name or "attention" in name for name, _ in block.named_modules())
    if ends and not composed and ends[0][0] != ends[-1][1]:
        raise ModelError(
            f"block {place} maps {ends[0][0]} to {ends[-1][1]}: only blocks of equal width can be "
            "stacked"
        )


@torch.no_grad()
def _check_identity(grown: Any, places: Sequence[int]) -> None:
    """See that the blocks at these places of a decoder add nothing to the stream."""
    config: Any = getattr(grown, "config", None)
    if not getattr(config, "vocab_size", 0) or getattr(config, "is_encoder_decoder", False):
        return
    training = grown.training
    ids = torch.arange(2, device=next(grown.parameters()).device)[None] % config.vocab_size
    try:
        with Stack.of(grown.eval()).capture() as stream:
            grown(input_ids=ids)
    finally:
        grown.train(training)
    for place in places:
        if stream.contributions[place].any():
            raise ModelError(
                f"block {place} still adds to the stream with its output projections "
                f"({', '.join(output_projections(Stack.of(grown).blocks[place]))}) at zero; "
                'operator "zero" does not know all that it writes with'
            )
