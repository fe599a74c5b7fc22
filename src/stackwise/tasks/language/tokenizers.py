"""The tokenizer of a corpus: one that is named, or byte pairs learned from the training text."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from stackwise.errors import DataError, ModelError
from stackwise.optional import needs

END = "<|endoftext|>"
SEEN = 20_000
"""Documents, or pieces of long ones, that a tokenizer is learned from."""
PIECE = 10_000
"""Characters of a piece."""


def named_tokenizer(reference: str | Path) -> Any:
    """The tokenizer of a model folder, a packaged model or a hub id.

    Raises:
        ModelError: there is none.
    """
    needs("transformers", "a tokenizer")
    from transformers import AutoTokenizer

    from stackwise import data

    source = str(reference)
    if source in {entry.name for entry in data.names("model")}:
        source = str(data.model(source))
    elif (Path(source) / "model" / "tokenizer_config.json").is_file():
        source = str(Path(source) / "model")  # a run
    try:
        return AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"there is no tokenizer at {reference}; give a model folder, a packaged model's name "
            "or a hub id"
        ) from error


def learned_tokenizer(documents: Iterable[str], vocabulary: int) -> Any:
    """A byte-level byte-pair tokenizer of `vocabulary` tokens, learned from documents.

    256 of the tokens are the bytes and one ends a text, so every text can be written with it.
    """
    needs("tokenizers", "a tokenizer")
    needs("transformers", "a tokenizer")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    fewest = 257
    if vocabulary < fewest:
        raise DataError(f"vocabulary={vocabulary} is too few tokens; give at least {fewest}")
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END], initial_alphabet=sorted(alphabet),
        show_progress=False,
    )  # fmt: skip
    pieces = (
        text[start : start + PIECE] for text in documents for start in range(0, len(text), PIECE)
    )
    made.train_from_iterator(islice(pieces, SEEN), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END, bos_token=END)
