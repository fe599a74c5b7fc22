"""The committed comparison with AutoGluon, as a section of docs/compare.md."""

from collections import defaultdict
from statistics import fmean
from typing import Any


def ahead(row: dict[str, Any]) -> bool:
    """Whether ours is the better score of a table and split."""
    better = row["ours"] < row["autogluon"]
    return bool(better if row["mode"] == "min" else row["ours"] > row["autogluon"])


def beside_rows(record: dict[str, Any]) -> list[tuple[Any, ...]]:
    """A row a table: mean test scores over the splits, on how many ours is ahead, CPU seconds."""
    tables = defaultdict(list)
    for row in record["rows"]:
        tables[row["table"]].append(row)
    return [
        (
            f"{name}, {rows[0]['metric']}",
            *(f"{fmean(row[who] for row in rows):.4g}" for who in ("ours", "autogluon")),
            f"{sum(map(ahead, rows))} of {len(rows)}",
            *(f"{fmean(row['cpu_seconds'][who] for row in rows):.0f}"
              for who in ("ours", "autogluon")),
            ", ".join(sorted({row["ours_kept"] for row in rows})),
        )
        for name, rows in tables.items()
    ]  # fmt: skip


def beside_words(record: dict[str, Any], machine: str) -> str:
    """How it was measured, and how often ours is ahead."""
    rows, theirs = record["rows"], record["autogluon"]
    return (
        f"AutoGluon {theirs['version']} ({theirs['preset']}) beside the kept model of "
        f"`stackwise compare --preset quick --stack`, each with one thread and "
        f"{record['seconds_a_table']:g} s for a table, over three splits; ours is ahead on "
        f"{sum(map(ahead, rows))} of {len(rows)}. {machine}, commit `{record['commit']}`, "
        f"{record['date']}; its environment is its own, the commands stand in "
        "`results/comparison/autogluon.json`."
    )
