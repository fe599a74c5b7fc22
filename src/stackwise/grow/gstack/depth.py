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
from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.grow.gstack.orders import check_order
from stackwise.stack import Stack

ENDS = ("o_proj", "out_proj", "down_proj", "c_proj", "dense_4h_to_h", "fc2", "wo", "w2")
"""What families call the last projection of attention and of the MLP."""
LAST_DENSE = ("attention.dense", "self_attention.dense", "output.dense", "attn.dense")


def output_projections(block: nn.Module) -> dict[str, nn.Module]:
    """The modules of a block that write to the stream, by dotted name.

    Raises:
        ModelError: there are fewer than two: of attention and of the MLP.
    """
    found = {
        name: module
        for name, module in block.named_modules()
        if isinstance(getattr(module, "weight", None), Tensor)
        and (name.rsplit(".", 1)[-1] in ENDS or name.endswith(LAST_DENSE))
    }
    if len(found) < 2:
        raise ModelError(
            f'operator "zero" needs named output projections; {type(block).__name__} has '
            f"{', '.join(found) or 'none'}"
        )
    return found


def stacked(model: nn.Module, order: Sequence[int]) -> nn.Module:
    """G_direct: a new model whose block i is a copy of block `order[i]`; nothing is shared.

    Raises:
        ModelError: blocks share weights, change the width, or the config cannot say the order.
    """
    stack = Stack.of(model)
    check_order(order, len(stack))
    _refuse_tied_blocks(stack)
    return stack.rebuild(order)


def with_identity_blocks(model: nn.Module, order: Sequence[int]) -> nn.Module:
    """G_zero: as `stacked`, but a block that repeats an earlier one adds nothing.

    With an order that interleaves (0 0 1 1 ...) or stacks (0 1 0 1), the first occurrences alone
    compute, in their own order; where they would not be in the model's own order, the function
    is that of the path of first occurrences.
    """
    grown = stacked(model, order)
    seen: set[int] = set()
    with torch.no_grad():
        for block, source in zip(Stack.of(grown).blocks, order, strict=True):
            if source in seen:
                for module in output_projections(block).values():
                    for parameter in module.parameters(recurse=False):
                        parameter.zero_()
            seen.add(source)
    return grown


def with_random_blocks(model: nn.Module, layers: int, *, seed: int = 0) -> nn.Module:
    """G_random: `layers` blocks in all, those on top with the model's own random initialisation.

    What the new blocks add is not masked yet; see `Masked`.

    Raises:
        ModelError: the model is not one that its config builds anew.
    """
    depth = len(Stack.of(model))
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
