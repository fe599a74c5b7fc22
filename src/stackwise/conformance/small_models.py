"""Small models of each kind that transforms and probes take, each with data for it."""

import atexit
import copy
import functools
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
)

from stackwise.adapt import Delta
from stackwise.catalog import Card, Entry, cards, preset_values, tasks
from stackwise.learning.network import NetworkLearner
from stackwise.models import open_model, save_model
from stackwise.tasks import task_class


@functools.cache
def small_task(name: str, problem: str | None = None) -> Any:
    """A tiny instance of the task `name`."""
    cls = task_class(name)
    return cls.small() if problem is None else cls.small(problem)


END = "<|endoftext|>"


def _bytes_as_tokens() -> Any:
    """A tokenizer with a token for each byte, and one that ends a text."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(BPE(vocab={END: 0} | {c: i for i, c in enumerate(alphabet, 1)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


@functools.cache
def small_language_model() -> str:
    """A folder with a small decoder of random weights and its tokenizer, for as long as we run."""
    folder = tempfile.mkdtemp(prefix="stackwise-model-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_bytes_as_tokens(), eos_token=END, pad_token=END
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=48, num_hidden_layers=4,
        num_attention_heads=2, max_position_embeddings=256, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    save_model(_seeded(lambda: LlamaForCausalLM(config)), Path(folder))
    tokenizer.save_pretrained(folder)
    return folder


TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def half_language_model(folder: Path) -> Path:
    """A folder with the small decoder in bfloat16, a chat template, and how it generates."""
    import transformers

    model = open_model(small_language_model()).bfloat16()
    model.generation_config.max_new_tokens = 7
    save_model(model, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(small_language_model())
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def left_out(source: Path, made: Path) -> list[str]:
    """What a model folder that was made of another has lost of it."""
    import transformers

    both = [open_model(folder, dtype="auto") for folder in (source, made)]
    readers = [transformers.AutoTokenizer.from_pretrained(folder) for folder in (source, made)]
    kept = {
        "the number type": [model.dtype for model in both],
        "how the model generates": [model.generation_config.max_new_tokens for model in both],
        "the chat template": [reader.chat_template for reader in readers],
        "the tokens": [reader.get_vocab() for reader in readers],
        "what ends a text": [reader.eos_token for reader in readers],
    }
    return [name for name, (before, after) in kept.items() if before != after]


def quick_knobs(of: Card, entry: Entry) -> dict[str, Any]:
    """The preset `quick`, with a budget of two and one thread where the method has such knobs, and
    a small model where a learner begins with one.
    """
    less: dict[str, Any] = {"threads": 1, "random_state": 0}
    if entry.budget is not None:
        less[entry.budget] = 2
    if entry.kind == "learner":
        less |= {
            name: small_language_model() for name, spec in entry.knobs.items()
            if "model" in spec.types and spec.required
        }  # fmt: skip
    given = preset_values(of, "quick", entry)
    return given | {name: value for name, value in less.items() if name in entry.knobs}


def others_for(entry: Entry, model: Any) -> dict[str, Any]:
    """Two further models for each knob that needs several: of a folder itself, else copies with
    other numbers.
    """
    needed = [
        name for name, spec in entry.knobs.items() if spec.required and "models" in spec.types
    ]
    if isinstance(model, Path):
        return {name: [str(model), str(model)] for name in needed}
    return {name: [_moved(model, seed) for seed in (1, 2)] for name in needed}


def _moved(model: Any, seed: int) -> Any:
    made = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in getattr(made, "network_", made).parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    return made


def fitted(of: Card, entry: Entry, task: str) -> Any:
    """A learner, fitted on the small instance of a task."""
    problem = entry.problem
    return small_task(task, problem).fit(entry.load()(**quick_knobs(of, entry)))


def small_learners(
    names: Sequence[str] = (), *, every: bool = False
) -> Iterator[tuple[str, Any, Any]]:
    """For each task named, or all, the first baseline that trains a network, or `every` such one: a
    name, the learner, the task.
    """
    for name in names or tasks():
        for of in cards().values():
            entry = next((e for e in of.entries if e.kind == "learner"), None)
            if of.verb != "baseline" or entry is None or name not in entry.tasks:
                continue
            if issubclass(entry.load(), NetworkLearner):
                made = fitted(of, entry, name)
                yield f"a fitted {entry.name}", made, small_task(name, entry.problem)
                if not every:
                    break


def models_of(kind: str, entry: Entry) -> Iterator[tuple[str, Any, Any]]:
    """Small models of a kind, each with data that suits it and the entry: (name, model, data)."""
    if kind == "learner":
        yield from small_learners(entry.tasks, every=bool(entry.having))
        return
    if kind == "decoder":
        for name in entry.tasks:
            yield f"a decoder and {name}", open_model(small_language_model()), small_task(name)
        if not entry.tasks:
            yield "a decoder", *_decoder()
    elif kind == "encoder":
        yield "an encoder", *_encoder()
    elif kind == "vision":
        yield "a vision model", *_vision()
    elif kind == "module":
        for cls in (WithLoss, *((RecurrentWithLoss,) if entry.having else ())):
            yield f"a {cls.__name__}", *_module(cls)


def _seeded(make: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def _decoder() -> tuple[nn.Module, list[dict[str, Any]]]:
    ids = _seeded(lambda: [torch.randint(0, 64, (2, 24)) for _ in range(16)])
    batches = [{"input_ids": one, "labels": one} for one in ids]
    return open_model(small_language_model()), batches


def _encoder() -> tuple[nn.Module, list[dict[str, Any]]]:
    def make() -> Any:
        config = BertConfig(
            vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=32,
        )  # fmt: skip
        config.num_labels = 3
        model = BertForSequenceClassification(config).eval()
        return model, [
            {"input_ids": torch.randint(0, 64, (2, 12)), "labels": torch.randint(0, 3, (2,))}
            for _ in range(16)
        ]

    return tuple(_seeded(make))  # type: ignore[return-value]


def _vision() -> tuple[nn.Module, list[dict[str, Any]]]:
    def make() -> Any:
        config = ViTConfig(
            image_size=16, patch_size=8, hidden_size=16, intermediate_size=32,
            num_hidden_layers=4, num_attention_heads=2,
        )  # fmt: skip
        config.num_labels = 3
        model = ViTForImageClassification(config).eval()
        return model, [
            {"pixel_values": torch.randn(2, 3, 16, 16), "labels": torch.randint(0, 3, (2,))}
            for _ in range(16)
        ]

    return tuple(_seeded(make))  # type: ignore[return-value]


class WithLoss(nn.Module):
    """A small stack that returns its loss, as models of transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(3)
        )  # fmt: skip
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> Any:
        """(B, 8) and (B,) class numbers -> an object with `loss`."""
        for block in self.blocks:
            x = x + block(x)
        output = torch.nn.functional.cross_entropy(self.head(x), labels)
        return _Output(output)


class RecurrentWithLoss(WithLoss):
    """The same behind a recurrent layer, which reads the eight numbers one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = nn.GRU(1, 8, batch_first=True)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> Any:
        """(B, 8) and (B,) class numbers -> an object with `loss`."""
        states, _ = self.reads(x[..., None])
        return super().forward(states[:, -1], labels)


class _Output:
    def __init__(self, loss: torch.Tensor) -> None:
        self.loss = loss


def _module(cls: type[nn.Module]) -> tuple[nn.Module, list[dict[str, Any]]]:
    def make() -> Any:
        return cls().eval(), [
            {"x": torch.randn(4, 8), "labels": torch.randint(0, 3, (4,))} for _ in range(16)
        ]

    return tuple(_seeded(make))  # type: ignore[return-value]


def kind_of(result: Any) -> str:
    """The kind of what a transform gave."""
    if isinstance(result, Delta):
        return "delta"
    if not isinstance(result, nn.Module):
        return "learner"
    if getattr(result, "can_generate", lambda: False)():
        return "decoder"
    if "pixel_values" in str(getattr(result, "main_input_name", "")):
        return "vision"
    return "encoder" if hasattr(result, "config") else "module"


def data_after(kind: str, data: Any, entry: Entry) -> Any:
    """Data for the next method on what came of a model: its own task, or batches that suit it."""
    if kind == "decoder":
        return small_task(entry.tasks[0]) if entry.tasks else _decoder()[1]
    return data
