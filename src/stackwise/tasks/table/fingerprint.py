"""Say of two loaded tables whether they are the same data."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from pandas.core.util.hashing import hash_pandas_object

from stackwise.files import plain


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
