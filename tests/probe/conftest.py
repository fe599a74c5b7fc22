"""Tiny models with random weights, and a tokenizer of words."""

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)

SIZE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
}  # fmt: skip
TEXT = {"vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
DEPTH, TOKENS = 4, 24


def spread(model: nn.Module, scale: float = 4.0) -> nn.Module:
    """Larger random weights, so that blocks have effects far above rounding."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(scale)
    return model.eval()


def language_model(family: str = "llama", depth: int = DEPTH, seed: int = 0) -> nn.Module:
    """A causal language model of 50 tokens, 32 wide."""
    torch.manual_seed(seed)
    size = SIZE | {"num_hidden_layers": depth}
    if family == "gpt2":
        config = GPT2Config(n_embd=32, n_layer=depth, n_head=4, n_positions=64, **TEXT)
        return spread(GPT2LMHeadModel(config))
    if family == "gpt-neox":
        return spread(GPTNeoXForCausalLM(GPTNeoXConfig(use_parallel_residual=True, **size, **TEXT)))
    if family == "gemma2":
        config = Gemma2Config(num_key_value_heads=2, head_dim=8, sliding_window=8, **size, **TEXT)
        return spread(Gemma2ForCausalLM(config))
    return spread(LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, **size, **TEXT)))


def encoder() -> nn.Module:
    """A post-norm BERT."""
    torch.manual_seed(0)
    return spread(BertForMaskedLM(BertConfig(**SIZE, vocab_size=50)))


def vision_transformer() -> nn.Module:
    """A ViT classifier of 12 classes on 16 x 16 pictures: 17 tokens."""
    torch.manual_seed(0)
    config = ViTConfig(image_size=16, patch_size=4, num_labels=12, **SIZE)
    return spread(ViTForImageClassification(config))


class ResidualBlock(nn.Module):
    """h + W2 relu(W1 h) on the last axis: each token by itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, stream: Tensor) -> Tensor:
        return stream + self.second(self.first(stream).relu())


def residual_network(width: int = 8, depth: int = 3, classes: int = 3) -> nn.Module:
    """A stem, residual blocks and a classifier on rows of 5 numbers."""
    torch.manual_seed(0)
    blocks = [ResidualBlock(width) for _ in range(depth)]
    return nn.Sequential(nn.Linear(5, width), *blocks, nn.Linear(width, classes)).eval()


def ids(count: int = 1, tokens: int = TOKENS, seed: int = 1) -> list[Tensor]:
    """Random token ids, (1, tokens) each."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, 50, (1, tokens), generator=generator) for _ in range(count)]


@pytest.fixture
def llama() -> nn.Module:
    return language_model()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A saved Llama with a tokenizer of 50 words, w0 to w49."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(50)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    language_model().save_pretrained(folder)
    return str(folder)
