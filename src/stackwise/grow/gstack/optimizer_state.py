"""Take AdamW's moments along when a model grows.

The paper starts its optimizer anew, and so does the learner here. Whoever wants to go on with the
moments of the base gives each copied block those of its source.
"""

import re
from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from stackwise.errors import ModelError
from stackwise.stack import Stack


def grow_optimizer_state(
    old: Optimizer, new: Optimizer, base: nn.Module, grown: nn.Module, order: Sequence[int]
) -> None:
    """Give the optimizer of a model grown in depth the state of the base's, in place.

    Args:
        order: the source block of each place of the grown model. Parameters outside of the blocks
            keep their own state; a tensor of the state is copied, so that nothing is shared.

    Raises:
        ModelError: the models are not of one width, or the order is not the grown model's.
    """
    if len(order) != len(Stack.of(grown)):
        raise ModelError(
            f"the order has {len(order)} places and the grown model {len(Stack.of(grown))} blocks"
        )
    sources = dict(base.named_parameters())
    blocks = {name: Stack.of(base).names[order[place]]
              for place, name in enumerate(Stack.of(grown).names)}  # fmt: skip
    longest = sorted(blocks, key=len, reverse=True)
    inside = re.compile(rf"({'|'.join(map(re.escape, longest))})\.(.*)")
    for name, parameter in grown.named_parameters():
        found = inside.fullmatch(name)
        source = sources[f"{blocks[found[1]]}.{found[2]}" if found else name]
        if source.shape != parameter.shape:
            raise ModelError(
                f"{name} grew from {tuple(source.shape)} to {tuple(parameter.shape)}: moments go "
                "along only where the depth grows; start a new optimizer"
            )
        if source in old.state:
            new.state[parameter] = {key: _copied(value) for key, value in old.state[source].items()}


def _copied(value: Any) -> Any:
    return value.clone() if hasattr(value, "clone") else value
