"""Memory that does not suffice: refused before anything of that size is made, or told in a sentence
where it ran out all the same.
"""

import errno
import re

from stackwise.errors import DataError, StackwiseError

GIB = 2**30
RAN_OUT = re.compile(
    r"allocate memory|bad_?alloc|(not enough|out of|insufficient) memory|failed to map segment"
    r"|can't start new thread",
    re.IGNORECASE,
)
"""How torch, the boosters, the loader of shared libraries and Python say that memory ran out."""


def refuse_beyond(limit: float, needed: float, what: str, limit_name: str, would: str) -> None:
    """Refuse what needs more bytes than a limit.

    Args:
        limit, needed: bytes.
        what: what would take them, a clause without its verb: "training on 9 stored rows".
        limit_name: the limit as the user knows it. would: what would be right.

    Raises:
        DataError: `needed` exceeds `limit`.
    """
    if needed > limit:
        raise DataError(
            f"{what} would take about {needed / GIB:.3g} GiB, more than {limit_name}; {would}"
        )


def ran_out(error: BaseException) -> str | None:
    """A sentence where an error, or what caused it, says that memory ran out; else None."""
    if isinstance(error, StackwiseError):
        known = False  # its words are ours; what it was made of may say so
    elif isinstance(error, OSError):
        known = error.errno == errno.ENOMEM or RAN_OUT.search(str(error)) is not None
    else:
        known = isinstance(error, MemoryError) or RAN_OUT.search(str(error)) is not None
    if not known:
        return None if error.__cause__ is None else ran_out(error.__cause__)
    told = " ".join(str(error).split())[:200]
    return (
        f"memory ran out{told and f' ({told})'}; use a smaller network, smaller batches, fewer "
        "rows or fewer processes side by side"
    )
