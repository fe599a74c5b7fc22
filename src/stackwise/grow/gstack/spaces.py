"""The spaces that the weights of a Llama-like decoder map between, and how they become larger.

A weight (out, in) reads from one space and writes to another: the stream, the query, key, value or
attention-output coordinates, the MLP's. Growing a width means that each space gets more coordinates
and that every weight follows from what happens to its two spaces. Heads are added whole, and a key
head keeps its group of query heads.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.errors import KnobError, ModelError

STREAM = "stream"
AXES: dict[str, tuple[str | None, str | None]] = {
    "embed_tokens": (None, STREAM),
    "lm_head": (None, STREAM),
    "q_proj": ("query", STREAM),
    "k_proj": ("key", STREAM),
    "v_proj": ("value", STREAM),
    "o_proj": (STREAM, "attention"),
    "gate_proj": ("mlp", STREAM),
    "up_proj": ("mlp", STREAM),
    "down_proj": (STREAM, "mlp"),
    "norm": (STREAM, None),
    "input_layernorm": (STREAM, None),
    "post_attention_layernorm": (STREAM, None),
    "pre_feedforward_layernorm": (STREAM, None),
    "post_feedforward_layernorm": (STREAM, None),
    "q_norm": (None, None),
    "k_norm": (None, None),
}
"""Space of the rows and of the columns of a weight, by the name of its module."""
NORMS = tuple(name for name in AXES if name.endswith("norm"))
WRITES = ("embed_tokens",)
"""Weights whose columns are written to, not read from: a lookup."""


@dataclass(frozen=True)
class Space:
    """A space before and after growth.

    Attributes:
        source: (new,) int64, the old coordinate that each new one copies; the first are themselves.
    """

    old: int
    source: Tensor

    @property
    def new(self) -> int:
        """Coordinates after growth."""
        return len(self.source)

    @property
    def copies(self) -> Tensor:
        """(new,) how many new coordinates copy the same old one as this does."""
        return torch.bincount(self.source, minlength=self.old)[self.source]


def spaces_of(config: Any, width: int, *, seed: int = 0) -> dict[str, Space]:
    """Every space of a decoder of this config when its stream grows to `width`.

    The coordinates beyond the old ones copy old ones: all once more where the width doubles,
    else some that are drawn.

    Raises:
        KnobError: the width is not larger, or does not make whole heads.
        ModelError: the config is of another kind of model.
    """
    sizes = ("hidden_size", "intermediate_size", "num_attention_heads")
    missing = [name for name in sizes if not isinstance(getattr(config, name, None), int)]
    if missing:
        raise ModelError(
            f"width growth is for Llama-like decoders; {type(config).__name__} has no "
            f"{' and no '.join(missing)}"
        )
    old, heads = config.hidden_size, config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    size = getattr(config, "head_dim", None) or old // heads
    if width <= old:
        raise KnobError(f"width must be above the model's {old}, got {width}")
    if (heads * width) % old or (groups * width) % old:
        step = old // _common(groups, old)
        raise KnobError(
            f"width={width} does not make whole heads of {groups} key heads at {old}; "
            f"take a multiple of {step}"
        )
    generator = torch.Generator().manual_seed(seed)
    inner = -(-config.intermediate_size * width // old)
    keys = _grown(groups, groups * width // old, generator)
    share = heads // groups
    queries = (keys[:, None] * share + torch.arange(share)).flatten()
    return {
        STREAM: Space(old, _grown(old, width, generator)),
        "mlp": Space(config.intermediate_size, _grown(config.intermediate_size, inner, generator)),
        "key": Space(groups * size, _within_heads(keys, size)),
        "value": Space(groups * size, _within_heads(keys, size)),
        "query": Space(heads * size, _within_heads(queries, size)),
        "attention": Space(heads * size, _within_heads(queries, size)),
    }


def grown_config(model: Any, spaces: dict[str, Space]) -> Any:
    """The config of the grown model."""
    config = copy.deepcopy(model.config)
    ratio = spaces[STREAM].new / spaces[STREAM].old
    heads = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None)
    if hasattr(config, "head_dim"):
        config.head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    config.num_attention_heads = round(heads * ratio)
    if groups:
        config.num_key_value_heads = round(groups * ratio)
    config.hidden_size = spaces[STREAM].new
    config.intermediate_size = spaces["mlp"].new
    return config


def axes_of(name: str, weight: Tensor) -> tuple[str | None, str | None]:
    """The space of the rows and of the columns of a parameter.

    Raises:
        ModelError: it is no weight of a Llama-like decoder.
    """
    parts = name.split(".")
    known = AXES.get(parts[-2]) if len(parts) > 1 else None
    if known is None or weight.ndim > 2:
        raise ModelError(
            f"width growth knows the weights of Llama-like decoders "
            f"({', '.join(AXES)}), not {name} of shape {tuple(weight.shape)}"
        )
    return (known[0], None) if weight.ndim == 1 else known


def empty_like(model: Any, spaces: dict[str, Space], *, seed: int = 0) -> nn.Module:
    """A model of the grown width with fresh random weights, of the same class.

    Raises:
        ModelError: a weight or a norm is not that of a Llama-like decoder.
    """
    for name, weight in model.named_parameters():
        axes_of(name, weight)
    for name, module in model.named_modules():
        if name.rsplit(".", 1)[-1] in NORMS:
            _check_norm(name, module, model, spaces[STREAM].old)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: Any = type(model)(grown_config(model, spaces))
    like = next(model.parameters())
    for parameter in made.parameters():  # not the buffers: angles stay in float32
        parameter.data = parameter.data.to(like.dtype)
    made.generation_config = copy.deepcopy(model.generation_config)
    grown: nn.Module = made.to(like.device).train(model.training)
    return grown


@torch.no_grad()
def _check_norm(name: str, norm: nn.Module, model: Any, width: int) -> None:
    """See that a norm is w x / rms(x), over the stream or within a head."""
    weight = getattr(norm, "weight", None)
    over_stream = AXES[name.rsplit(".", 1)[-1]][0] == STREAM
    size = width if over_stream or weight is None else len(weight)
    within = getattr(model.config, "head_dim", None) or width // model.config.num_attention_heads
    if weight is not None and size == (width if over_stream else within):
        x = torch.linspace(0.5, 2, size, device=weight.device, dtype=torch.float32)
        expected = weight.float() * x * x.pow(2).mean().rsqrt()
        if torch.allclose(norm(x.to(weight.dtype)).float(), expected, rtol=0.02, atol=1e-4):
            return
    raise ModelError(
        f"width growth knows norms of the root mean square with a gain, as Llama has them, over "
        f"the stream or a head; {name} is a {type(norm).__name__} of another form"
    )


def _grown(old: int, new: int, generator: torch.Generator) -> Tensor:
    """Sources of `new` coordinates: the old ones, all of them again as often as they fit, and for
    the rest some that are drawn without repetition.
    """
    whole, rest = divmod(new, old)
    drawn = torch.randperm(old, generator=generator)[:rest].sort().values
    return torch.cat([torch.arange(old).repeat(whole), drawn])


def _within_heads(heads: Tensor, size: int) -> Tensor:
    return (heads[:, None] * size + torch.arange(size)).flatten()


def _common(one: int, other: int) -> int:
    import math

    return math.gcd(one, other)
