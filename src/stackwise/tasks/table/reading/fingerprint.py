"""Say of two loaded tables, or of two columns, whether they are the same data."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.core.util.hashing import hash_pandas_object

from stackwise.files import plain
from stackwise.tasks.labelled import values


def fingerprint(
    parts: Mapping[Any, tuple[pd.DataFrame, np.ndarray]],
    target: str,
    problem: str,
    options: Mapping[str, Any],
) -> str:
    """SHA-256 over names, types, values and order of every part, and the options; 16 digits."""
    digest = hashlib.sha256(json.dumps(plain(dict(options)), sort_keys=True).encode())
    digest.update(f"{target}\0{problem}".encode())
    for part in sorted(parts):
        X, y = parts[part]
        digest.update(f"\0{part}".encode() + np.ascontiguousarray(y).tobytes())
        for name in X.columns:
            digest.update(f"\0{name}\0{X[name].dtype}".encode())
            try:
                hashed = hash_pandas_object(X[name], index=False)
            except TypeError:  # lists and dictionaries
                hashed = hash_pandas_object(X[name].map(repr), index=False)
            digest.update(hashed.to_numpy().tobytes())
    return digest.hexdigest()[:16]


def content_of(series: pd.Series) -> bytes:
    """A digest of the values: equal for equal content, whatever the type."""
    digest = hashlib.blake2b(digest_size=16)
    if values.is_numeric(series) and not values.beyond_floats(series):
        found = values.floats(series) + 0.0  # no negative zero
        digest.update(np.where(np.isnan(found), np.nan, found).tobytes())
        return digest.digest()
    codes, spellings = values.levels(series)
    _, first, again = np.unique(codes, return_index=True, return_inverse=True)
    digest.update(np.argsort(np.argsort(first))[again].astype(np.int64).tobytes())
    order: Sequence[int] = codes[np.sort(first)].tolist()
    digest.update("\0".join("" if i < 0 else "=" + spellings[i] for i in order).encode())
    return digest.digest()
