"""What a fit will take, by arithmetic, before anything of that size is made.

The largest things in a step, in numbers of 4 bytes, with F attributes of e numbers, n stored rows
that a step looks at, batches of B rows, L blocks and H heads:

    weights      8 times (4 L (F e)^2 + F e (sum of codes)): fast, slow, gradient, moments, best
    memory       n F e (4 + 4 L): embedded rows, and keys and values of each block
    scores       exact: 3 L H B n;  chunked: 3 H B 1,024;  nearest: 3 L H B k (1 + 2 F e / H)
"""

from stackwise.errors import DataError
from stackwise.layers.hopfield import CHUNK
from stackwise.learning.memory import GIB, refuse_beyond


def needed_bytes(
    rows: int,
    n_numeric: int,
    cardinalities: list[int],
    classes: int,
    *,
    memory: str,
    batch_size: int,
    feature_dim: int,
    heads: int,
    blocks: int,
    neighbours: int,
) -> int:
    """The memory that training takes where a step looks at `rows` stored rows."""
    attributes = n_numeric + len(cardinalities) + 1
    d = attributes * feature_dim
    weights = 4 * blocks * d * d + d * (sum(cardinalities) + max(classes, 1) + attributes)
    near = min(neighbours, rows)
    scores = {
        "exact": blocks * heads * batch_size * rows,
        "chunked": heads * batch_size * min(CHUNK, rows),
        "nearest": blocks * batch_size * near * (heads + 2 * d),
    }[memory]
    return 4 * (8 * weights + rows * d * (4 + 4 * blocks) + 3 * scores)


def check_size(
    rows: int,
    n_numeric: int,
    cardinalities: list[int],
    classes: int,
    *,
    memory: str,
    memory_size: int | None,
    most_exact: int,
    limit: float,
    **sizes: int,
) -> None:
    """Refuse a fit that takes more than `limit` GiB, or too many rows for an exact memory.

    Raises:
        DataError: the sentence says what would fit.
    """

    def gib(looked_at: int, feature_dim: int, how: str) -> float:
        given = sizes | {"feature_dim": feature_dim}
        return needed_bytes(
            looked_at, n_numeric, cardinalities, classes, memory=how, **given
        ) / GIB  # fmt: skip

    e = sizes["feature_dim"]
    looked_at = min(rows, memory_size or rows)
    if memory == "exact" and memory_size is None and rows > most_exact:
        raise DataError(
            f"{rows:,} training rows need about {gib(rows, e, 'exact'):.3g} GiB in exact mode, "
            f"which takes at most {most_exact:,} rows; use memory='chunked' (same result, "
            f"{gib(rows, e, 'chunked'):.3g} GiB), memory='nearest', or memory_size=2000 stored "
            "rows a step"
        )
    asked = gib(looked_at, e, memory)
    if asked <= limit:
        return
    words = []
    for smaller in (1000, 200):
        if smaller < looked_at and gib(smaller, e, memory) <= limit:
            words.append(f"memory_size={smaller}")
            break
    fits = [
        dim for dim in (64, 32, 16, 8, 4, 2, 1) if dim < e and gib(looked_at, dim, memory) <= limit
    ]
    if fits:
        words.append(f"feature_dim={fits[0]}")
    would = " or ".join(words) + " would fit" if words else "leave out columns or rows"
    refuse_beyond(
        limit * GIB, asked * GIB,
        f"training on {looked_at:,} stored rows of {n_numeric + len(cardinalities)} columns",
        f"memory_limit={limit:g}", would,
    )  # fmt: skip
