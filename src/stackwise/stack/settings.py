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
ABSENT = object()
"""The value of an entry that a config does not have."""
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
        settings += _stage_settings(config, len(found), len(order))
        if getattr(config, "is_encoder_decoder", False):
            continue  # one flat config for two stacks does not say whose a list would be
        for name, value in vars(config).items():
            if name in INDEX_LISTS and value:
                places = [place for place, block in enumerate(order) if block in value]
                settings.append((config, name, places))
            elif _says_something_of_each_layer(name, value, len(found)):
                settings.append((config, name, type(value)(value[block] for block in order)))
    return settings


def _stage_settings(config: Any, before: int, depth: int) -> list[Setting]:
    """The entries of a backbone's config that name the stem and each block as a stage.

    Of the stages that it puts out those stay that are there, and the last stays the last.
    """
    stages = getattr(config, "stage_names", None)
    if not stages or len(stages) != before + 1:
        return []
    names = [stages[0], *(f"stage{place}" for place in range(1, depth + 1))]
    chosen = [name for name in config.out_features or [] if name in names]
    if not chosen or config.out_features == stages[-1:]:
        chosen = names[-1:]
    indices = [names.index(name) for name in chosen]
    entries = {"stage_names": names, "_out_features": chosen, "_out_indices": indices}
    return [(config, name, value) for name, value in entries.items()]


def cache_settings(model: nn.Module, found: BlockList, depth: int) -> list[Setting]:
    """What sizes the cache of a decoder that is longer than its encoder.

    `generate` makes as many slots as the config says in `decoder_layers`. T5 calls the number
    `num_decoder_layers`, which is not looked at, and has as many slots as its encoder has blocks;
    so `decoder_layers` says it too where that is fewer.
    """
    settings: list[Setting] = []
    for config, _ in _configs(model, found):
        decoder = getattr(config, "num_decoder_layers", None)
        if found.side is None or decoder is None or hasattr(config, "decoder_layers"):
            continue
        decoder, encoder = (
            (depth, config.num_hidden_layers) if found.side == "decoder" else (decoder, depth)
        )
        if decoder > encoder:
            settings.append((config, "decoder_layers", decoder))
    return settings


def current_settings(settings: list[Setting]) -> list[Setting]:
    """What the same entries hold now, the objects themselves."""
    return [(config, name, getattr(config, name, ABSENT)) for config, name, _ in settings]


def apply_settings(settings: list[Setting]) -> None:
    """Set every entry, or take it away where it is ABSENT."""
    for config, name, value in settings:
        if value is ABSENT:
            delattr(config, name)
        else:
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
