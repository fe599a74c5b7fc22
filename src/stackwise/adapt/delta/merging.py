"""Put deltas on a model for good, and write it as a plain model folder."""

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stackwise.adapt.delta.contract import Delta
from stackwise.adapt.delta.folders import delta_folder
from stackwise.adapt.delta.hashes import module_of
from stackwise.adapt.delta.standing import deltas_on, weights_first
from stackwise.errors import ModelError
from stackwise.files import check_empty, whole_folder
from stackwise.models import open_model, save_model
from stackwise.optional import needs

TOKENIZER = ("token*", "vocab*", "merges.txt", "special_tokens*", "chat_template*", "*.model",
             "added_tokens.json", "preprocessor_config.json", "processor_config.json")  # fmt: skip
"""Files that say how a model reads its inputs."""


def merge_delta(
    model: Any, deltas: Sequence[Delta | Path | str], out: Path | str, *, check: bool = True
) -> Path:
    """Write `model` with all `deltas` on to the folder `out`, which plain transformers loads.

    The numbers are those of the model with the deltas put on, in the type that the base has (on
    disk, where a folder is named). The tokenizer is the last delta's that has one beside it, else
    the base's. The given model is left as it was.

    Args:
        model: a module with `save_pretrained`, a learner that holds one, or what names it.
        deltas: themselves, or folders or runs that hold them.
        check: compare the hash of the base.

    Raises:
        ModelError: `out` is not empty, a delta is for another base, or one cannot be merged.
    """
    out = Path(out)
    check_empty(out)
    found = [one if isinstance(one, Delta) else Delta.load(delta_folder(one)) for one in deltas]
    opened = open_model(model, dtype="auto")
    module: Any = module_of(opened)
    for delta in found:
        module = delta.prepared(module)
    standing = [delta for delta in deltas_on(module) if not delta.in_weights]
    for delta in (*deltas_on(module), *found):
        delta.check_mergeable()
    if not hasattr(module, "save_pretrained"):
        raise ModelError(
            f"a {type(module).__name__} has no save_pretrained, so that it makes no model folder: "
            "merge it in Python by delta.merge(model)"
        )
    with whole_folder(out) as beside:
        with contextlib.ExitStack() as on:
            for delta in standing:  # what is saved are weights
                delta.take_off(module)
                on.callback(delta.put, module, check=False)
            for delta in weights_first([*standing, *found]):
                on.enter_context(delta.merged(module, check=check and delta in found))
            save_model(module, beside)
        _lay_tokenizer(opened, [delta.folder for delta in found], beside)
    return out


def _lay_tokenizer(model: Any, folders: Sequence[Path | None], out: Path) -> None:
    """What reads inputs goes along: of the last delta that has a tokenizer, else of the model."""
    for folder in reversed(folders):
        if folder is not None and (folder / "tokenizer_config.json").is_file():
            _copy(folder, out)
            return
    if hasattr(model, "tokenizer_"):
        model.tokenizer_.save_pretrained(out)
        return
    place = str(getattr(model, "name_or_path", "") or "")
    if Path(place).is_dir():
        _copy(Path(place), out)
    elif place:
        needs("transformers", "a language model")
        from transformers import AutoTokenizer

        with contextlib.suppress(OSError, ValueError):  # of a hub's model without one
            AutoTokenizer.from_pretrained(place).save_pretrained(out)


def _copy(folder: Path, out: Path) -> None:
    for pattern in TOKENIZER:
        for path in folder.glob(pattern):
            if path.is_file() and path.suffix not in (".safetensors", ".bin"):
                shutil.copyfile(path, out / path.name)
