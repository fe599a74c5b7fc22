"""Write results/comparison/comparison.json from a finished comparison of several tables.

    stackwise compare results/comparison/tables.toml --preset quick --stack --threads 1 --out bench
    python scripts/record_comparison.py bench

The record says which command, code and machine the numbers come from.
"""

import sys
from pathlib import Path

from stackwise.files import read_json, write_json
from stackwise.runs import find

ROOT = Path(__file__).parents[1]


def main(folder: Path) -> None:
    """Join the benchmark's record with where it comes from."""
    records = [run.record for run in find(folder) if run.finished]
    plan = read_json(folder / "plan.json")
    sizes = {record["data"]["name"]: record["data"]["rows"] for record in records}
    about = {
        "command": plan["command"].replace(str(folder), "bench").replace(" --resume", ""),
        "commits": sorted({str(record["commit"]) for record in records}),
        "machine": records[0]["machine"],
        "versions": records[0]["versions"],
        "date": max(record["started"] for record in records)[:10],
        "fit_seconds": round(sum(record["seconds"]["fit"] for record in records)),
        "rows": sizes,
        "preset": plan["settings"]["preset"],
        "seeds": plan["settings"]["seeds"],
    }
    write_json(
        ROOT / "results" / "comparison" / "comparison.json",
        about | read_json(folder / "benchmark.json"),
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("python scripts/record_comparison.py FOLDER")
    main(Path(sys.argv[1]))
