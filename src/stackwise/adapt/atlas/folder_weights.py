"""Weights that stay on disk: the tensors of a model folder, read when they are looked at."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from stackwise.errors import ModelError
from stackwise.seals import check_kept_model
from stackwise.stack.shards import read_pieces

TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
}  # fmt: skip
"""What files call types of floating-point numbers."""


class FolderWeights(Mapping[str, Tensor]):
    """The tensors of a model folder by the names in its files, mapped from disk: nothing is read
    but what is looked at.

    Raises:
        ModelError: there are no whole safetensors files. RunError: a file of a run is damaged.
    """

    def __init__(self, folder: Path) -> None:
        check_kept_model(folder)
        self.folder, self.pieces = folder, read_pieces(folder)
        self._open: dict[Path, Any] = {}

    def __getitem__(self, name: str) -> Tensor:
        file = self.pieces[name].file
        if file not in self._open:
            self._open[file] = safe_open(file, framework="pt")
        found: Tensor = self._open[file].get_tensor(name)
        return found

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor, from the header alone."""
        return self.pieces[name].shape

    def read(self, name: str, count: int) -> Iterator[Tensor]:
        """The numbers of a tensor in order, at most `count` at a time; read and not mapped, since
        pages of a mapped file stay in memory while there is room.

        Raises:
            ModelError: the file ended, or a number is not finite.
        """
        piece, kind = self.pieces[name], TYPES[self.pieces[name].dtype]
        left = piece.size
        with open(piece.file, "rb") as file:
            file.seek(piece.start)
            while left:
                block = bytearray(min(left, count * kind.itemsize))
                if file.readinto(block) < len(block):
                    raise ModelError(f"{piece.file} ended while it was read")
                numbers = torch.frombuffer(block, dtype=kind)
                if not bool(numbers.isfinite().all()):
                    raise ModelError(f"{self.folder} has numbers in {name} that are not finite")
                left -= len(block)
                yield numbers

    def __iter__(self) -> Iterator[str]:
        return iter(self.pieces)

    def __len__(self) -> int:
        return len(self.pieces)
