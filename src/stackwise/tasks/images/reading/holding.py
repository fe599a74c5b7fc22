"""Hold pictures of one size: in memory where they fit, else decoded when they are asked for."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import overload

import numpy as np

from stackwise.errors import DataError
from stackwise.tasks.images.reading.decode import Channels, Contents, decode
from stackwise.tasks.images.reading.sizes import Size
from stackwise.tasks.images.reading.threads import ahead, begin, finish


class Pictures:
    """n pictures of one shape.

    Attributes:
        shape: (C, H, W) of each.
        hashes: (n,) uint64, equal where two pictures are equal pixel for pixel.
        held: whether they lie decoded, in memory or in an array on the disk.
    """

    def __init__(
        self,
        source: "np.ndarray | Packed",
        rows: np.ndarray,
        hashes: np.ndarray,
    ) -> None:
        self._source = source
        self._rows = rows
        self.hashes = hashes
        self.held = isinstance(source, np.ndarray)
        channels, height, width = source.shape[-3:]
        self.shape = (channels, height, width)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"Pictures({len(self):,} of {self.shape}, {'held' if self.held else 'streamed'})"

    @property
    def index(self) -> np.ndarray:
        """(n,) the row of each in its source."""
        return self._rows

    @property
    def nbytes(self) -> int:
        """Bytes of them that are held."""
        return len(self) * int(np.prod(self.shape)) if self.held else 0

    @classmethod
    def joined(cls, several: Sequence["Pictures"]) -> "Pictures":
        """Pictures of one source, one after the other."""
        first = several[0]
        if any(other._source is not first._source for other in several):
            raise DataError("pictures of several sources cannot be joined")
        rows = np.concatenate([other._rows for other in several])
        return cls(first._source, rows, np.concatenate([other.hashes for other in several]))

    def only(self, rows: np.ndarray | slice) -> "Pictures":
        """Some of them, in this order; no picture is copied."""
        return Pictures(self._source, self._rows[rows], self.hashes[rows])

    def take(self, rows: np.ndarray | slice) -> np.ndarray:
        """(k, C, H, W) uint8 of some rows; what is not held is decoded in threads.

        Raises:
            BadPicture: a file has gone or changed since it was read first.
        """
        started, filled = self._begin(self._rows[rows])
        finish(started)
        return filled

    @overload
    def __getitem__(self, rows: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray: ...
    def __getitem__(self, rows: int | np.ndarray | slice) -> np.ndarray:
        """One picture (C, H, W), or some (k, C, H, W), as `take` gives them."""
        if isinstance(rows, (int, np.integer)):
            return self.take(np.array([rows]))[0]
        return self.take(rows)

    def stream(self, batches: Iterable[np.ndarray | slice], most: int = 4) -> Iterator[np.ndarray]:
        """`take` of each batch of rows, in order, decoding up to `most` batches ahead."""
        if self.held:
            most = 0
        return ahead(lambda rows: self._begin(self._rows[rows]), batches, most)

    def blocks(self, size: int = 256) -> Iterator[np.ndarray]:
        """All of them, in order, `size` at a time."""
        starts = range(0, len(self), size)
        return self.stream(slice(start, start + size) for start in starts)

    def _begin(self, rows: np.ndarray) -> tuple[list[Future[None]], np.ndarray]:
        if isinstance(self._source, np.ndarray):
            return [], np.ascontiguousarray(self._source[rows])
        return self._source.begin(rows)


class Packed:
    """Pictures that are decoded when they are asked for.

    Attributes:
        shape: (n, C, H, W).
    """

    def __init__(
        self, contents: Contents, names: Sequence[str], size: Size, channels: Channels
    ) -> None:
        self.contents = contents
        self.names = names
        self.size = size
        self.channels = channels
        self.shape = (len(names), channels, *size)

    def one(self, row: int) -> np.ndarray:
        """(C, H, W) uint8."""
        decoded = decode(
            self.contents[row], channels=self.channels, size=self.size, name=self.names[row]
        )
        return decoded.transpose(2, 0, 1)

    def begin(self, rows: np.ndarray) -> tuple[list[Future[None]], np.ndarray]:
        """Start to decode some rows: what to wait for, and (k, C, H, W), which it fills."""
        filled = np.empty((len(rows), *self.shape[1:]), np.uint8)

        def fill(piece: slice) -> None:
            for place in range(piece.start, piece.stop):
                filled[place] = self.one(int(rows[place]))

        return begin(fill, len(rows)), filled
