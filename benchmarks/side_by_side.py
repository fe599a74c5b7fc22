"""Time two things in turn, in one process, and print the comparison as one JSON line.

Costs drift with the clock, the cache and the neighbours of a machine. Runs of ours and of the
peer therefore alternate, and which of the two goes first alternates too; medians are compared.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter

ENDING = """
seconds = time.perf_counter() - began
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print("\\n", seconds, peak, flush=True)
"""
LEVEL = 0.95
"""The lowest ratio that needs no reason."""


def seconds_of(action: Callable[[], object]) -> float:
    """Wall-clock seconds that one call takes."""
    start = perf_counter()
    action()
    return perf_counter() - start


def alternate(
    ours: Callable[[], object], peer: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """Median seconds of `repeats` alternating calls of each, after one call of each to warm up.

    Returns:
        (ours, peer), seconds a call.
    """
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}; at least 1 is needed")
    ours()
    peer()
    our_seconds: list[float] = []
    peer_seconds: list[float] = []
    for turn in range(repeats):
        pair = [(ours, our_seconds), (peer, peer_seconds)]
        for action, seconds in pair if turn % 2 == 0 else reversed(pair):
            seconds.append(seconds_of(action))
    return median(our_seconds), median(peer_seconds)


def in_a_process(script: str, *arguments: object) -> tuple[float, float]:
    """Seconds and peak MiB of a script in a process of its own.

    This process should hold nothing large: a child's peak begins with that of its parent.

    Args:
        script: imports sys, time and resource, and sets `began` where its seconds begin.
        arguments: `sys.argv[1:]` of it.
    """
    done = subprocess.run(
        [sys.executable, "-c", script + ENDING, *map(str, arguments)],
        capture_output=True, text=True, check=True, env=os.environ | {"TQDM_DISABLE": "1"},
    )  # fmt: skip
    seconds, peak = done.stdout.split()[-2:]
    return float(seconds), float(peak)


def line(
    case: str,
    ours: float,
    peer: float,
    peer_name: str,
    unit: str,
    dtype: str,
    threads: int,
    reason: str | None = None,
) -> dict[str, object]:
    """Print one case as a JSON line, and return it.

    `ours` and `peer` are costs in `unit` (seconds, MiB, bytes: less is better), and
    ratio = peer / ours, so that above 1 we are cheaper. A ratio below 0.95 needs a `reason`.
    """
    ratio = peer / ours if ours else float("inf")
    row: dict[str, object] = {
        "case": case,
        "ours": float(f"{ours:.4g}"),
        "peer": float(f"{peer:.4g}"),
        "peer_name": peer_name,
        "ratio": round(ratio, 3),
        "unit": unit,
        "dtype": dtype,
        "threads": threads,
    }
    if ratio < LEVEL:
        row["reason"] = reason or "not explained"
    print(json.dumps(row), flush=True)
    return row
