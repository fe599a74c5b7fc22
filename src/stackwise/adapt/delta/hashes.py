"""The hash of a module's numbers."""

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.errors import ModelError

HALVES = (torch.float16, torch.bfloat16)
AT_ONCE = 1 << 24
"""Numbers that are looked at together, so that no second model stands in memory."""


def module_of(model: Any) -> nn.Module:
    """The module itself, or that of a fitted learner.

    Raises:
        ModelError: it is neither.
    """
    module = getattr(model, "network_", model)
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"a delta goes on a torch module or a fitted learner with a network_, not on a "
            f"{type(model).__name__}"
        )
    return module


def state_hash(module: nn.Module, leave_out: tuple[str, ...] = ()) -> str:
    """16 hex digits of the SHA-256 over names, shapes and numbers, as they stand.

    Parameters and the buffers that a state dict holds, by name; tied ones once. Halves are looked
    at as float32, which holds each of them exactly.

    Args:
        leave_out: beginnings of names that do not count.

    Raises:
        ModelError: a parameter has no numbers (it is on torch's meta device).
    """
    digest = hashlib.sha256()
    seen: set[int] = set()
    state = module.state_dict(keep_vars=True)
    for name in sorted(state):
        value = state[name]
        if not isinstance(value, Tensor) or id(value) in seen or name.startswith(leave_out):
            continue
        seen.add(id(value))
        if value.is_meta:
            raise ModelError(f"{name} has no numbers: the model was made without its weights")
        dtype = torch.float32 if value.dtype in HALVES else value.dtype
        digest.update(f"{name} {dtype} {tuple(value.shape)};".encode())
        for piece in value.detach().reshape(-1).split(AT_ONCE):
            numbers = piece.to("cpu", dtype).contiguous()
            digest.update(numbers.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
