"""Half a million rows of fifty columns: one epoch and all predictions stay below 4 GiB."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

ROWS = 500_000
PIECE = 50_000
LIMIT = 4 * 2**30
CARDINALITIES = (2, 5, 12, 25, 40, 60, 100, 3000)

MEASURED = """
import sys
from stackwise.cli import main
try:
    main()
finally:
    with open("/proc/self/status") as status:
        peak = next(line.split()[1] for line in status if line.startswith("VmHWM"))
    print("peak", int(peak) * 1024, file=sys.stderr)
"""


def write_table(path: Path) -> None:
    """40 numbers, of which ten have gaps, 8 categories, a date, and a target that follows x1."""
    generator = np.random.default_rng(0)
    writer = None
    for _ in range(0, ROWS, PIECE):
        columns = {}
        for i in range(40):
            gaps = generator.random(PIECE) < 0.05 if i % 4 == 0 else None
            columns[f"x{i}"] = pa.array(generator.normal(size=PIECE).round(4), mask=gaps)
        for count in CARDINALITIES:
            levels = np.array([f"level {j}" for j in range(count)])
            columns[f"of {count}"] = pa.array(levels[generator.integers(0, count, PIECE)])
        days = generator.integers(15_000, 20_000, PIECE).astype(np.int32)
        columns["day"] = pa.array(days, pa.date32())
        columns["y"] = pa.array(columns["x1"].to_numpy() * 2 + generator.normal(size=PIECE))
        table = pa.table(columns)
        writer = writer or pyarrow.csv.CSVWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None and table.num_columns == 50
    writer.close()


def peak_bytes(*words: str) -> int:
    """The most memory that a command held, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *words], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return int(done.stderr.split("peak ")[-1])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads its memory from /proc")
def test_half_a_million_rows_of_fifty_columns_train_and_predict_within_4_gib(tmp_path):
    table, run, answers = tmp_path / "t.csv", tmp_path / "run", tmp_path / "predictions.parquet"
    write_table(table)
    knobs = ("k=8", "max_epochs=1", "width=64", "depth=1", "batch_size=4096")
    sets = [word for knob in knobs for word in ("--set", knob)]
    fitting = peak_bytes(
        "fit", "tabm", str(table), "--target", "y", "--out", str(run), "--threads", "1",
        "--json", *sets,
    )  # fmt: skip
    predicting = peak_bytes("predict", str(run), str(table), "-o", str(answers), "--json")
    assert pyarrow.parquet.read_metadata(answers).num_rows == ROWS
    assert fitting < LIMIT
    # streamed: a piece of the file and the libraries, far from the 200 MB of text as a table
    assert predicting < fitting < LIMIT
    print(f"peak {fitting / 2**30:.2f} GiB in fit, {predicting / 2**30:.2f} GiB in predict")
