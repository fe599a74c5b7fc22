"""What files of several tasks say of themselves: a text its encoding, Arrow its two forms."""

import codecs
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),  # before their beginnings
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


def marked_encoding(start: bytes) -> str | None:
    """The encoding that a text's first four bytes tell by a byte-order mark; None without one."""
    return next((name for mark, name in MARKS if start.startswith(mark)), None)


@contextlib.contextmanager
def arrow_batches(path: Path) -> "Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]":
    """The schema and the batches of an Arrow file or stream, mapped from the disk.

    Raises:
        pyarrow.ArrowException, OSError: it is neither, or cannot be read.
    """
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        try:
            reader: Any = pa.ipc.open_file(file)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        except pa.ArrowInvalid:
            file.seek(0)
            reader = pa.ipc.open_stream(file)
            batches = iter(reader)
        yield reader.schema, batches
