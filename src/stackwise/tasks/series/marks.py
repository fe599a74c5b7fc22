"""How series are known before they are read: by the ending `.ts`, by name, by three dimensions.

A csv or a parquet file is a table by itself; `--task series`, or an option that series alone have,
says that it holds series.
"""

import os
from pathlib import Path
from typing import Any

from stackwise.marks import ending, holds, is_named, is_path

ENDINGS = (".ts",)
"""Files of series in the form that aeon and sktime share."""
SERIES = "series"
"""What a sample is called."""


def recognises(source: Any) -> float:
    """A named set and a `.ts` file surely, a folder of such files nearly; arrays of three
    dimensions, and .npz and .npy, less than who reads pictures from them.
    """
    if not is_path(source):
        first = source[0] if isinstance(source, (list, tuple)) and len(source) else source
        return 0.6 if getattr(first, "ndim", 0) == 3 else 0.0
    if is_named(source, "series"):
        return 1.0
    found = ending(source)
    if found in ENDINGS:
        return 1.0
    if found in (".npy", ".npz"):
        return 0.2
    folder = Path(os.fspath(source))
    return 0.9 if folder.is_dir() and holds(source, ENDINGS) else 0.0
