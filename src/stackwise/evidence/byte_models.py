"""Small language models of bytes, trained on real text in seconds: their training is known.

The text is that of patients' reviews of drugs; the last tenth of it is kept out of training.
"""

import functools
import html
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stackwise import data


class Bytes:
    """The tokenizer of the small models: UTF-8 bytes."""

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": list(text.encode())}

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these bytes."""
        return bytes(ids).decode(errors="replace")


@functools.cache
def text() -> str:
    """Drug reviews, in their own order."""
    return html.unescape(data.text("drug-reviews"))


def device() -> str:
    """The accelerator where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def byte_model(
    depth: int,
    seed: int,
    steps: int,
    width: int = 64,
    through: Callable[[Any], Any] = lambda rule: rule,
) -> nn.Module:
    """A Llama of bytes, trained on the first nine tenths of the reviews.

    Args:
        through: the rule of ordinary training -> the one that is used.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    from stackwise.training.batches import ArrayBatches
    from stackwise.training.loop import train
    from stackwise.training.rules import Backprop

    torch.manual_seed(seed)
    model: nn.Module = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=256, hidden_size=width, intermediate_size=3 * width,
            num_hidden_layers=depth, num_attention_heads=4, bos_token_id=None, eos_token_id=None,
        )
    )  # fmt: skip
    if steps:
        read = torch.tensor(list(text().encode()))
        starts = torch.randint(len(read) * 9 // 10 - 64, (steps * 32,))
        windows = torch.stack([read[start : start + 64] for start in starts.tolist()])
        batches = ArrayBatches({"input_ids": windows}, 32, seed=seed)

        def loss(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
            ids = batch["input_ids"]
            found: Tensor = network(input_ids=ids, labels=ids, use_cache=False).loss
            return found

        rule = through(Backprop(loss, lr=3e-3, weight_decay=0.01, schedule="cosine", warmup=0.1))
        train(model, rule, batches, max_epochs=1, seed=seed, precision="float32", device=device())
    return model.to(device()).eval()


def held_out_windows(count: int, length: int = 64) -> list[Tensor]:
    """The first windows (1, length) of the text that no byte model is trained on."""
    read = torch.tensor(list(text().encode()))
    rest = read[len(read) * 9 // 10 :]
    return list(rest[: len(rest) // length * length].view(-1, 1, length))[:count]
