"""Read and write small files so that a kill leaves either the old file or the new one.

A file is written beside its place, flushed to the disk and renamed over it. Tensors go to
safetensors and everything else to JSON: a model file is read as data and runs nothing.
"""

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackwise.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on leaving without an error it takes its place."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.stem}-", suffix=f".part{path.suffix}"
    )
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        beside.chmod(0o666 & ~umask)
        os.replace(beside, path)
        sync_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush a folder's own entries, so that a rename survives a power cut."""
    if os.name == "nt":  # a folder cannot be opened for this on Windows
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(Path(path)) as beside:
        beside.write_text(text, encoding="utf-8")


def plain(value: Any) -> Any:
    """`value` as JSON holds it: NumPy values, paths, sets, estimators; not-a-number is null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item) for item in value)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if hasattr(value, "get_params"):  # an estimator, as the call that makes it
        return repr(value)
    return value


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_text(Path(path), json.dumps(plain(value), indent=1, allow_nan=False) + "\n")


def write_tensors(
    path: Path, tensors: "dict[str, Tensor]", metadata: dict[str, str] | None = None
) -> None:
    """Write named tensors as safetensors, whole or not at all. Shared storage is written twice."""
    from safetensors.torch import save_file

    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with replacing(Path(path)) as beside:
        save_file(own, str(beside), metadata=metadata)


def read_json(path: Path) -> Any:
    """Read a JSON file; `RunError` names it where it is missing or damaged."""
    return _read(Path(path), lambda p: json.loads(p.read_text(encoding="utf-8")))


def read_tensors(path: Path) -> "dict[str, Tensor]":
    """Read a safetensors file; `RunError` names it where it is missing, cut off or foreign."""
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = _read(Path(path), lambda p: load_file(str(p)))
    return tensors


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    if not path.is_file():
        raise RunError(f"{path} does not exist; the folder is not a finished stackwise run")
    try:
        return reader(path)
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:
        raise RunError(f"{path} is damaged or of another format ({error})") from error
