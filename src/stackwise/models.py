"""Open a model from whatever the user names: an object, a run, a model folder, a name, a hub id."""

import contextlib
import importlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stackwise.errors import ModelError, RunError

JOINED = {
    "Bagged": "stackwise.tasks.table.bagged:Bagged",
    "Stacked": "stackwise.tasks.table.stacked:Stacked",
}
"""Learners that are made of other learners; they are no methods of the catalog."""


def open_model(reference: Any, *, trust_remote_code: bool = False) -> Any:
    """Return the model that `reference` names.

    Args:
        reference: an `nn.Module` or fitted learner (returned as it is), a run folder, a folder
            that `save_pretrained` wrote, the name of a packaged model (`stackwise data`), or a
            hub id.
        trust_remote_code: let a model folder bring its own code; never the default.

    Raises:
        ModelError: nothing of the kind is there; the sentence says what was looked for.
    """
    if not isinstance(reference, (str, Path)):
        return reference
    folder = Path(reference)
    if (folder / "run.json").is_file():
        from stackwise.runs import load

        return load(folder)
    if (folder / "config.json").is_file():
        return _pretrained(str(folder), trust_remote_code)
    if folder.exists():
        raise ModelError(
            f"{folder} holds neither a stackwise run (run.json) nor a model folder (config.json)"
        )
    from stackwise import data

    if str(reference) in {entry.name for entry in data.names("model")}:
        return _pretrained(str(data.model(str(reference))), trust_remote_code)
    return _from_hub(str(reference), trust_remote_code)


def model_folder(reference: Any) -> Path | None:
    """The folder in which the files of the model that is named lie; None where there is none yet.

    That of a run is its folder `model`, which holds one where the run made a language model.
    """
    from stackwise import data

    if not isinstance(reference, (str, Path)):
        return None
    folder = Path(reference)
    if (folder / "run.json").is_file():
        folder = folder / "model"
    elif not folder.exists() and str(reference) in {entry.name for entry in data.names("model")}:
        folder = Path(data.model(str(reference)))
    return folder if (folder / "config.json").is_file() else None


def _from_hub(name: str, trust_remote_code: bool) -> Any:
    nothing = ModelError(
        f"there is no model {name!r}: it is no folder here and no packaged model; give a run, a "
        "folder that save_pretrained wrote, a name of 'stackwise data', or a hub id (owner/name)"
    )
    owner, slash, rest = name.partition("/")
    if not (slash and owner and rest) or "/" in rest or owner in (".", ".."):
        raise nothing  # a hub id has one owner; nothing else is worth asking a network for
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)  # its retries would stand above our one sentence
    try:
        return _pretrained(name, trust_remote_code)
    except (OSError, ValueError) as error:
        raise nothing from error
    finally:
        log.setLevel(level)


def config_of(source: Path | str, trust_remote_code: bool = False) -> Any:
    """The config of a model folder or a hub id."""
    import transformers

    return transformers.AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)


def builder_of(config: Any) -> Any:
    """The class of transformers that a config names, or `AutoModel` where it knows none."""
    import transformers

    named = [getattr(transformers, name, None) for name in config.architectures or ()]
    return next((cls for cls in named if cls is not None), transformers.AutoModel)


def _pretrained(source: str, trust_remote_code: bool) -> Any:
    import torch
    import transformers

    config = config_of(source, trust_remote_code)
    builder = builder_of(config)
    more = {"trust_remote_code": trust_remote_code} if builder is transformers.AutoModel else {}
    with without_bars():
        # safetensors alone: a pickled weights file could run code
        model = builder.from_pretrained(source, dtype=torch.float32, use_safetensors=True, **more)
    return model.eval()


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Keep transformers' progress bars out of our own lines."""
    from transformers.utils import logging as bars

    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def save_model(model: Any, folder: Path) -> None:
    """Write a fitted learner or a pretrained model into `folder`, as `open_model` reads it.

    Raises:
        ModelError: a bare module that has neither `save` nor `save_pretrained`.
    """
    if hasattr(model, "save_pretrained"):
        with without_bars():
            model.save_pretrained(folder, safe_serialization=True)
    elif hasattr(model, "save"):
        model.save(folder)
    else:
        raise ModelError(
            f"a {type(model).__name__} cannot be kept by itself: give a fitted learner or a model "
            "with save_pretrained"
        )


def load_learner(folder: Path) -> Any:
    """Read a fitted learner back. Its class is looked up in the catalog, never in the file."""
    from stackwise.catalog import cards
    from stackwise.files import read_json

    record = read_json(folder / "model.json")
    name = record.get("class") if isinstance(record, dict) else None
    if name in JOINED:
        module, _, found = JOINED[name].partition(":")
        return getattr(importlib.import_module(module), found).load(folder)
    for of in cards().values():
        for entry in of.entries:
            if entry.kind == "learner" and entry.name == name:
                return entry.load().load(folder)
    raise RunError(
        f"{folder / 'model.json'} names the learner {json.dumps(name)}, which this installation "
        "does not have"
    )
