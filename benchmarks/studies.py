"""A comparison on two workers against one: how much sooner the same numbers are there.

The same fits of the plain MLP, one thread each, in this process, on a pool of two processes, and on
a Ray cluster of two CPUs (where ray is installed). Both sides include starting their processes.
Three sizes of a run show from which length on workers pay.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from side_by_side import line, seconds_of
from stackwise.studies import compare
from stackwise.tasks.table.task import TableTask

SIZES = {"1,000 rows": (1_000, 20), "4,000 rows": (4_000, 20), "12,000 rows": (12_000, 20)}
REPEATS = 2
SEEDS = 4


def comparison(task: TableTask, epochs: int, **where: Any) -> Callable[[], object]:
    """What runs the whole comparison in a folder of its own."""

    def run() -> None:
        folder = Path(tempfile.mkdtemp(prefix="stackwise-bench-"))
        try:
            compare(
                task, out=folder / "study", methods=["mlp"], seeds=SEEDS, threads=1,
                knobs={"mlp": {"max_epochs": epochs, "patience": None}}, **where,
            )  # fmt: skip
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    return run


def measure(case: str, task: TableTask, epochs: int, **where: Any) -> None:
    """Print how long both take, in turn."""
    one, two = comparison(task, epochs), comparison(task, epochs, **where)
    two()  # the workers' first start reads every library from the disk
    seconds: dict[str, list[float]] = {"one": [], "two": []}
    for turn in range(REPEATS):
        for name, run in [("one", one), ("two", two)][:: 1 if turn % 2 == 0 else -1]:
            seconds[name].append(seconds_of(run))
    line(
        f"{case}, {SEEDS} runs of {epochs} epochs", median(seconds["two"]), median(seconds["one"]),
        "the same study in one process", "s", "float32", 1,
        "starting processes and sending the table costs more than such short runs",
    )  # fmt: skip


def main() -> None:
    """Print a line a case."""
    tasks = {name: TableTask.load("diamonds", max_rows=rows) for name, (rows, _) in SIZES.items()}
    for name, (_, epochs) in SIZES.items():
        measure(f"pool of 2 workers, {name}", tasks[name], epochs, workers=2)
    try:
        import ray
    except ImportError:
        return
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    for name, (_, epochs) in SIZES.items():
        measure(f"Ray with 2 CPUs, {name}", tasks[name], epochs, on="ray")
    ray.shutdown()


if __name__ == "__main__":
    main()
