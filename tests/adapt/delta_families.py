"""A tiny random model of several families, and a delta of every kind for each.

A kind is one that is made here of random numbers, or a method that gives deltas: each of the
catalog is taken by its being there.
"""

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Self

import peft
import pytest
import torch
import transformers as hf
from torch import Tensor, nn
from torch.nn import functional

from stackwise.adapt import Delta, Dense, LoraDelta, LowRank, Sparse, WeightDelta, base_hash
from stackwise.adapt.composable_sft.delta import SparseFineTuning
from stackwise.adapt.composable_sft.places import encoder_hash, prefix_of
from stackwise.catalog import card, cards
from stackwise.conformance.small_models import kind_of, quick_knobs
from stackwise.errors import ModelError

IDS = torch.arange(6)[None]
TEXT = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 16}  # fmt: skip
NO_TOKENS: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def _llama() -> nn.Module:
    return hf.LlamaForCausalLM(hf.LlamaConfig(**TEXT, **NO_TOKENS))


def _gpt2() -> nn.Module:
    sizes = {"vocab_size": 20, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 16}
    return hf.GPT2LMHeadModel(hf.GPT2Config(**sizes, **NO_TOKENS))


def _bert() -> nn.Module:
    return hf.BertForSequenceClassification(hf.BertConfig(**TEXT))


def _vit() -> nn.Module:
    sizes = {"image_size": 8, "patch_size": 4, "hidden_size": 8, "intermediate_size": 12}
    return hf.ViTForImageClassification(
        hf.ViTConfig(**sizes, num_hidden_layers=2, num_attention_heads=2)
    )


def _t5() -> nn.Module:
    return hf.T5ForConditionalGeneration(
        hf.T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=12, num_heads=2, num_layers=2,
                    decoder_start_token_id=0)
    )  # fmt: skip


def _plain() -> nn.Module:
    return nn.Sequential(
        nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6), nn.Linear(6, 2)
    )


FAMILIES: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "llama": (_llama, {"input_ids": IDS}),
    "gpt2": (_gpt2, {"input_ids": IDS}),
    "bert": (_bert, {"input_ids": IDS}),
    "vit": (_vit, {"pixel_values": torch.linspace(-1, 1, 192).view(1, 3, 8, 8)}),
    "t5": (_t5, {"input_ids": IDS, "decoder_input_ids": IDS}),
    "plain": (_plain, torch.linspace(-1, 1, 10).view(2, 5)),
}


def model_of(family: str, seed: int = 0) -> nn.Module:
    """A model with random weights, those that begin at zero too."""
    torch.manual_seed(seed)
    model = FAMILIES[family][0]().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model


@torch.no_grad()
def output(model: Any, family: str) -> Tensor:
    """Logits."""
    inputs = FAMILIES[family][1]
    kind = next(model.parameters()).dtype
    if isinstance(inputs, dict):
        inputs = {n: v.to(kind) if v.is_floating_point() else v for n, v in inputs.items()}
    else:
        inputs = inputs.to(kind)
    return model(**inputs).logits if isinstance(inputs, dict) else model(inputs)


def state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all numbers."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether all numbers are the same to the last bit, signs of zeros included."""
    return one.keys() == other.keys() and all(
        value.dtype == other[name].dtype
        and torch.equal(value.view(torch.uint8), other[name].view(torch.uint8))
        if value.dim()
        else torch.equal(value, other[name])
        for name, value in one.items()
    )


def layers(model: nn.Module) -> list[str]:
    """The names of the layers within that multiply by a matrix of their own."""
    users: dict[int, int] = {}
    for _, weight in model.named_parameters(remove_duplicate=False):
        users[id(weight)] = users.get(id(weight), 0) + 1
    return [
        name
        for name, layer in model.named_modules()
        if type(layer).__name__ in ("Linear", "Conv1D")
        and users[id(layer.weight)] == 1
        and name != "lm_head"
    ]


class Gain(Delta, kind="test-gain"):
    """A factor for each number that a layer gives: a delta that is no change of weights."""

    def __init__(self, gains: Mapping[str, Tensor], **about: Any) -> None:
        super().__init__(**about)
        self.gains = dict(gains)

    def fits(self, module: nn.Module) -> None:
        known = dict(module.named_modules())
        for name in self.gains:
            if name not in known:
                raise ModelError(f"there is no weight {name!r} of a layer")

    def attach(self, module: nn.Module) -> None:
        hooks = [
            module.get_submodule(name).register_forward_hook(
                lambda _, __, out, gain=gain: out * gain
            )
            for name, gain in self.gains.items()
        ]
        module.__dict__.setdefault("_gains", []).append((self, hooks))

    def detach(self, module: nn.Module) -> None:
        held = module.__dict__["_gains"]
        found = next(one for one in held if one[0] is self)
        held.remove(found)
        for hook in found[1]:
            hook.remove()
        if not held:
            del module.__dict__["_gains"]

    def tensors(self) -> dict[str, Tensor]:
        return self.gains

    def settings(self) -> dict[str, Any]:
        return {}

    @classmethod
    def made_of(cls, tensors: Mapping[str, Tensor], settings: Any, **about: Any) -> Self:
        return cls(tensors, **about)


def lora_of(model: nn.Module, seed: int, **more: Any) -> tuple[LoraDelta, Any]:
    """An adapter with random numbers as peft makes it, as a delta and on a copy of the model."""
    torch.manual_seed(seed)
    settings = {"r": 2, "lora_alpha": 3, "target_modules": layers(model)} | more
    adapted = peft.get_peft_model(
        copy.deepcopy(model), peft.LoraConfig(init_lora_weights=False, **settings)
    ).eval()
    return LoraDelta.of(adapted, base=base_hash(model), method="sft-recipe"), adapted


def delta_of(kind: str, model: nn.Module, seed: int = 1) -> Delta:
    """A delta of the kind for the model: of random numbers, or as the method of that name makes it.

    Skips where the method does not take such a model.
    """
    if kind in METHODS:
        return _made_by(kind, family_of(model), seed, base_hash(model), type(model).__name__)
    if kind == "lora":
        return lora_of(model, seed)[0]
    torch.manual_seed(seed)
    base = base_hash(model)
    if kind == "gain":
        outs = {name: model.get_submodule(name) for name in layers(model)[:2]}
        sizes = {name: getattr(m, "out_features", getattr(m, "nf", 0)) for name, m in outs.items()}
        return Gain({name: 1 + torch.rand(size) for name, size in sizes.items()}, base=base)
    parts: dict[str, Any] = {}
    if kind == "fine-tuning":
        prefix = prefix_of(model)
        for name, weight in model.named_parameters():
            if name.startswith(prefix):
                chosen = torch.randn(weight.shape) * (torch.rand(weight.shape) < 0.3)
                parts[name.removeprefix(prefix)] = Sparse.where_not_zero(chosen)
        return SparseFineTuning(parts, base=encoder_hash(model))
    for name, weight in model.named_parameters():
        if kind == "dense":
            parts[name] = Dense(torch.randn(weight.shape))
        elif kind == "sparse":
            chosen = torch.rand(weight.shape) < 0.3
            parts[name] = Sparse.where_not_zero(torch.randn(weight.shape) * chosen)
        elif weight.dim() == 2:
            out, inner = weight.shape
            parts[name] = LowRank(torch.randn(2, inner), torch.randn(out, 2), 0.5)
    return WeightDelta(parts, base=base, knobs={"rank": 2})


METHODS = tuple(
    slug for slug, of in sorted(cards(baselines=False).items())
    if any(entry.kind == "transform" and entry.gives == "delta" for entry in of.entries)
)  # fmt: skip
"""The methods that give deltas."""
WEIGHTS = ("dense", "sparse", "low-rank", "lora", "fine-tuning")
KINDS = (*WEIGHTS, "gain", *METHODS)


def family_of(model: Any) -> str:
    """The family that a model is of."""
    return next(name for name in FAMILIES if type(model) is type(_empty(name)))


@functools.cache
def _empty(family: str) -> nn.Module:
    with torch.device("meta"):
        return FAMILIES[family][0]()


@functools.cache
def _made_by(slug: str, family: str, seed: int, base: str, name: str) -> Delta:
    """What a method makes of a little data, for the model of the family that has this hash."""
    entry = card(slug).entry("transform")
    models = (model_of(family, at) for at in range(6))
    model = next((one for one in models if base_hash(one) == base), None)
    assert model is not None, f"no {name} with random numbers of a seed below 6 has the hash {base}"
    kind = kind_of(model)
    if kind not in entry.takes:
        pytest.skip(f"{slug} takes no {kind}")
    before = state(model)
    knobs = quick_knobs(card(slug), entry) | {"random_state": seed}
    given: dict[str, Any] = {n: value for n, value in knobs.items() if n in entry.knobs}
    if "loss" in inspect.signature(entry.load()).parameters and family == "plain":
        given["loss"] = functional.cross_entropy
    made = entry.load()(model, learned_from(family), **given)
    assert same_bits(state(model), before), f"{slug} changed the model that it was given"
    return made


def learned_from(family: str) -> Any:
    """A few batches, or (x, y)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        if family == "plain":
            return torch.randn(64, 5), torch.randint(0, 2, (64,))
        if family == "vit":
            pictures = [torch.randn(2, 3, 8, 8) for _ in range(8)]
            return [{"pixel_values": p, "labels": torch.randint(0, 2, (2,))} for p in pictures]
        texts = [torch.randint(1, 20, (2, 10)) for _ in range(8)]
        if family == "bert":
            return [{"input_ids": t, "labels": torch.randint(0, 2, (2,))} for t in texts]
        return [{"input_ids": t, "labels": t} for t in texts]
