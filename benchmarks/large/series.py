"""Memory of scoring a long series, each case in a process of its own; by hand, minutes to an hour.

    python benchmarks/large/series.py [MOMENTS]     writes results/benchmarks/large/series.json

A parquet file of 38 channels and MOMENTS moments (10,000,000 by default) is written in row groups.
Detectors are fitted on a normal span of it, of which they take at most 100,000 moments, and score
the whole file into another one: within 4 GiB, whatever its length.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stackwise.files import write_json
from stackwise.machine import commit, machine, versions

HERE = Path(__file__).parent
RESULT = HERE.parents[1] / "results" / "benchmarks" / "large" / "series.json"
MOST = 4.0
CHANNELS, GROUP = 38, 100_000
CASES = ("z-score", "stackvae-g")


def write_series(path: Path, moments: int) -> None:
    """38 slow waves with noise, one row group after another."""
    rng = np.random.default_rng(0)
    rates = rng.uniform(20, 200, CHANNELS)
    writer = None
    for start in range(0, moments, GROUP):
        place = np.arange(start, min(start + GROUP, moments))
        values = np.sin(place[:, None] / rates) + rng.normal(0, 0.2, (len(place), CHANNELS))
        columns = {"t": place} | {f"c{i}": values[:, i].astype(np.float32) for i in range(CHANNELS)}
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def score(kind: str, place: str) -> None:
    """Fit on the beginning, score all; prints the peak of memory and the seconds as JSON."""
    from stackwise.build.stackvae_g import StackVAEGDetector
    from stackwise.tasks.anomalies.baselines.z_score import ZScoreDetector
    from stackwise.tasks.anomalies.task import AnomaliesTask
    from stackwise.tasks.anomalies.writing import write_predictions

    began = time.monotonic()
    source = Path(place) / "series.parquet"
    task = AnomaliesTask.load(source, time="t", max_rows=100_000)
    loaded = time.monotonic() - began
    detector = ZScoreDetector()
    if kind == "stackvae-g":
        detector = StackVAEGDetector(
            window=32, hidden=32, latent=6, max_epochs=1, batch_size=512, threads=2
        )
    task.fit(detector)
    fitted = time.monotonic() - began
    del task
    rows = write_predictions(Path(place) / "scores.parquet", detector, source)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = {"rows": rows, "peak_gib": round(peak, 3), "load_seconds": round(loaded, 1),
             "fit_seconds": round(fitted - loaded, 1),
             "score_seconds": round(time.monotonic() - began - fitted, 1)}  # fmt: skip
    print(json.dumps(found))


def main(moments: int) -> None:
    """All cases; the result is written."""
    rows = []
    with tempfile.TemporaryDirectory() as made:
        write_series(Path(made) / "series.parquet", moments)
        for kind in CASES:
            command = [sys.executable, __file__, kind, made]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{kind}: {done.stderr[-2000:]}")
            case = {"case": f"{kind} on {moments:,} x {CHANNELS}", "most_gib": MOST}
            rows.append(case | json.loads(done.stdout.splitlines()[-1]))
            print(json.dumps(rows[-1]), flush=True)
    write_json(RESULT, {
        "cases": rows, "commit": commit(), "machine": machine(), "versions": versions(),
        "command": f"python benchmarks/large/series.py {moments}",
    })  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) == 3:
        score(*sys.argv[1:])
    else:
        main(int(sys.argv[1]) if len(sys.argv) == 2 else 10_000_000)
