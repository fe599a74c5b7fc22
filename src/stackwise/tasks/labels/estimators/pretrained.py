"""A pretrained encoder or decoder, opened beside its tokenizer."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackwise.errors import ModelError, RunError
from stackwise.models import open_model, save_model
from stackwise.optional import needs
from stackwise.seals import tensors_hash
from stackwise.tasks.language.reading import context_of, tokenizer_for


@dataclass(frozen=True)
class Opened:
    """A model of transformers and what reads texts for it."""

    model: Any
    tokenizer: Any

    def most(self, length: int) -> int:
        """Tokens of a text that are read: `length`, or as many as the model takes."""
        known = (length, context_of(self.model), self.tokenizer.model_max_length)
        return min(int(one) for one in known if one is not None)


def opened(reference: Any, *, fetch: bool = True) -> Opened:
    """The model that is named: a folder, a run, a packaged model, a hub id or an object.

    Args:
        fetch: ask the hub for one that is not here.

    Raises:
        ModelError: it is no encoder or decoder of transformers. DataError: it has no tokenizer.
    """
    found = open_model(reference, fetch=fetch)
    model = getattr(found, "model_", None) or getattr(found, "network_", found)
    if not hasattr(model, "config") or not hasattr(model, "base_model"):
        raise ModelError(
            f"{reference if isinstance(reference, str) else type(model).__name__} is no encoder or "
            "decoder of transformers; give a folder that save_pretrained wrote, a packaged model "
            "or a hub id"
        )
    return Opened(model, tokenizer_for(model, found, "texts"))


def keep_frozen(found: Opened, reference: Any, folder: Path) -> dict[str, Any]:
    """Keep a model that was not trained beside what was learned on it: its name and the hash of its
    weights; of an object, all of it.
    """
    kept: dict[str, Any] = {"hash": tensors_hash(found.model.state_dict())}
    if isinstance(reference, (str, Path)):
        return kept | {"model": str(reference)}
    save_model(found.model, folder / "base")
    found.tokenizer.save_pretrained(folder / "base")
    return kept


def frozen_in(folder: Path, kept: Mapping[str, Any]) -> Opened:
    """The inverse of `keep_frozen`.

    Raises:
        RunError: what the name names has other weights now.
    """
    if "model" in kept:
        found = opened(kept["model"], fetch=False)
    else:
        found = Opened(open_model(folder / "base"), kept_tokenizer(folder / "base"))
    if tensors_hash(found.model.state_dict()) != kept["hash"]:
        place = kept.get("model", folder / "base")
        raise RunError(
            f"the encoder {place} has other weights than the one that {folder} was fitted with; "
            "give that one back its place"
        )
    return found


def kept_tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder."""
    needs("transformers", "a tokenizer")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)
