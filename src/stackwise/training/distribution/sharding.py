"""Weights, gradients and optimizer states spread over the processes of a fit (FSDP).

Each process holds its part of every parameter; a block's parameters are put together just before
the block runs and let go after it, by torch's `fully_shard`. So a model that no process could hold
with its optimizer is trained, and learns what it would have learned in one process.

It is asked for by the launcher (`accelerate launch --use_fsdp`) or by STACKWISE_SHARD=1, and done
here and not by accelerate, whose own refuses the CPU.
"""

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.errors import ModelError, TrainingError
from stackwise.stack import Stack

OWN_SWITCH = "STACKWISE_SHARD"
LAUNCHERS_SWITCH = "ACCELERATE_USE_FSDP"
ON = ("1", "true", "yes", "on")


def is_wanted() -> bool:
    """Whether this command is to shard what it trains."""
    asked = (os.environ.get(OWN_SWITCH), os.environ.get(LAUNCHERS_SWITCH))
    return any(word is not None and word.lower() in ON for word in asked)


@contextmanager
def unseen_by_accelerate() -> Iterator[None]:
    """Keep the launcher's switch from accelerate, which would shard by itself."""
    asked = os.environ.pop(LAUNCHERS_SWITCH, None)
    try:
        yield
    finally:
        if asked is not None:
            os.environ[LAUNCHERS_SWITCH] = asked


class Sharded:
    """A model in parts over the processes, and the way back to a plain one.

    Attributes:
        model: the module that was given, its parameters now in parts.
    """

    def __init__(self, model: nn.Module, device: torch.device, *, bfloat16: bool) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        self.model = model
        self._empty = _without_weights(model)
        self._names = _names_of_each(model)
        mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
        # the processes add gradients in float32, as weights and optimizer states are
        kind = torch.bfloat16 if bfloat16 else None
        policy = MixedPrecisionPolicy(param_dtype=kind, reduce_dtype=kind and torch.float32)
        for block in _blocks_of(model):
            fully_shard(block, mesh=mesh, mp_policy=policy)
        fully_shard(model, mesh=mesh, mp_policy=policy)

    def plain(self) -> nn.Module:
        """The model with whole parameters, in every process; ties and hooks are as they were."""
        tensors = whole_tensors(dict(self.model.state_dict()))
        self._empty.load_state_dict(tensors, assign=True)
        for names in self._names:
            first = self._empty.get_parameter(names[0])
            for name in names:
                owner, _, own = name.rpartition(".")
                setattr(self._empty.get_submodule(owner), own, first)
        return self._empty


@contextmanager
def reached_from_outside() -> Iterator[None]:
    """Say plainly that parameters were met in parts: they are put together in a pass through the
    model or a block of it, and not for a rule that calls a layer or reads a weight by itself.
    """
    try:
        yield
    except RuntimeError as error:
        if "mixed torch.Tensor and DTensor" not in str(error):
            raise
        raise TrainingError(
            "this method reaches into its model beside calling it, which weights in parts do not "
            f"allow; train with whole weights, without {OWN_SWITCH} and --use_fsdp"
        ) from error


def whole(tensor: Tensor) -> Tensor:
    """A tensor put together from its parts in all processes; a plain one as it is."""
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def part_here(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, which may be nothing; all of a plain one."""
    local = getattr(tensor, "to_local", None)
    return tensor if local is None else local()


def whole_tensors(tensors: Mapping[str, Tensor], *, keep: bool = True) -> dict[str, Tensor]:
    """`whole` of each, one after the other, in the memory of the CPU where it was in parts.

    Args:
        keep: False in a process that only takes part: every one must ask for the same tensors.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        together = whole(tensor)
        if keep:
            found[name] = together if together is tensor else together.cpu()
    return found


def in_parts_as(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole tensor spread over the processes as `other` is; a plain one stays as it is."""
    if not hasattr(other, "device_mesh") or tensor.shape != other.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    like: Any = other
    return distribute_tensor(tensor.to(other.device), like.device_mesh, like.placements)


def _blocks_of(model: nn.Module) -> list[nn.Module]:
    """What is put together at a time: the blocks, where there is a stack."""
    try:
        return [block for block in Stack.of(model).blocks if any(True for _ in block.parameters())]
    except ModelError:
        return []


def _without_weights(model: nn.Module) -> nn.Module:
    """A copy of the modules whose parameters hold nothing yet."""
    empty = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad)
        for p in model.parameters()
    }
    return copy.deepcopy(model, empty)


def _names_of_each(model: nn.Module) -> list[list[str]]:
    """The names of each parameter that has several: tied weights."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [of_one for of_one in names.values() if len(of_one) > 1]
