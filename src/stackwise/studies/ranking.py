"""Rank methods by what their runs scored."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from stackwise.runs import Run

if TYPE_CHECKING:
    import pandas as pd


def method_of(record: Mapping[str, Any]) -> str:
    """A run's method as a ranking names it: `tabm`, or `tabm (tuned)`."""
    variant = record.get("variant")
    return f"{record['slug']} ({variant})" if variant else str(record["slug"])


def was_cut(record: Mapping[str, Any]) -> bool:
    """Whether a time limit ended the fit of a run."""
    return any("time limit" in note for note in record.get("notes") or [])


def rank(
    finished: Iterable[Run], intervals: Mapping[str, tuple[float, float]] | None = None
) -> "pd.DataFrame":
    """Rank methods over seeds.

    Args:
        intervals: of the mean test scores, by method, see `stackwise.studies.difference`.

    Returns:
        One row a method, best mean test score first: `method`, `slug`, `mean`, `low` and `high`
        (its 95 % interval; not a number where none is given), `rank` (mean over seeds),
        `validation` (mean), `fit_seconds`, `predict_ms` (per 1000 rows), `size_mb`, `seeds`, and
        `cut`: whether a time limit ended the fit of one.
    """
    import pandas as pd

    records = [run.record for run in finished]
    metric, mode = records[0]["metric"]["name"], records[0]["metric"]["mode"]
    scores = pd.DataFrame(
        {
            "method": [method_of(record) for record in records],
            "slug": [record["slug"] for record in records],
            "seed": [record["seed"] for record in records],
            "test": [record["scores"]["test"][metric] for record in records],
            "validation": [record["scores"]["validation"][metric] for record in records],
            "fit_seconds": [record["seconds"]["fit"] for record in records],
            "predict_ms": [record["seconds"]["predict_per_1000_rows"] * 1e3 for record in records],
            "size_mb": [record["size_bytes"] / 1e6 for record in records],
            "cut": [was_cut(record) for record in records],
        }
    ).astype({"test": float, "validation": float})
    scores["rank"] = scores.groupby("seed")["test"].rank(ascending=mode == "min")
    rows = []
    for method, part in scores.groupby("method"):
        low, high = (intervals or {}).get(str(method), (math.nan, math.nan))
        rows.append(
            {
                "method": method,
                "slug": part["slug"].iloc[0],
                "mean": math.fsum(part["test"]) / len(part),
                "low": low,
                "high": high,
                "rank": part["rank"].mean(),
                "validation": part["validation"].mean(),
                "fit_seconds": part["fit_seconds"].median(),
                "predict_ms": part["predict_ms"].median(),
                "size_mb": part["size_mb"].median(),
                "seeds": len(part),
                "cut": bool(part["cut"].any()),
            }
        )
    table = pd.DataFrame(rows).sort_values("mean", ascending=mode == "min")
    return table.reset_index(drop=True)
