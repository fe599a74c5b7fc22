"""Open a model from whatever the user names: an object, a run, a model folder, a name, a hub id."""

import contextlib
import json
import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from stackwise.catalog import cards
from stackwise.errors import ModelError, RunError
from stackwise.files import believing, read_json, write_json
from stackwise.optional import needs
from stackwise.seals import check_kept_model

FITTED = "fitted"
"""The status of a run whose learner is kept and was not judged: it may be used."""


def open_model(
    reference: Any,
    *,
    trust_remote_code: bool = False,
    dtype: Literal["float32", "auto"] = "float32",
    fetch: bool = True,
) -> Any:
    """Return the model that `reference` names.

    Args:
        reference: an `nn.Module` or fitted learner (returned as it is), a run folder, a folder
            that `save_pretrained` wrote, the name of a packaged model (`stackwise data`), or a
            hub id.
        trust_remote_code: let a model folder bring its own code; never the default.
        dtype: what a model folder's weights become; `auto` is what they are stored in.
        fetch: ask the hub for a model that is not here; not where a file names it and no person.

    Raises:
        ModelError: nothing of the kind is there; the sentence says what was looked for.
    """
    if not isinstance(reference, (str, Path)):
        return reference
    folder = Path(reference)
    if (folder / "run.json").is_file():
        return model_of_run(folder)
    if (folder / "model.json").is_file():
        return load_learner(folder)
    if (folder / "config.json").is_file():
        check_kept_model(folder)
        with believing(folder):
            return _pretrained(str(folder), trust_remote_code, dtype)
    if folder.exists():
        raise ModelError(
            f"{folder} holds neither a stackwise run (run.json) nor a model folder (config.json)"
        )
    from stackwise import data

    if str(reference) in {entry.name for entry in data.names("model")}:
        return _pretrained(str(data.model(str(reference))), trust_remote_code, dtype)
    if str(reference) in {entry.name for entry in data.names("network")}:
        return data.network(str(reference))
    return _from_hub(str(reference), trust_remote_code, dtype, fetch)


def model_of_run(folder: Path, status: str | None = None) -> Any:
    """What a finished run made: a fitted learner, or a model.

    Args:
        status: what run.json says, where that has been read already.

    Raises:
        RunError: the run is not finished.
    """
    check_finished(folder, status)
    if (folder / "model.json").is_file():
        return load_learner(folder)
    if (folder / "delta" / "delta.json").is_file():
        raise ModelError(
            f"{folder} holds a delta, a small change beside a base, and no model: name the base "
            f"that it was made for, MODEL+{folder}"
        )
    return open_model(folder / "model")


def check_finished(folder: Path, status: str | None = None) -> None:
    """A run made something that may be used; `status` as for `model_of_run`.

    Raises:
        RunError: it is not finished.
    """
    if status is None:
        status = read_json(folder / "run.json", {"status": str})["status"]
    if status not in ("finished", FITTED):
        raise RunError(
            f"{folder} is not finished (status {status}); repeat its command with --resume"
        )


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


def check_named(reference: Path | str) -> None:
    """A model may be where this points: a folder, the name of a packaged model, or a hub id.

    Raises:
        ModelError: it is none of them.
    """
    from stackwise import data

    name = str(reference)
    packed = [*data.names("model"), *data.names("network")]
    here = Path(name).exists() or name in {entry.name for entry in packed}
    if not here and not _is_hub_id(name):
        raise _no_model(name)


def _is_hub_id(name: str) -> bool:
    """It has one owner; nothing else is worth asking a network for."""
    owner, slash, rest = name.partition("/")
    return bool(slash and owner and rest) and "/" not in rest and owner not in (".", "..")


def _no_model(name: str) -> ModelError:
    return ModelError(
        f"there is no model {name!r}: it is no folder here and no packaged model; give a run, a "
        "folder that save_pretrained wrote, a name of 'stackwise data', or a hub id (owner/name)"
    )


def _from_hub(name: str, trust_remote_code: bool, dtype: str, fetch: bool) -> Any:
    if not _is_hub_id(name):
        raise _no_model(name)
    needs("transformers", "a language model")
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)  # its retries would stand above our one sentence
    try:
        return _pretrained(name, trust_remote_code, dtype, fetch)
    except (OSError, ValueError) as error:
        raise _no_model(name) from error
    finally:
        log.setLevel(level)


def config_of(source: Path | str, trust_remote_code: bool = False, **more: Any) -> Any:
    """The config of a model folder or a hub id.

    Raises:
        RunError: it says sizes that the weights beside it do not have.
    """
    needs("transformers", "a language model")
    import transformers

    from stackwise.pretrained_bounds import check_config, config_json

    if (Path(source) / "config.json").is_file():
        check_config(config_json(Path(source)), Path(source))
    return transformers.AutoConfig.from_pretrained(
        source, trust_remote_code=trust_remote_code, **more
    )


def builder_of(config: Any) -> Any:
    """The class of transformers that a config names, or `AutoModel` where it knows none."""
    import transformers

    named = [getattr(transformers, name, None) for name in config.architectures or ()]
    return next((cls for cls in named if cls is not None), transformers.AutoModel)


def _pretrained(source: str, trust_remote_code: bool, dtype: str, fetch: bool = True) -> Any:
    import transformers

    from stackwise.layers.sweeps import with_sweeps
    from stackwise.pretrained_bounds import check_size

    here: dict[str, Any] = {} if fetch else {"local_files_only": True}
    config = config_of(source, trust_remote_code, **here)
    builder = builder_of(config)
    more = here | (
        {"trust_remote_code": trust_remote_code} if builder is transformers.AutoModel else {}
    )
    with without_bars():
        if Path(source).is_dir():
            check_size(builder, config, Path(source))
        # safetensors alone: a pickled weights file could run code
        model = builder.from_pretrained(source, dtype=dtype, use_safetensors=True, **more)
    with_sweeps(model, getattr(config, "side_by_side", None))
    stored = getattr(config, "dtype", None)  # from_pretrained writes over it in its own copy
    if dtype == "float32" and stored in half_types():
        model.stored_dtype = stored
    return model.eval()


def half_types() -> tuple[Any, ...]:
    """The number types that models are kept in to save room."""
    import torch

    return torch.bfloat16, torch.float16


def stored_dtype(model: Any) -> Any:
    """The half-precision type that a model's folder has it in where it is computed with in float32;
    else None. `save_model` writes it so again.
    """
    return getattr(model, "stored_dtype", None)


def as_stored(model: Any) -> Any:
    """The model, its numbers rounded to those that `save_model` will write, in their own type."""
    import torch

    stored = stored_dtype(model)
    if stored is not None:
        with torch.no_grad():  # what is kept alone: tables that a module makes by itself are not
            for tensor in model.state_dict().values():
                if tensor.is_floating_point():
                    tensor.copy_(tensor.to(stored))
    return model


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Keep transformers' progress bars out of our own lines."""
    needs("transformers", "a language model")
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

    A model that came from a folder in half precision is written in half precision. The model itself
    is left as it is.

    Raises:
        ModelError: a bare module that has neither `save` nor `save_pretrained`.
    """
    if hasattr(model, "save_pretrained"):
        stored = stored_dtype(model)
        cast = {} if stored is None else {"state_dict": _cast(model.state_dict(), stored)}
        with without_bars():
            model.save_pretrained(folder, safe_serialization=True, **cast)
        if stored is not None:  # which transformers reads off the module
            config = read_json(folder / "config.json")
            write_json(folder / "config.json", config | {"dtype": str(stored).partition(".")[2]})
    elif hasattr(model, "save"):
        model.save(folder)
    else:
        raise ModelError(
            f"a {type(model).__name__} cannot be kept by itself: give a fitted learner or a model "
            "with save_pretrained"
        )


def _cast(tensors: dict[str, Any], dtype: Any) -> dict[str, Any]:
    """The tensors in another type; those that share their numbers share them still."""
    made: dict[Any, Any] = {}
    found = {}
    for name, tensor in tensors.items():
        key = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if key not in made:
            made[key] = tensor.to(dtype) if tensor.is_floating_point() else tensor
        found[name] = made[key]
    return found


BESIDE = (".json", ".txt", ".model", ".jinja", ".tiktoken")
"""Endings of the files that go along with weights: tokenizer, chat template, settings."""
OF_WEIGHTS = re.compile(
    r".*\.index\.json|(adapter_)?config\.json|(run|study|request|model|metrics|trainer_state)\.json"
)
"""Files of these endings that say something of the weights or of a run."""


def lay_beside(model: Any, folder: Path) -> None:
    """Lay what belongs to a model besides its weights into the folder of what was made of it: the
    tokenizer, its chat templates, how it generates. What is there already stays.
    """
    source = str(getattr(model, "name_or_path", "") or "")
    if not source or not folder.is_dir():
        return
    if not Path(source).is_dir():
        _lay_hub_tokenizer(source, folder)
        return
    for path in files_beside(Path(source)):
        target = folder / path.relative_to(source)
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)


def files_beside(folder: Path) -> list[Path]:
    """The files of a model folder that go along with its weights, those of further chat templates
    among them.
    """
    found = [*folder.iterdir(), *folder.glob("additional_chat_templates/*")]
    return sorted(
        path for path in found
        if path.is_file() and path.suffix in BESIDE and not OF_WEIGHTS.fullmatch(path.name)
    )  # fmt: skip


def _lay_hub_tokenizer(name: str, folder: Path) -> None:
    """Keep the tokenizer of a hub's model, where it has one."""
    needs("transformers", "a language model")
    from transformers import AutoTokenizer

    with contextlib.suppress(OSError, ValueError):
        AutoTokenizer.from_pretrained(name).save_pretrained(folder)


def load_learner(folder: Path) -> Any:
    """Read a fitted learner back. Its class is looked up in the catalog, never in the file."""
    path = folder / "model.json"
    name = read_json(path, {"class": str})["class"]
    for of in cards().values():
        for entry in of.entries:
            if entry.kind in ("learner", "ensemble") and entry.name == name:
                with believing(path):
                    return entry.load().load(folder)
    raise RunError(
        f"{path} names the learner {json.dumps(name)}, which this installation does not have"
    )
