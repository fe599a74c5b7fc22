"""Rank methods by what their runs scored, with the uncertainty over seeds."""

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


def rank(finished: Iterable[Run]) -> "pd.DataFrame":
    """Rank methods over seeds.

    Returns:
        One row a method, best mean test score first: `method`, `slug`, `mean`, `low` and `high`
        (95 % interval of the mean, Student's t over seeds; empty with one seed), `rank` (mean over
        seeds), `validation` (mean), `fit_seconds`, `predict_ms` (per 1000 rows), `size_mb`,
        `seeds`.
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
        }
    ).astype({"test": float, "validation": float})
    scores["rank"] = scores.groupby("seed")["test"].rank(ascending=mode == "min")
    rows = []
    for method, part in scores.groupby("method"):
        mean, low, high = interval(part["test"].to_list())
        rows.append(
            {
                "method": method,
                "slug": part["slug"].iloc[0],
                "mean": mean,
                "low": low,
                "high": high,
                "rank": part["rank"].mean(),
                "validation": part["validation"].mean(),
                "fit_seconds": part["fit_seconds"].median(),
                "predict_ms": part["predict_ms"].median(),
                "size_mb": part["size_mb"].median(),
                "seeds": len(part),
            }
        )
    table = pd.DataFrame(rows).sort_values("mean", ascending=mode == "min")
    return table.reset_index(drop=True)


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and its 95 % interval by Student's t; not a number where there is one value."""
    from scipy.special import stdtrit

    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return mean, math.nan, math.nan
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    reach = float(stdtrit(count - 1, 0.975)) * spread / math.sqrt(count)
    return mean, mean - reach, mean + reach
