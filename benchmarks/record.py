"""Run the benchmarks and keep their rows with where they come from, in results/benchmarks.

    python benchmarks/record.py [NAME ...]

Each script prints one JSON line a case; a script that fails keeps its old result.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from stackwise.files import write_json
from stackwise.machine import commit, machine, versions

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "benchmarks"
PARTS = {"record", "side_by_side"}
"""Modules of this folder that are no benchmarks."""


def names() -> list[str]:
    """The benchmarks that there are."""
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in PARTS)


def record(name: str) -> bool:
    """Run one and write its result; False where it failed."""
    command = [sys.executable, str(HERE / f"{name}.py")]
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(f"{name} failed with exit code {done.returncode}", file=sys.stderr)
        return False
    found = {
        "slug": name,
        "cases": [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")],
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
        "seconds": round(time.perf_counter() - started, 1),
        "command": f"python benchmarks/{name}.py",
    }
    write_json(RESULTS / f"{name}.json", found)
    print(f"{name}: {len(found['cases'])} cases in {found['seconds']} s", flush=True)
    return True


def main() -> None:
    """Run those named, or all."""
    wanted = sys.argv[1:] or names()
    unknown = sorted(set(wanted) - set(names()))
    if unknown:
        sys.exit(f"there is no benchmark {', '.join(unknown)}; there is {', '.join(names())}")
    failed = [name for name in wanted if not record(name)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
