"""What a network costs: multiply-adds and milliseconds of a pass, on an input made up for it.

torch counts matrix products and convolutions of any network. In a selective scan at small widths
these are the smaller part: the scan's own work is added.
"""

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from stackwise.layers.s6 import S6

TOKENS, PASSES = 64, 5


@torch.no_grad()
def multiply_adds(network: nn.Module, *inputs: Tensor, **named: Tensor) -> int:
    """Multiply-adds of one call of any network; give it one example.

    A multiply-add is two FLOPs, so that shares of one network's FLOPs are shares of these.
    """
    extra = 0

    def add(layer: S6, given: tuple[Any, ...], _: object) -> None:
        nonlocal extra
        batch, length, _width = given[0].shape
        extra += batch * layer.conv_and_scan_multiply_adds(length)

    layers = [module for module in network.modules() if isinstance(module, S6)]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    try:
        with _evaluating(network), FlopCounterMode(display=False) as counter:
            network(*inputs, **named)
    finally:
        for hook in hooks:
            hook.remove()
    return counter.get_total_flops() // 2 + extra


@torch.no_grad()
def milliseconds(network: nn.Module, inputs: Mapping[str, Any], *, passes: int = PASSES) -> float:
    """The median time of a pass, in evaluation mode, after one that warms up."""
    seconds = []
    with _evaluating(network):
        for _ in range(passes + 1):
            began = time.perf_counter()
            network(**inputs)
            seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds[1:])


def made_up_inputs(network: Any) -> dict[str, Any] | None:
    """One made-up input of a model of transformers; None where it is not known what it reads."""
    config = getattr(network, "config", None)
    if config is None or getattr(config, "is_encoder_decoder", False):
        return None
    parameter = next(network.parameters())
    if network.main_input_name == "input_ids":
        most = getattr(config, "max_position_embeddings", None) or TOKENS
        row = torch.ones((1, min(TOKENS, most)), dtype=torch.int64, device=parameter.device)
        return {"input_ids": row}
    size = getattr(config, "image_size", None)
    if network.main_input_name == "pixel_values" and isinstance(size, int):
        shape = (1, getattr(config, "num_channels", 3), size, size)
        return {"pixel_values": parameter.new_zeros(shape)}
    return None


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
