"""Read and write small files so that a kill leaves either the old file or the new one.

A file is written beside its place, flushed to the disk and renamed over it. Tensors go to
safetensors and everything else to JSON: a model file is read as data and runs nothing.
"""

import contextlib
import errno
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stackwise.errors import ModelError, RunError, StackwiseError, StorageError
from stackwise.shapes import Shape, misfit

if TYPE_CHECKING:
    from torch import Tensor

Read = TypeVar("Read")


def check_empty(out: Path) -> None:
    """`out` may become a model's folder: nothing is there, or an empty folder.

    Raises:
        ModelError: something is.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"{out} is not empty; name another folder")


@contextlib.contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Give a folder beside `out`, which on leaving without an error takes its place.

    Raises:
        StorageError: it cannot be written.
    """
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-", suffix=".part"))
        try:
            yield beside
            for path in beside.rglob("*"):
                if path.is_file():
                    _sync_file(path)
            beside.chmod(0o755)
            if out.exists():
                out.rmdir()
            beside.rename(out)
            sync_folder(out.parent)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on leaving without an error it takes its place.

    Raises:
        StorageError: it cannot be written; what was there before stays.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}-", suffix=f".part{path.suffix}"
        )
        os.close(handle)
        beside = Path(name)
        try:
            yield beside
            _sync_file(beside)
            umask = os.umask(0)
            os.umask(umask)
            beside.chmod(0o666 & ~umask)
            os.replace(beside, path)
            sync_folder(path.parent)
        finally:
            with contextlib.suppress(OSError):  # one that stays is swept by the next look
                beside.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the errors of a disk, met while `path` is written, into one sentence.

    Raises:
        StorageError: `path`, or a file in it or beside it, cannot be written.
    """
    try:
        yield
    except StackwiseError:
        raise
    except Exception as error:
        why = _unwritten(error, path)
        if why is None:
            raise
        raise StorageError(f"{path} cannot be written: {why}") from error


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
"""Errors of a disk, whichever file met them."""


def _unwritten(error: BaseException, path: Path) -> str | None:
    """Why `path` could not be written; None where the error is of something else."""
    if isinstance(error, OSError):
        ours = error.errno in NO_ROOM or _is_of(error.filename, path)
        return (error.strerror or str(error)) if ours else None
    # libraries that write by themselves tell the number in their own words, SQLite its own names
    told = re.search(r"os error (\d+)|database or disk is full|disk I/O error", str(error))
    if told is not None and (told[1] is None or int(told[1]) in NO_ROOM):
        return os.strerror(int(told[1])) if told[1] else told[0]
    cause = error.__cause__
    return None if cause is None else _unwritten(cause, path)


def _is_of(name: Any, path: Path) -> bool:
    """Whether an error's file is `path`, in it, above it, or its part."""
    if not isinstance(name, (str, bytes)):
        return False
    place, path = Path(os.path.abspath(os.fsdecode(name))), Path(os.path.abspath(path))
    part = place.parent == path.parent and is_part(place)
    return part or place.is_relative_to(path) or path.is_relative_to(place)


def is_part(path: Path) -> bool:
    """Whether this is what `replacing` or `whole_folder` writes: a kill may leave one."""
    return path.name.startswith(".") and ".part" in path.suffixes


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it; nothing where there is none.

    Raises:
        StorageError: it cannot be removed.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{path} cannot be removed: {error.strerror or error}") from error


def _sync_file(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's own entries, so that a rename survives a power cut."""
    if os.name == "nt":  # a folder cannot be opened for this on Windows
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cache_folder() -> Path:
    """Where stackwise keeps what it can make again: STACKWISE_CACHE or the user's cache folder."""
    given = os.environ.get("STACKWISE_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stackwise"


@contextlib.contextmanager
def writing_cache(place: Path) -> Iterator[None]:
    """`writing` of a place below `cache_folder`: the sentence says how to have another one.

    Raises:
        StorageError: `place` cannot be written.
    """
    try:
        with writing(place):
            yield
    except StorageError as error:
        raise StorageError(f"{error}; name another folder in STACKWISE_CACHE") from error


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


def read_json(path: Path, shape: Shape = object, *, newest: int | None = None) -> Any:
    """Read a JSON file that is of `shape`, and whose `format` is at most `newest`.

    Raises:
        RunError: the file is missing, damaged, of another shape or of a newer version; the
            sentence names it.
    """
    found = read_file(Path(path), lambda p: parse_json(p.read_text(encoding="utf-8")))
    if newest is not None:
        _check_format(Path(path), found, newest)
    check_shape(Path(path), found, shape)
    return found


def check_shape(path: Path, found: Any, shape: Shape) -> None:
    """Hold what was read from `path` to a shape.

    Raises:
        RunError: it is not of it; the sentence names the file and the place.
    """
    wrong = misfit(found, shape)
    if wrong is not None:
        raise RunError(f"{path} is damaged or of another format: {wrong}")


def _check_format(path: Path, found: Any, newest: int) -> None:
    wrong = misfit(found, {"format": int})
    if wrong is None and found["format"] > newest:
        raise RunError(
            f"{path} was written by a newer stackwise (format {found['format']}, this one reads "
            f"up to {newest})"
        )
    if wrong is None and found["format"] < 1:
        wrong = f"its format is {found['format']}"
    if wrong is not None:
        raise RunError(f"{path} is damaged or of another format: {wrong}")


def parse_json(text: str) -> Any:
    """JSON of finite numbers: what `write_json` writes.

    Raises:
        ValueError: it is none, nested too deeply, or holds a number that no float can hold.
    """
    try:
        return json.loads(text, parse_constant=_finite, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is no finite number")
    return number


def read_tensors(path: Path) -> "dict[str, Tensor]":
    """Read a safetensors file; `RunError` names it where it is missing, cut off or foreign."""
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = read_file(Path(path), lambda p: load_file(str(p)))
    return tensors


def read_lines(path: Path, shape: Shape = object) -> list[Any]:
    """The lines of a file of JSON lines; one that a kill cut off, or of another shape, is left out.

    A line ends with a line feed and nothing else: a text may hold U+2028. No line where there is
    no file.
    """
    found = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.split("\n"):
        with contextlib.suppress(ValueError):
            found.append(parse_json(line))
    return [line for line in found if misfit(line, shape) is None]


def read_file(path: Path, reader: Callable[[Path], Read]) -> Read:
    """Read a file; `RunError` names it where it is missing, damaged or of another format."""
    if not path.is_file():
        raise RunError(f"{path} does not exist; the folder is not a finished stackwise run")
    try:
        return reader(path)
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:
        raise RunError(f"{path} is damaged or of another format ({error})") from error


@contextlib.contextmanager
def believing(path: Path) -> Iterator[None]:
    """Use what was read from `path`: what does not fit together there is told in one sentence.

    Raises:
        RunError: it names `path`.
    """
    try:
        yield
    except StackwiseError:
        raise
    except (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError,
            TypeError, ValueError) as error:  # fmt: skip
        told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise RunError(f"{path} is damaged or of another format ({told})") from error
