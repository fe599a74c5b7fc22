"""Let the last blocks of a model learn alone."""

from torch import nn

from stackwise.errors import KnobError
from stackwise.stack import Stack


def freeze(network: nn.Module, blocks: int | None) -> list[nn.Parameter]:
    """Hold everything still before the last `blocks` blocks, where a number is given.

    Returns:
        what was held: its gradients are switched off.

    Raises:
        KnobError: there are fewer blocks, or nothing would be left to learn.
    """
    if blocks is None:
        return []
    stack = Stack.of(network)
    if blocks > len(stack):
        raise KnobError(f"the model has {len(stack)} blocks, and {blocks} are to learn")
    still = [*stack.stem, *stack.blocks[: len(stack) - blocks]]
    held = {id(p): p for part in still for p in part.parameters() if p.requires_grad}
    if not any(id(p) not in held and p.requires_grad for p in network.parameters()):
        raise KnobError(f"blocks={blocks} leaves nothing of a {type(network).__name__} to learn")
    for parameter in held.values():
        parameter.requires_grad_(False)
    return list(held.values())
