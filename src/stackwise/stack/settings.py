"""What a Hugging Face config says about depth, and how it follows the blocks.

A model reads its config while it runs: how many layers there are, which attention mask each takes,
how many slots the cache has. So a path changes those entries for as long as it is open, and a
rebuilt model keeps them.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from stackwise.errors import ModelError
from stackwise.stack.discovery import BlockList, is_pretrained

Setting = tuple[Any, str, object]
"""(config, name, value)."""

DEPTH_ON_SIDE = {
    "encoder": ("encoder_layers", "num_encoder_layers"),
    "decoder": ("decoder_layers", "num_decoder_layers"),
}
DEPTH = "num_hidden_layers"
INDEX_LISTS = ("mlp_only_layers",)
"""Lists that name layers by index, rather than say something of each layer."""


def depth_settings(model: nn.Module, found: BlockList, order: Sequence[int]) -> list[Setting]:
    """The entries of every config above the blocks, as `order` makes them.

    Raises:
        ModelError: the config couples layers in a way that does not survive a new order.
    """
    settings: list[Setting] = []
    for config, names in _configs(model, found):
        if not names:
            continue
        _refuse_coupled(config)
        settings += [(config, name, len(order)) for name in names]
        if getattr(config, "is_encoder_decoder", False):
            continue  # one flat config for two stacks does not say whose a list would be
        for name, value in vars(config).items():
            if name in INDEX_LISTS and value:
                places = [place for place, block in enumerate(order) if block in value]
                settings.append((config, name, places))
            elif _says_something_of_each_layer(name, value, len(found)):
                settings.append((config, name, type(value)(value[block] for block in order)))
    return settings


def current_settings(settings: list[Setting]) -> list[Setting]:
    """What the same entries hold now, the objects themselves."""
    return [(config, name, getattr(config, name)) for config, name, _ in settings]


def apply_settings(settings: list[Setting]) -> None:
    """Set every entry."""
    for config, name, value in settings:
        setattr(config, name, value)


def _configs(model: nn.Module, found: BlockList) -> list[tuple[Any, list[str]]]:
    """The configs of the models that the blocks are in, each with its names for their depth."""
    above = [model]
    for part in found.name.split(".") if found.name else []:
        above.append(above[-1].get_submodule(part))
    configs: list[Any] = []
    for module in reversed(above):
        if is_pretrained(module) and not any(module.config is config for config in configs):
            configs.append(module.config)
    named = []
    for place, config in enumerate(configs):
        names = [DEPTH]
        if getattr(config, "is_encoder_decoder", False) and found.side is not None:
            # In a config for both sides num_hidden_layers is the encoder's; the decoder of T5
            # reads it too, but from a copy of its own.
            own = place == 0 and len(configs) > 1
            also = [DEPTH] if own or found.side == "encoder" else []
            names = [*DEPTH_ON_SIDE[found.side], *also]
        named.append((config, [n for n in names if getattr(config, n, None) == len(found)]))
    return named


def _says_something_of_each_layer(name: str, value: object, depth: int) -> bool:
    return (
        "layer" in name
        and isinstance(value, list | tuple)
        and len(value) == depth
        and (all(isinstance(v, str) for v in value) or all(v in (0, 1) for v in value))
    )


def _refuse_coupled(config: Any) -> None:
    if getattr(config, "num_kv_shared_layers", None):
        raise ModelError(
            f"{type(config).__name__} shares keys and values between layers "
            f"(num_kv_shared_layers is {config.num_kv_shared_layers}), so its blocks only run in "
            f"their own order."
        )
    if getattr(config, "is_heterogeneous", False):
        raise ModelError(
            f"{type(config).__name__} has a config of its own for some layers "
            f"(per_layer_config), so its blocks only run in their own order."
        )
