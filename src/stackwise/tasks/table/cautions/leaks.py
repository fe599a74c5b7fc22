"""Signs that a score will be too good: rows that return in another part, and columns that know
the target.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from pandas.core.util.hashing import hash_pandas_object

from stackwise.errors import DataError
from stackwise.protocols import Part
from stackwise.tasks.labelled import values
from stackwise.tasks.table.features import by_column
from stackwise.tasks.table.reading.columns import Column

SHARE = 0.02
"""Share of a part's rows that must return in training before it is said."""

LEAST_ROWS = 30
EXPLAINED = 0.999
PAIRS = 40
"""Numbers among which pairs are tried, those nearest to the target."""


def repeated_rows(parts: Mapping[Part, tuple[pd.DataFrame, np.ndarray]]) -> list[str]:
    """Test and validation rows that equal a training row in every column, the target too.

    Rows are told apart by four columns first, so that a large table costs little.
    """
    X, y = parts["train"]
    if not X.shape[1]:
        return []
    few = list(X.columns[:: max(1, X.shape[1] // 4)][:4])
    known = _hashes(X[few], y)
    found = []
    others: tuple[Part, ...] = ("validation", "test")
    for part in others:
        Z, z = parts[part]
        again = np.isin(_hashes(Z[few], z), known)
        if again.sum() < max(2, SHARE * len(Z)):
            continue
        near = np.isin(known, _hashes(Z[few], z)[again])
        count = int(np.isin(_hashes(Z[again], z[again]), _hashes(X[near], y[near])).sum())
        if count >= max(2, SHARE * len(Z)):
            found.append(f"{count:,} of {len(Z):,} {part} rows")
    if not found or _few_rows_exist(X, y):
        return []
    return [
        f"{' and '.join(found)} also stand in the training part, target and all: their score says "
        "nothing of new rows; remove the copies, or keep them together with group"
    ]


def _hashes(frame: pd.DataFrame, y: np.ndarray) -> np.ndarray:
    """(n,) uint64; equal rows have equal ones."""
    whole = frame.assign(**{"\0target": y})
    try:
        return hash_pandas_object(whole, index=False).to_numpy()
    except TypeError:  # lists
        return hash_pandas_object(whole.map(repr), index=False).to_numpy()


def _few_rows_exist(X: pd.DataFrame, y: np.ndarray) -> bool:
    """Whether rows return by chance, because their columns have few values."""
    rows = min(len(X), 20_000)
    return len(np.unique(_hashes(X.iloc[:rows], y[:rows]))) < 0.9 * rows and all(
        X.iloc[:rows, place].astype(str).nunique() < 0.1 * rows for place in range(X.shape[1])
    )


def giveaways(
    X: pd.DataFrame, y: np.ndarray, columns: Sequence[Column], target: str, *, classes: bool
) -> list[str]:
    """Columns, or pairs of numbers, from which the target can be read off.

    For a number: one number or pair that explains 0.999 of its variance linearly, an order that is
    the same, or categories of many rows whose means do. For classes: values that each have one
    class, a number along which each class is one stretch, or gaps that are one class.
    """
    if len(y) < LEAST_ROWS:
        return []
    codes = np.unique(y, return_inverse=True)[1] if classes else y.astype(np.float64)
    found = []
    numbers: dict[str, np.ndarray] = {}
    for column in columns:
        if not column.used or column.kind == "text":
            continue
        series = X[column.name]
        how = None
        if column.kind in ("number", "date"):
            try:
                read = by_column.dates if column.kind == "date" else by_column.numbers
                numbers[column.name] = read(column, series)
            except DataError:
                continue
            known = numbers[column.name]
            how = _stretches(known, codes) if classes else _explains(known, codes)
        else:
            how = _levels(series, codes, classes=classes)
        if how is None and classes:
            how = _gaps(series, codes)
        if how is not None:
            found.append(
                f"column {column.name!r} gives {target!r} away: {how}; drop it if it is not known "
                "before the target is"
            )
            numbers.pop(column.name, None)
    if not classes:
        found += [
            f"columns {a!r} and {b!r} give {target!r} away together: they explain {r2:.4f} of its "
            "variance; drop them if they are not known before the target is"
            for a, b, r2 in _pairs(numbers, codes)
        ]
    return found


def _explains(known: np.ndarray, y: np.ndarray) -> str | None:
    """How one number explains another."""
    there = np.isfinite(known)
    if there.sum() < max(LEAST_ROWS, 0.5 * len(y)):
        return None
    x, z = known[there], y[there]
    if x.std() == 0 or z.std() == 0:
        return None
    r2 = _correlation(x, z) ** 2
    if r2 >= EXPLAINED:
        return f"it explains {r2:.4f} of its variance"
    if len(np.unique(x)) < 0.5 * len(x):
        return None
    order = _correlation(np.argsort(np.argsort(x)), np.argsort(np.argsort(z))) ** 2
    return "both have the same order" if order >= 0.9999 else None


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    x, y = x / (np.abs(x).max() or 1.0), y / (np.abs(y).max() or 1.0)
    length = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / length if length > 0 else 0.0


def _levels(series: pd.Series, codes: np.ndarray, *, classes: bool) -> str | None:
    """How categories, each of at least five rows on average, tell the target."""
    levels, spellings = values.levels(series)
    if not 2 <= len(spellings) <= len(codes) / 5:
        return None
    table = pd.DataFrame({"level": levels, "y": codes})
    if not classes:
        within = table["y"] - table.groupby("level")["y"].transform("mean")
        share = 1 - float((within**2).sum()) / float(((codes - codes.mean()) ** 2).sum() or 1.0)
        return f"its categories explain {share:.4f} of its variance" if share >= EXPLAINED else None
    counts = pd.crosstab(table["level"], table["y"]).to_numpy()
    pure = counts.max(axis=1).sum() / counts.sum()
    told = len(np.unique(counts.argmax(axis=1)))
    return "each of its values has one class" if pure >= EXPLAINED and told > 1 else None


def _stretches(known: np.ndarray, codes: np.ndarray) -> str | None:
    """Whether each class is one stretch of a number."""
    there = np.isfinite(known)
    if there.sum() < max(LEAST_ROWS, 0.5 * len(codes)):
        return None
    x, c = known[there], codes[there]
    count = len(np.unique(c))
    order = np.lexsort((c, x))
    back = np.lexsort((-c, x))
    changes = max(int((np.diff(c[o]) != 0).sum()) for o in (order, back))
    if count < 2 or changes > count - 1:
        return None
    return "each class is one stretch of its values"


def _gaps(series: pd.Series, codes: np.ndarray) -> str | None:
    """Whether a value is missing just where the row is of one class."""
    missing = series.isna().to_numpy()
    if not min(missing.sum(), (~missing).sum()) >= 5:
        return None
    inside, outside = set(codes[missing].tolist()), set(codes[~missing].tolist())
    return "it is missing just in rows of one class" if len(inside) == 1 and not (
        inside & outside
    ) else None  # fmt: skip


def _pairs(numbers: Mapping[str, np.ndarray], y: np.ndarray) -> Iterator[tuple[str, str, float]]:
    """The pair of numbers that explains the target best, where that is nearly all of it."""
    whole = {name: x for name, x in numbers.items() if np.isfinite(x).all() and x.std() > 0}
    if len(whole) < 2 or y.std() == 0:
        return
    to_y = {name: _correlation(x, y) for name, x in whole.items()}
    near = sorted(whole, key=lambda name: -abs(to_y[name]))[:PAIRS]
    best = ("", "", 0.0)
    for place, a in enumerate(near):
        for b in near[place + 1 :]:
            between = _correlation(whole[a], whole[b])
            if abs(between) > 0.9999:
                continue
            r2 = (to_y[a] ** 2 + to_y[b] ** 2 - 2 * to_y[a] * to_y[b] * between) / (1 - between**2)
            if r2 > best[2]:
                best = (a, b, r2)
    if best[2] >= EXPLAINED:
        yield best
