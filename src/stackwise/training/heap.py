"""Keep the memory of large gradients between steps.

The gradient of a matrix is a block of memory as large as the matrix, made and freed in every step.
Above 32 MiB glibc asks the system for each such block and hands it back at once; the system clears
it page by page, which takes as long as the rest of a step of a large embedding. While a model with
such a matrix learns, freed memory is kept for the next step instead, and handed back at the end.
No number depends on it.
"""

import contextlib
import ctypes
import functools
from collections.abc import Iterator
from typing import Any

from torch import nn

LARGE = 32 * 2**20
"""Bytes above which glibc asks the system for each block, whatever it learned before."""
KEPT = 2**30
"""Bytes of freed memory that stay: the largest gradients, and the most that lies free."""
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of malloc.h


@contextlib.contextmanager
def keeping_memory(model: nn.Module) -> Iterator[None]:
    """Keep freed memory inside the block, where the model is on a CPU and has a large parameter.

    The setting is of the whole process. Without glibc nothing happens.
    """
    sizes = [p.numel() * p.element_size() for p in model.parameters() if p.device.type == "cpu"]
    libc = _glibc() if max(sizes, default=0) > LARGE else None
    if libc is None:
        yield
        return
    libc.mallopt(MMAP_THRESHOLD, KEPT)
    libc.mallopt(TRIM_THRESHOLD, KEPT)
    try:
        yield
    finally:
        # as glibc sets itself once it has freed a block of this size
        libc.mallopt(MMAP_THRESHOLD, LARGE)
        libc.mallopt(TRIM_THRESHOLD, 2 * LARGE)
        libc.malloc_trim(0)


@functools.cache
def _glibc() -> Any:
    """The C library of this process, None where it is not glibc."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.gnu_get_libc_version, libc.mallopt, libc.malloc_trim  # noqa: B018
    except (OSError, AttributeError):
        return None
    return libc
