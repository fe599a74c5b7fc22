"""Noise after growth, which tells copies apart: W <- (1 - a) W + a eps.

eps is drawn as the model would be initialised: N(0, 2 / (5 d)) for embeddings and projections with
d inputs, N(0, 1 / (d L^2)) for the projections that write to the stream, with L blocks. Norms and
biases are left alone.
"""

import math

import torch
from torch import nn

from stackwise.errors import KnobError
from stackwise.grow.gstack.depth import output_projections
from stackwise.stack import Stack


@torch.no_grad()
def add_noise(model: nn.Module, amount: float, *, seed: int = 0) -> None:
    """Mix the matrices of a grown model with random ones, in place; `amount` is a, 0 to 1.

    Raises:
        KnobError: the amount is not between 0 and 1.
    """
    if not 0 <= amount <= 1:
        raise KnobError(f"noise must be in [0, 1], got {amount}")
    if amount == 0:
        return
    stack = Stack.of(model)
    depth = len(stack)
    ends = {id(p) for block in stack.blocks for p in output_projections(block).values()}
    generator = torch.Generator().manual_seed(seed)
    seen: set[int] = set()
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, nn.Parameter) or weight.ndim != 2 or id(weight) in seen:
            continue
        seen.add(id(weight))
        inputs = weight.shape[0] if type(module).__name__ == "Conv1D" else weight.shape[1]
        variance = 1 / (inputs * depth**2) if id(weight) in ends else 2 / (5 * inputs)
        drawn = torch.randn(weight.shape, generator=generator) * math.sqrt(variance)
        weight.lerp_(drawn.to(weight), amount)
