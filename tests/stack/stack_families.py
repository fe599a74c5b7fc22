"""A tiny random model of every family, and inputs for it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

WIDTH = 16
SEED = 7


@dataclass(frozen=True)
class Family:
    """How to build a model, and what is true of it."""

    build: Callable[[], nn.Module]
    kind: str
    side: str | None = None
    generates: bool = False
    additive: bool = True
    depth: int = 4


def _text(**extra: Any) -> dict[str, Any]:
    return {
        "vocab_size": 40,
        "hidden_size": WIDTH,
        "intermediate_size": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": None,
        **extra,
    }


def _vision(**extra: Any) -> dict[str, Any]:
    sizes = {"image_size": 8, "patch_size": 4, "num_labels": 3}
    layers = {"num_hidden_layers": 4, "num_attention_heads": 2}
    return {"hidden_size": WIDTH, "intermediate_size": 24, **sizes, **layers, **extra}


MIXED = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
GROUPED = {"num_key_value_heads": 1, "head_dim": 8}
SLIDING = {"sliding_window": 3, "layer_types": MIXED}


def _gemma3() -> nn.Module:
    text = hf.Gemma3TextConfig(**_text(**GROUPED, **SLIDING))
    vision = hf.SiglipVisionConfig(**{**_vision(), "num_hidden_layers": 3})
    return hf.Gemma3ForConditionalGeneration(
        hf.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    )


def _t5() -> nn.Module:
    return hf.T5ForConditionalGeneration(
        hf.T5Config(
            vocab_size=40,
            d_model=WIDTH,
            d_kv=8,
            d_ff=24,
            num_heads=2,
            num_layers=4,
            num_decoder_layers=4,
            decoder_start_token_id=0,
            eos_token_id=None,
        )
    )


def _bart() -> nn.Module:
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    widths = {"encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 64}
    tokens = {"decoder_start_token_id": 2, "eos_token_id": None, "forced_eos_token_id": None}
    return hf.BartForConditionalGeneration(
        hf.BartConfig(
            vocab_size=40,
            d_model=WIDTH,
            encoder_layers=4,
            decoder_layers=4,
            **heads,
            **widths,
            **tokens,
        )
    )


def _gpt2() -> nn.Module:
    sizes = {"vocab_size": 40, "n_embd": WIDTH, "n_layer": 4, "n_head": 2, "n_positions": 64}
    return hf.GPT2LMHeadModel(hf.GPT2Config(**sizes, bos_token_id=1, eos_token_id=None))


def _opt() -> nn.Module:
    config = _text(ffn_dim=24, word_embed_proj_dim=WIDTH)
    return hf.OPTForCausalLM(hf.OPTConfig(**config))


def _causal(name: str, config: str | None = None, **extra: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        settings = getattr(hf, config or f"{name}Config")(**_text(**extra))
        return getattr(hf, f"{name}ForCausalLM")(settings)

    return build


def _encoder(name: str, head: str, **extra: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        return getattr(hf, f"{name}{head}")(getattr(hf, f"{name}Config")(**extra))

    return build


class Residual(nn.Module):
    """h + tanh(W h)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, h: Tensor) -> Tensor:
        return h + torch.tanh(self.linear(h))


class Tower(nn.Module):
    """A stem, a ModuleList, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(5, WIDTH)
        self.layers = nn.ModuleList([Residual() for _ in range(4)])
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        for layer in self.layers:
            h = layer(h)
        return self.head(h)


def _sequential() -> nn.Module:
    return nn.Sequential(nn.Linear(5, WIDTH), *(Residual() for _ in range(4)), nn.Linear(WIDTH, 2))


SLIDING_QWEN = {**SLIDING, "use_sliding_window": True}
FAMILIES: dict[str, Family] = {
    "llama": Family(_causal("Llama", **GROUPED), "text", generates=True),
    "qwen2": Family(_causal("Qwen2", num_key_value_heads=1), "text", generates=True),
    "qwen3": Family(_causal("Qwen3", **GROUPED, **SLIDING_QWEN), "text", generates=True),
    "mistral": Family(_causal("Mistral", sliding_window=3, **GROUPED), "text", generates=True),
    "gemma": Family(_causal("Gemma", **GROUPED), "text", generates=True),
    "gemma2": Family(_causal("Gemma2", **GROUPED, **SLIDING), "text", generates=True),
    "gemma3-text": Family(
        _causal("Gemma3", "Gemma3TextConfig", **GROUPED, **SLIDING), "text", generates=True
    ),
    "gemma3": Family(_gemma3, "text", generates=True),
    "olmo2": Family(_causal("Olmo2"), "text", generates=True),
    "gpt2": Family(_gpt2, "text", generates=True),
    "gpt-neox": Family(_causal("GPTNeoX"), "text", generates=True),
    "opt": Family(_opt, "text", generates=True),
    "phi": Family(_causal("Phi"), "text", generates=True),
    "bert": Family(_encoder("Bert", "ForMaskedLM", **_text()), "text", additive=False),
    "roberta": Family(
        _encoder("Roberta", "ForSequenceClassification", **_text()), "text", additive=False
    ),
    "vit": Family(_encoder("ViT", "ForImageClassification", **_vision()), "image"),
    "deit": Family(_encoder("DeiT", "ForImageClassification", **_vision()), "image"),
    "dinov2": Family(
        _encoder(
            "Dinov2",
            "ForImageClassification",
            **_vision(mlp_ratio=2, layerscale_value=0.1, drop_path_rate=0.1),
        ),
        "image",
    ),
    "t5-encoder": Family(_t5, "pair", side="encoder", generates=True),
    "t5-decoder": Family(_t5, "pair", side="decoder", generates=True),
    "bart-encoder": Family(_bart, "pair", side="encoder", generates=True, additive=False),
    "bart-decoder": Family(_bart, "pair", side="decoder", generates=True, additive=False),
    "module-list": Family(Tower, "rows", additive=False),
    "sequential": Family(_sequential, "rows", additive=False),
}


def build(name: str) -> nn.Module:
    """The model of a family in evaluation mode, the same weights each time.

    Weights are larger than the usual ones, so that every block matters to the outcome.
    """
    torch.manual_seed(SEED)
    model = FAMILIES[name].build().eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
            elif "norm" in key.lower() or "ln_" in key:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def batch(name: str, length: int = 6) -> dict[str, Tensor]:
    """Two inputs for the model of a family, as keyword arguments."""
    torch.manual_seed(SEED)
    kind = FAMILIES[name].kind
    if kind == "image":
        return {"pixel_values": torch.randn(2, 3, 8, 8)}
    if kind == "rows":
        return {}
    tokens = torch.randint(3, 40, (2, length))
    if kind == "pair":
        return {"input_ids": tokens, "decoder_input_ids": torch.randint(3, 40, (2, 5))}
    return {"input_ids": tokens}


def run(model: nn.Module, name: str) -> Tensor:
    """The model's outcome on the family's batch: logits, or the tensor that it returns."""
    inputs = batch(name)
    if not inputs:
        torch.manual_seed(SEED)
        return model(torch.randn(3, 5))
    return model(**inputs).logits
