"""Make a new model of the blocks of an old one, in any order.

The new model is a deep copy of the old one while a path is open in it, so it computes what the
path computes. What is left is to give repeats their own weights, and to see that a Hugging Face
config can say what was built, for a model that cannot be loaded again is of no use.
"""

import copy
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from stackwise.errors import ModelError
from stackwise.stack.discovery import BlockList, children_of, is_pretrained
from stackwise.stack.occurrence import BIAS_TABLE, HAS_BIAS_TABLE, drop_bias_table

ADAPTERS = (("peft.peft_model", "PeftModel"), ("peft.tuners.tuners_utils", "BaseTunerLayer"))
"""What peft puts around a model and into it."""
NOT_OF_THE_CONFIG = {"layer_idx", "training", "gradient_checkpointing", HAS_BIAS_TABLE}


def refuse_adapters(model: nn.Module, order: Sequence[int], depth: int) -> None:
    """Refuse another order of the blocks of a model on which adapters of peft are.

    Such a model saves its adapters alone. They name blocks by number and are loaded beside the old
    base, whose blocks have their old places.

    Raises:
        ModelError: there are adapters; the sentence says how to get rid of them.
    """
    if list(order) == list(range(depth)):
        return
    if has_adapters(model):
        raise ModelError(
            f"a {type(model).__name__} with adapters of peft keeps these alone, and they would "
            "be loaded onto the old blocks; merge them first: "
            "Stack.of(model.merge_and_unload()).rebuild(order)"
        )


def has_adapters(model: nn.Module) -> bool:
    """Whether adapters of peft are on a model; peft is asked only where it is imported."""
    kinds = [getattr(sys.modules.get(place), name, None) for place, name in ADAPTERS]
    wanted: tuple[Any, ...] = tuple(kind for kind in kinds if kind is not None)
    return any(isinstance(module, wanted) for module in model.modules())


def deep_copy(model: nn.Module, found: BlockList, order: Sequence[int]) -> nn.Module:
    """A copy of `model`, in which a path of this order is open, with repeats made independent."""
    new = copy.deepcopy(model)
    container = new.get_submodule(found.name)
    names = list(container._modules)[found.start : found.start + len(order)]
    shared = {id(config): config for m in new.modules() if (config := getattr(m, "config", None))}
    seen: set[int] = set()
    for name, block in zip(names, order, strict=True):
        if block in seen:
            repeat = container._modules[name]
            container._modules[name] = copy.deepcopy(repeat, dict(shared))
        seen.add(block)
    return new


def settle(new: nn.Module, model: nn.Module, found: BlockList, order: Sequence[int]) -> None:
    """Bring a copied Hugging Face model to the form that its own config builds.

    Raises:
        ModelError: the config cannot say it, so that the copy could be saved but not loaded.
    """
    if not is_pretrained(model):
        return
    try:
        before = _form_of(model, found.name, found.start, len(found))
        after = _form_of(new, found.name, found.start, len(order))
    except TypeError:
        return  # a class that wants more than a config says itself how it is built
    container = new.get_submodule(found.name)
    copies = children_of(container)[found.start : found.start + len(order)]
    for place, block in enumerate(order):
        for name, module in copies[place].named_modules():
            has = getattr(module, HAS_BIAS_TABLE, False)
            if has and not after[place].get(f"{name}.{HAS_BIAS_TABLE}"):
                drop_bias_table(copies[place], name)
        changed = sorted(
            key.lstrip(".")
            for key in before[block].keys() | after[place].keys()
            if key.rsplit(".", 1)[-1] not in NOT_OF_THE_CONFIG
            and BIAS_TABLE not in key
            and before[block].get(key) != after[place].get(key)
        )
        if changed:
            raise ModelError(
                f"block {block} of {type(model).__name__} cannot stand at place {place} in a model "
                f"that is loaded again, since its config would build {changed[0]} otherwise there; "
                f"use path() instead."
            )


def _form_of(model: Any, name: str, start: int, depth: int) -> list[dict[str, object]]:
    """What the config of `model` builds for each block: plain attributes and tensor shapes."""
    with torch.device("meta"):
        built = type(model)(copy.deepcopy(model.config))
    blocks = children_of(built.get_submodule(name))[start : start + depth]
    return [_form(block) for block in blocks]


def _form(block: nn.Module) -> dict[str, object]:
    form: dict[str, object] = {}
    for name, module in block.named_modules():
        form[f"{name}."] = type(module)
        for key, value in vars(module).items():
            if not key.startswith("_") and isinstance(value, bool | int | float | str | None):
                form[f"{name}.{key}"] = value
    for name, tensor in (*block.named_parameters(), *block.named_buffers()):
        form[f"{name}.shape"] = tuple(tensor.shape)
    return form
