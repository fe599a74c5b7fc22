"""One occurrence of a block in a path: the same weights under its own modules.

When a path runs block 1 twice, the two runs need two places in the key-value cache, and a hook on
one must not fire for the other. So each occurrence is a tree of new module objects over the very
same parameters and buffers:

    occurrence.weight is block.weight          # no weight is copied, gradients flow to the block
    occurrence.self_attn.layer_idx == position # the slot of the cache that it writes
"""

from types import MethodType

from torch import nn

from stackwise.errors import ModelError

HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)
"""The dictionaries that hold a module's forward hooks: each occurrence has its own."""

BIAS_TABLE = "relative_attention_bias"
HAS_BIAS_TABLE = "has_relative_attention_bias"


def occurrence(block: nn.Module, shift: int) -> nn.Module:
    """New module objects for `block` that share its parameters, buffers and hooks so far.

    Args:
        shift: place in the path minus place in the model; every `layer_idx` moves by it.
    """
    twins: dict[nn.Module, nn.Module] = {}
    top = _twin(block, twins)
    for twin in twins.values():
        for name, value in list(vars(twin).items()):
            if isinstance(value, MethodType) and value.__self__ in twins:
                vars(twin)[name] = MethodType(value.__func__, twins[value.__self__])
    for twin in twins.values():
        index = vars(twin).get("layer_idx")
        if isinstance(index, int):
            twin.layer_idx = index + shift  # type: ignore[assignment]
    return top


def knows_its_place(block: nn.Module) -> bool:
    """Whether the block holds its index, as attention does that writes to a cache."""
    return any(isinstance(vars(m).get("layer_idx"), int) for m in block.modules())


def _twin(module: nn.Module, twins: dict[nn.Module, nn.Module]) -> nn.Module:
    if module in twins:
        return twins[module]
    forward = vars(module).get("forward")
    if forward is not None and not isinstance(forward, MethodType):
        raise ModelError(
            f"a {type(module).__name__} in the stack has had its forward replaced "
            f"(by accelerate's offloading, for example), so its blocks cannot run in another "
            f"order; remove those hooks first."
        )
    twin = object.__new__(type(module))
    vars(twin).update(vars(module))  # shares _parameters and _buffers, the dictionaries themselves
    twins[module] = twin
    for name in HOOKS:
        vars(twin)[name] = vars(module)[name].copy()
    vars(twin).pop("_compiled_call_impl", None)  # it would run the block itself
    vars(twin)["_modules"] = {
        name: None if child is None else _twin(child, twins)
        for name, child in module._modules.items()
    }
    return twin


def share_bias_table(first: nn.Module, holder: nn.Module) -> None:
    """Let the block that runs first compute the position bias, as T5 wants it.

    T5 keeps one table of relative positions for all blocks inside its block 0, and hands the bias
    on. It belongs to the stem: whichever block runs first gets it, by reference.
    """
    for name, module in holder.named_modules():
        if not getattr(module, HAS_BIAS_TABLE, False):
            continue
        target = first.get_submodule(name)
        if getattr(target, HAS_BIAS_TABLE, True):
            continue
        setattr(target, HAS_BIAS_TABLE, True)
        target.add_module(BIAS_TABLE, module.get_submodule(BIAS_TABLE))


def needs_bias_table(first: nn.Module, holder: nn.Module) -> bool:
    """Whether `first` lacks a table of relative positions that `holder` has."""

    def tables(block: nn.Module) -> set[str]:
        return {name for name, m in block.named_modules() if getattr(m, HAS_BIAS_TABLE, False)}

    return bool(tables(holder) - tables(first))


def drop_bias_table(block: nn.Module, name: str) -> None:
    """Take the table from the module `name` of a block that does not run first."""
    module = block.get_submodule(name)
    setattr(module, HAS_BIAS_TABLE, False)
    if BIAS_TABLE in module._modules:
        del module._modules[BIAS_TABLE]
