"""Turn what the user has into examples that one call of the model takes.

Text becomes one example a prompt, without padding, so that every measured token is a real one.
Batches of token ids are cut into their rows for the same reason; batches of anything else
(pixels, rows of a table) stay as they are.
"""

import random
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.errors import DataError, ModelError
from stackwise.probe.depth_efficiency.clean_run import Example
from stackwise.tasks.language.encoding import plain_text
from stackwise.tasks.language.reading import tokenizer_of
from stackwise.tasks.language.records import is_records
from stackwise.tasks.language.writing import read_prompts


def opened(model: Any, tokenizer: Any = None) -> tuple[nn.Module, Any]:
    """The module that `model` names, and its tokenizer where it has one.

    A folder that `save_pretrained` wrote is loaded in float32. A model that was loaded from a
    folder finds the tokenizer there.
    """
    from stackwise.models import open_model

    model = open_model(model)
    network = getattr(model, "network_", model)
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"a {type(model).__name__} is no network; give a torch module, a fitted learner or a "
            "model folder"
        )
    if tokenizer is None:
        tokenizer = tokenizer_of(network)
    return network, tokenizer


def default_prompts(count: int, seed: int) -> list[str]:
    """English prose that comes with Python: sections of its language reference."""
    from pydoc_data.topics import topics

    texts = sorted(text for text in topics.values() if len(text) > 1500)
    return [text[:4000] for text in random.Random(seed).sample(texts, min(count, len(texts)))]


def examples_of(
    model: nn.Module,
    data: Any,
    tokenizer: Any = None,
    *,
    prompts: int | None = None,
    max_tokens: int | None = None,
) -> list[Example]:
    """The first `prompts` examples of `data`, text cut to `max_tokens` tokens.

    Args:
        data: a text file, a string, strings, token ids, or batches: dicts of the model's
            arguments, tuples whose first item is the input, or tensors.

    Raises:
        DataError: nothing there, text without a tokenizer, or an example with no token.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    found: list[Example] = []
    for item in _items(data):
        for example in _split(item, model, tokenizer, max_tokens):
            if prompts is not None and len(found) >= prompts:
                return found
            found.append(_on(example, device))
    if not found:
        raise DataError("the data holds no prompt and no batch")
    return found


def answered(prompt: Any, answer: Any, tokenizer: Any) -> tuple[Tensor, int]:
    """Token ids (1, T) of prompt + answer, and the place of the first answer token.

    Raises:
        DataError: one of them has no token, or is text and there is no tokenizer.
    """
    if isinstance(prompt, str) and isinstance(answer, str):
        first = _encoded(prompt, tokenizer)
        rest = _needed(tokenizer)(answer, add_special_tokens=False)["input_ids"]
    else:
        first, rest = list(prompt), list(answer)
    if not first or not rest:
        raise DataError("the prompt and the answer need at least one token each")
    return torch.tensor([[*first, *rest]]), len(first)


def learner_examples(learner: Any, data: Any, rows: int = 256) -> list[Example]:
    """The network's arguments for the first rows of a table, through the learner's own features.

    Args:
        data: a table, (X, y), or a task, of which the validation part is read.
    """
    if hasattr(data, "part"):
        data = data.part("validation")
    frame = data[0] if isinstance(data, tuple) else data
    arrays = learner.contract_.transform(frame[:rows])
    return [(torch.as_tensor(arrays.numeric), torch.as_tensor(arrays.categorical))]


def _items(data: Any) -> Iterable[Any]:
    if isinstance(data, Path):
        return read_passages(data)
    if isinstance(data, str):
        # a string with a line break, or one that names no file, is a prompt itself
        looks_like_path = "\n" not in data and len(data) < 1000
        path = Path(data) if looks_like_path else None
        if path is not None and (path.exists() or (path.suffix and " " not in data)):
            return read_passages(path)
        return [data]
    if isinstance(data, Mapping | Tensor) or hasattr(data, "shape"):
        return [data]
    if isinstance(data, tuple) and data and isinstance(data[0], Tensor):
        return [data]
    if not isinstance(data, Iterable):
        raise DataError(
            f"data is {type(data).__name__}; give a text file, a list of prompts or batches"
        )
    listed = list(data) if isinstance(data, list | tuple) else data
    if isinstance(listed, list) and listed and all(isinstance(item, int) for item in listed):
        return [listed]
    return listed


def _split(
    item: Any, model: nn.Module, tokenizer: Any, max_tokens: int | None
) -> Iterable[Example]:
    if isinstance(item, str):
        encoded = _encoded(item, tokenizer)[:max_tokens]
        if not encoded:
            raise DataError(f"the prompt {item[:40]!r} has no token")
        return _rows({"input_ids": torch.tensor([encoded])}, model, None)
    if isinstance(item, Mapping) or hasattr(item, "keys"):
        batch = {str(name): item[name] for name in item.keys()}  # noqa: SIM118
        return _rows(batch, model, max_tokens) if "input_ids" in batch else [batch]
    if isinstance(item, tuple):
        return [item[:1]]
    ids = torch.as_tensor(item)
    if not ids.is_floating_point() and hasattr(model, "get_input_embeddings"):
        return _rows({"input_ids": ids if ids.dim() == 2 else ids[None]}, model, max_tokens)
    return [(ids,)]


def _rows(batch: dict[str, Any], model: nn.Module, max_tokens: int | None) -> Iterable[Example]:
    """Each row of a batch of token ids by itself, without its padding.

    An encoder-decoder reads the same text on both sides where the batch does not say otherwise.
    """
    ids = torch.as_tensor(batch["input_ids"])
    ids = ids if ids.dim() == 2 else ids[None]
    mask = batch.get("attention_mask")
    real = torch.ones_like(ids) if mask is None else torch.as_tensor(mask).reshape(ids.shape)
    others = {
        name: value
        for name, value in batch.items()
        if name not in ("input_ids", "attention_mask", "labels") and isinstance(value, Tensor)
    }
    for row in range(ids.shape[0]):
        kept = real[row].bool().nonzero().flatten()[:max_tokens]
        if not len(kept):
            raise DataError(f"row {row} of a batch of token ids is all padding")
        example = {"input_ids": ids[row : row + 1, kept]}
        for name, value in others.items():
            along = value.dim() == 2 and value.shape == ids.shape
            example[name] = value[row : row + 1, kept] if along else value[row : row + 1]
        config = getattr(model, "config", None)
        if getattr(config, "is_encoder_decoder", False):
            example.setdefault("decoder_input_ids", example["input_ids"])
        yield example


def _encoded(text: str, tokenizer: Any) -> list[int]:
    return list(_needed(tokenizer)(text)["input_ids"])


def _needed(tokenizer: Any) -> Any:
    if tokenizer is None:
        raise DataError(
            "prompts are text and the model has no tokenizer; give tokenizer=, a folder that "
            "holds one, or token ids"
        )
    return tokenizer


def _on(example: Example, device: torch.device) -> Example:
    if isinstance(example, Mapping):
        return {
            name: value.to(device) if isinstance(value, Tensor) else value
            for name, value in example.items()
        }
    return tuple(value.to(device) if isinstance(value, Tensor) else value for value in example)


def read_passages(path: Path) -> list[str]:
    """The passages of a text file: its paragraphs where blank lines part them, else its lines. Of a
    file of records (.jsonl, .csv, .parquet, ...) the fields `prompt` or `text`.

    Raises:
        DataError: no such file, no text, or nothing in it.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file; give a text file, one passage on each line")
    if is_records(path):
        parts = read_prompts(path)
    else:
        text = plain_text(path).strip()
        parts = re.split(r"\n\s*\n", text) if re.search(r"\n\s*\n", text) else text.split("\n")
    passages = [part.strip() for part in parts if part.strip()]
    if not passages:
        raise DataError(f"{path} holds no text; write a passage on each line")
    return passages
