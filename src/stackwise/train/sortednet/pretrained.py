"""The axes of a model of transformers, read off the names of its linear maps and its config.

In every block the maps of attention (q, k, v, o) and of the MLP (up and down, with or without a
gate) are looked for by the ends of their names. Heads and hidden units can be cut where they are
found and the config says their number; the width of the stream where besides all parameters are
those of a Llama.
"""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from stackwise.stack import Stack
from stackwise.train.sortednet.spaces import Extent, Sizes
from stackwise.train.sortednet.truncation import Place, Units

ATTENTION = (("q_proj", "k_proj", "v_proj", "o_proj"),)
GATED, PLAIN = ("gate_proj", "up_proj", "down_proj"), ("fc1", "fc2")
INNER = (GATED, PLAIN, ("intermediate.dense", "output.dense"))
"""What the maps of an MLP are called; the last one goes back to the stream."""
NORMS = ("input_layernorm", "post_attention_layernorm")


def read_pretrained(
    network: Any, stack: Stack
) -> tuple[dict[str, Extent], dict[str, Place]]:  # fmt: skip
    """Heads and hidden units of a model of transformers; of a Llama-like one the width too."""
    extents: dict[str, Extent] = {}
    places: dict[str, Place] = {}
    config = network.config
    names = [
        (name, dict(block.named_modules()))
        for name, block in zip(stack.names, stack.blocks, strict=True)
    ]
    attention, inner = _alike(names, ATTENTION), _alike(names, INNER)
    heads: Any = getattr(config, "num_attention_heads", None)
    shared: Any = getattr(config, "num_key_value_heads", None) or heads
    size: Any = getattr(config, "head_dim", None)
    if attention is not None and isinstance(heads, int) and heads % shared == 0:
        size = size or config.hidden_size // heads
        extents["heads"] = Extent(heads, heads // shared, "heads", "the heads of a key")
    hidden = getattr(config, "intermediate_size", None)
    if inner is not None and isinstance(hidden, int):
        extents["ffn"] = Extent(hidden)
    stream = Units("width") if _is_llama_like(network, stack, attention, inner) else None
    if stream is not None:
        extents = {"width": Extent(config.hidden_size)} | extents
    for name, _ in names:
        if "heads" in extents and attention is not None:
            every, few = Units("heads", size), Units("heads", size, heads // shared)
            q, k, v, out = (f"{name}.{part}" for part in attention)
            places |= {q: Place(every, stream), k: Place(few, stream), v: Place(few, stream)}
            places |= {out: Place(stream, every)}
        if "ffn" in extents and inner is not None:
            places |= {f"{name}.{part}": Place(Units("ffn"), stream) for part in inner[:-1]}
            places |= {f"{name}.{inner[-1]}": Place(stream, Units("ffn"))}
        if stream is not None:
            places |= {f"{name}.{norm}": Place(stream) for norm in NORMS}
    if stream is not None:
        parent = stack.name.rpartition(".")[0]
        places |= {f"{parent}.{part}": Place(stream) for part in ("embed_tokens", "norm")}
        places |= {"lm_head": Place(None, stream)}
    return extents, places


def _alike(
    blocks: list[tuple[str, dict[str, nn.Module]]], known: tuple[tuple[str, ...], ...]
) -> tuple[str, ...] | None:
    """The names, within a block, of linear maps that are called so in every block."""
    found = {_maps(inside, known) for _, inside in blocks}
    return found.pop() or None if len(found) == 1 else None


def _maps(inside: dict[str, nn.Module], known: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """The first of the known groups of names that a block has."""
    for names in known:
        here = [_ending(inside, name) for name in names]
        if all(here):
            return tuple(filter(None, here))
    return ()


def _ending(inside: dict[str, nn.Module], name: str) -> str | None:
    """The linear map of a block whose name ends so; of several, the one nearest to the block."""
    ends = [
        full for full, module in inside.items()
        if (full == name or full.endswith(f".{name}")) and isinstance(module, nn.Linear)
    ]  # fmt: skip
    return min(ends, key=lambda full: full.count("."), default=None)


def _is_llama_like(
    network: Any, stack: Stack, attention: tuple[str, ...] | None, inner: tuple[str, ...] | None
) -> bool:
    """Whether every parameter is one of those that a Llama has, or a bias of its maps."""
    if attention is None or inner is None or not inner[0].endswith(GATED[0]):
        return False
    known = {*attention, *inner, *NORMS, "self_attn.q_norm", "self_attn.k_norm"}
    outside = {"embed_tokens", "norm", "lm_head"}
    prefix = stack.name.rpartition(".")[0]
    for name, _ in network.named_parameters():
        owner = name.rpartition(".")[0]
        block = next((one for one in stack.names if owner.startswith(f"{one}.")), None)
        if block is not None:
            if owner[len(block) + 1 :] not in known:
                return False
        elif owner.removeprefix(f"{prefix}.") not in outside:
            return False
    return hasattr(network, "lm_head")


def rebuilder(
    network: Any, at_depth: Callable[[int], AbstractContextManager[Any]]
) -> Callable[[Sizes], nn.Module]:
    def rebuilt(sizes: Sizes) -> nn.Module:
        with at_depth(sizes["depth"]):
            config = copy.deepcopy(network.config)
        heads = config.num_attention_heads if "heads" in sizes else None
        if heads is not None and not getattr(config, "head_dim", None):
            config.head_dim = config.hidden_size // heads
        fields = {
            "hidden_size": sizes.get("width"), "intermediate_size": sizes.get("ffn"),
            "num_attention_heads": sizes.get("heads"),
        }  # fmt: skip
        shared = getattr(config, "num_key_value_heads", None)
        if shared and heads:
            fields["num_key_value_heads"] = sizes["heads"] * shared // heads
        for name, value in fields.items():
            if value is not None:
                setattr(config, name, value)
        with torch.random.fork_rng(devices=[]):
            made: Any = type(network)(config)
        like = next(network.parameters())
        for parameter in made.parameters():  # not the buffers: angles stay in float32
            parameter.data = parameter.data.to(like)
        if getattr(network, "generation_config", None) is not None:
            made.generation_config = copy.deepcopy(network.generation_config)
        moved: nn.Module = made.to(like.device)
        return moved

    return rebuilt
