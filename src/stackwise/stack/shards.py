"""Tensors that stay on disk: where each one lies in a safetensors file, and how it is copied.

A safetensors file is a length, a JSON header and the bytes of its tensors:

    8 bytes   length of the header, little-endian
    header    {"name": {"dtype": "BF16", "shape": [...], "data_offsets": [begin, end]}, ...}
    bytes     of each tensor, back to back

So a model of the same tensors in another order is a new header and copied ranges of bytes. No
tensor is read into memory: the kernel copies, and on file systems that can it shares the blocks.
"""

import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from stackwise.errors import ModelError, RunError
from stackwise.files import read_json, write_json

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
MOST_BYTES = 5 * 10**9
"""Bytes of a shard, as transformers writes them."""
CHUNK = 1 << 24
"""Bytes that are copied at a time where the kernel cannot copy by itself."""
BITS = {"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32}
"""Of the types of 4 bytes and more: they stand first in a file, so that all lie aligned."""


@dataclass(frozen=True)
class Piece:
    """The bytes of one tensor in a file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass(frozen=True)
class MadePiece(Piece):
    """A tensor of the same size as the one that lies there, made when it is written.

    Attributes:
        numbers: gives its numbers in order, in tensors of the type of the piece, one after the
            other.
    """

    numbers: Callable[[], "Iterable[Tensor]"]


def read_pieces(folder: Path) -> dict[str, Piece]:
    """Every tensor of a model folder, by the name that its files give it; headers alone are read.

    Raises:
        ModelError: there are no safetensors files, one of them is missing, cut off or damaged.
    """
    if (folder / INDEX).is_file():
        try:
            names = sorted(
                set(read_json(folder / INDEX, {"weight_map": {"*": str}})["weight_map"].values())
            )
        except RunError as error:
            raise ModelError(str(error)) from error
    else:
        names = [WEIGHTS]
    pieces: dict[str, Piece] = {}
    for name in names:
        path = folder / name
        if path.parent != folder:
            raise ModelError(f"{folder / INDEX} names a file outside of its folder: {name}")
        if not path.is_file():
            raise ModelError(f"{folder} has no {name}: only weights in safetensors are read")
        pieces |= _pieces_of(path)
    return pieces


def _pieces_of(path: Path) -> dict[str, Piece]:
    length = path.stat().st_size
    try:
        with open(path, "rb") as file:
            (header_size,) = struct.unpack("<Q", file.read(8))
            if header_size > length - 8:
                raise ValueError("it is cut off")
            header: dict[str, Any] = json.loads(file.read(header_size))
        header.pop("__metadata__", None)
        pieces = {}
        for name, about in header.items():
            begin, end = about["data_offsets"]
            if not 0 <= begin <= end <= length - 8 - header_size:
                raise ValueError("it is cut off")
            pieces[name] = Piece(
                path, about["dtype"], tuple(about["shape"]), 8 + header_size + begin, end - begin
            )
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is no whole safetensors file ({error})") from error
    return pieces


def write_pieces(pieces: Mapping[str, Piece], folder: Path, *, most: int = MOST_BYTES) -> None:
    """Write tensors that lie in other files as the weights of a model folder.

    Args:
        most: bytes of a shard; a tensor that is larger has a shard of its own.
    """
    shards = list(_sharded(pieces, most))
    if len(shards) == 1:
        _write_file(folder / WEIGHTS, shards[0])
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        _write_file(folder / name, shard)
        weight_map |= dict.fromkeys(shard, name)
    total = sum(piece.size for piece in pieces.values())
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _sharded(pieces: Mapping[str, Piece], most: int) -> Iterator[dict[str, Piece]]:
    shard: dict[str, Piece] = {}
    held = 0
    for name, piece in pieces.items():
        if shard and held + piece.size > most:
            yield shard
            shard, held = {}, 0
        shard[name] = piece
        held += piece.size
    yield shard


def _write_file(path: Path, shard: Mapping[str, Piece]) -> None:
    """One safetensors file, its tensors copied from where they lie."""
    ordered = sorted(shard.items(), key=lambda item: -BITS.get(item[1].dtype, 16))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, piece in ordered:
        header[name] = {
            "dtype": piece.dtype,
            "shape": piece.shape,
            "data_offsets": [place, place + piece.size],
        }
        place += piece.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    sources: dict[Path, BinaryIO] = {}
    try:
        with open(path, "wb", buffering=0) as target:
            target.write(struct.pack("<Q", len(text)) + text)
            for name, piece in ordered:
                if isinstance(piece, MadePiece):
                    _write_made(name, piece, target)
                    continue
                if piece.file not in sources:
                    sources[piece.file] = open(piece.file, "rb", buffering=0)  # noqa: SIM115
                _copy(sources[piece.file], piece.start, piece.size, target)
    finally:
        for source in sources.values():
            source.close()


def _write_made(name: str, piece: MadePiece, target: BinaryIO) -> None:
    """Append what is made of a piece, whose place in the file is as large as the piece was."""
    import torch

    written = 0
    for numbers in piece.numbers():
        plain: Any = numbers.contiguous().view(torch.uint8).numpy()
        block = memoryview(plain).cast("B")
        written += len(block)
        while block:  # a file without a buffer may take less at a time
            block = block[target.write(block) :]
    if written != piece.size:
        raise ModelError(f"{name} was made of {written} bytes in place of {piece.size}")


def _copy(source: BinaryIO, start: int, size: int, target: BinaryIO) -> None:
    """Append `size` bytes of `source` from `start` on to `target`."""
    source.seek(start)
    while size and hasattr(os, "copy_file_range"):
        try:
            done = os.copy_file_range(source.fileno(), target.fileno(), size)
        except OSError:  # not between these two file systems
            break
        if not done:
            break
        size -= done
    while size:
        chunk = source.read(min(size, CHUNK))
        if not chunk:
            raise ModelError(f"{source.name} ended while it was copied")
        target.write(chunk)
        size -= len(chunk)
