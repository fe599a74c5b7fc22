"""Hashes that say whether kept weights are still those that were written.

A disk, a copy or a cable turns a bit over now and then, and one bit of a weight changes predictions
without a word. So every record (`model.json`, `delta.json`, a transform's `run.json`) holds under
`hashes` the XXH3-128 of each file of weights beside it, and under `seal` that of its own content;
both are compared when they are read. XXH3 reads 10 GB a second, far more than a disk gives. It
guards against faults and not against a forger: what a stranger wrote is checked as data, wherever
it is read. Records of before have neither, and are read as they were.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from stackwise.errors import RunError
from stackwise.files import plain, read_json
from stackwise.places import inside

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = (".safetensors", ".skops", ".ubj", ".cbm", ".txt", ".onnx", ".npz")
"""Endings of files that hold what was learned."""
READERS = ("config.json", "tokenizer.json", "vocab.json", "model.safetensors.index.json")
"""JSON files that say how weights are used, or what a token is."""
ROOMS = ("model", "base", "meta", "tokenizer")
"""Folders beside a record whose files are its own; each other one has a record of its own."""
RECORDS = ("model.json", "delta.json")
AT_ONCE = 1 << 20


def file_hash(path: Path) -> str:
    """32 hex digits of the XXH3-128 of a file's bytes."""
    digest = xxhash.xxh3_128()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


def tensors_hash(tensors: "Mapping[str, Tensor]", more: str = "") -> str:
    """Likewise of named tensors: names, types, shapes and numbers; and of a text."""
    import torch

    digest = xxhash.xxh3_128(more.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def weight_hashes(folder: Path) -> dict[str, str]:
    """The hash of every file of weights that belongs to the record in `folder`, by its place."""
    return {path.relative_to(folder).as_posix(): file_hash(path) for path in _weights(folder)}


def _weights(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_file() and path.suffix in WEIGHTS:
            yield path
        if path.is_dir() and path.name in ROOMS:
            yield from _within(path)


def _within(room: Path) -> Iterator[Path]:
    if any((room / name).is_file() for name in RECORDS):
        return
    for path in sorted(room.iterdir()):
        if path.is_dir():
            yield from _within(path)
        elif path.suffix in WEIGHTS or path.name in READERS:
            yield path


def check_hashes(folder: Path, record: Mapping[str, Any], room: str = "") -> None:
    """Compare the files beside a record with its `hashes`.

    Args:
        room: look at the files of this folder within `folder` alone. Without it, those of folders
            that hold a model of transformers are left to whoever opens them, so that no file is
            read twice.

    Raises:
        RunError: a file is gone or holds something else than when it was written.
    """
    kept = record.get("hashes") or {}
    if not isinstance(kept, Mapping):
        raise RunError(f"the hashes in the record of {folder} are damaged: they are no mapping")
    for name, hashed in kept.items():
        path = inside(folder, name)
        if (room and not name.startswith(f"{room}/")) or (
            not room and _of_model_folder(folder, path)
        ):
            continue
        if not path.is_file():
            raise RunError(f"{path} does not exist, though it was kept; copy the whole folder")
        if file_hash(path) != hashed:
            raise RunError(
                f"{path} is damaged: it does not hold the bytes that were written (its hash is "
                "another); copy it again from where it is whole"
            )


def check_kept_model(folder: Path) -> None:
    """Compare a model folder within a run or a saved learner with the hashes that are kept there.

    Raises:
        RunError: a file of it is damaged; it is named.
    """
    folder = folder.resolve()
    for name in ("model.json", "run.json"):
        path = folder.parent / name
        record = read_json(path) if path.is_file() else None
        if isinstance(record, dict):
            check_hashes(folder.parent, record, folder.name)


def _of_model_folder(folder: Path, path: Path) -> bool:
    return path.parent != folder and (path.parent / "config.json").is_file()


def sealed(record: Mapping[str, Any], but: Collection[str] = ()) -> dict[str, Any]:
    """The record as JSON holds it, with a hash of itself under `seal`; the keys `but` may change
    later.
    """
    content = plain(dict(record))
    return content | {"seal": _content_hash(content, but)}


def check_seal(path: Path, record: Mapping[str, Any], but: Collection[str] = ()) -> None:
    """Compare a record that was read from `path` with its own hash, where it has one.

    Raises:
        RunError: something in it is not as it was written.
    """
    if "seal" in record and record["seal"] != _content_hash(record, but):
        raise RunError(
            f"{path} is damaged: its content is not what was written (its seal is another); copy "
            "it again from where it is whole"
        )


def _content_hash(record: Mapping[str, Any], but: Collection[str]) -> str:
    content = {name: value for name, value in record.items() if name not in {"seal", *but}}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return xxhash.xxh3_128_hexdigest(text.encode())
