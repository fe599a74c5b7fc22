"""Small real pictures on disk, sound and broken."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def colours(seed: int = 0, height: int = 24, width: int = 32) -> np.ndarray:
    """(H, W, 3) uint8 of smooth colours, which JPEG keeps well."""
    small = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))


def saved(path: Path, array: np.ndarray | None = None, **options: Any) -> Path:
    """A picture file; its name says its format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours() if array is None else array).save(path, **options)
    return path


def packed(array: np.ndarray, kind: str = "PNG") -> bytes:
    """A picture as the bytes of a file."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def cut_off(path: Path) -> Path:
    """The first half of a picture file."""
    whole = saved(path, np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return whole


def png_of(path: Path, width: int, height: int) -> Path:
    """A PNG of some hundred bytes whose header promises any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(bytes(64))) + _chunk(b"IEND")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def png_with_text(path: Path, size: int) -> Path:
    """A small PNG that brings a packed text of `size` bytes."""
    text = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(size)))
    whole = saved(path).read_bytes()
    path.write_bytes(whole[:33] + text + whole[33:])  # behind the header
    return path


def _chunk(kind: bytes, content: bytes = b"") -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def class_folders(root: Path, classes: dict[str, int], **options: Any) -> Path:
    """A folder with a folder a class; `classes` says how many pictures each has."""
    seed = 0
    for name, count in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for place in range(count):
            seed += 1
            saved(root / name / f"{place}.png", colours(seed, **options))
    return root


def touched(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def is_root() -> bool:
    """Whether no file can be kept from being read."""
    return hasattr(os, "geteuid") and os.geteuid() == 0
