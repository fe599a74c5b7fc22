"""Memory of mapping a scene that is larger than memory should be; by hand, minutes.

    python benchmarks/large/scene.py [SIDE]      writes results/benchmarks/large/scene.json

A scene of SIDE x SIDE pixels (10,000 by default) in ten bands of 16 bits, in tiles of 256, is
written strip by strip, learned from and mapped with remote-sensing-sae in a process of its own:
within 3 GiB.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from stackwise.files import write_json
from stackwise.machine import commit, machine, versions
from stackwise.tasks.rasters.small import made_scene

HERE = Path(__file__).parent
RESULT = HERE.parents[1] / "results" / "benchmarks" / "large" / "scene.json"
MOST = 3.0
BANDS = 10


def write_scene(path: Path, side: int) -> None:
    """A made scene of 500 x 500, again and again, with noise of its own in each strip."""
    rng = np.random.default_rng(0)
    small, _ = made_scene(500, rng.uniform(0.1, 0.9, (6, BANDS)))
    across = np.tile(small, (1, 1, -(-side // 500)))[:, :, :side]
    with rasterio.open(
        path, "w", driver="GTiff", height=side, width=side, count=BANDS, dtype="uint16",
        tiled=True, crs="EPSG:32754", transform=from_origin(0, 0, 10, 10), bigtiff="if_safer",
    ) as dataset:  # fmt: skip
        for top in range(0, side, 500):
            rows = min(500, side - top)
            strip = across[:, :rows] + rng.normal(0, 0.01, (BANDS, rows, 1))
            values = (10_000 * strip).clip(1, 65_535).astype("uint16")
            dataset.write(values, window=Window(0, top, side, rows))


def map_scene(path: str) -> None:
    """Fit and map; prints the peak of memory and the seconds as JSON."""
    from stackwise.build.remote_sensing_sae import SpectralMapper
    from stackwise.tasks.rasters.maps.writing import write_predictions

    began = time.monotonic()
    mapper = SpectralMapper(n_clusters=6, batch_size=1024, lr=5e-3, threads=1).fit(path)
    fitted = time.monotonic() - began
    pixels = write_predictions(Path(path).with_name("units.tif"), mapper, path, confidence=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = {"pixels": pixels, "peak_gib": round(peak, 3), "fit_seconds": round(fitted, 1),
             "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
    print(json.dumps(found))


def main(side: int) -> None:
    """The case; the result is written, and an error where it took more memory."""
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "scene.tif"
        write_scene(path, side)
        size = path.stat().st_size / 2**30
        command = [sys.executable, __file__, "map", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    case = f"{side:,} x {side:,} x {BANDS} of 16 bits, {size:.2f} GiB on disk"
    row = {"case": case, "most_gib": MOST} | json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(row), flush=True)
    write_json(RESULT, {
        "cases": [row], "commit": commit(), "machine": machine(), "versions": versions(),
        "command": f"python benchmarks/large/scene.py {side}",
    })  # fmt: skip
    if row["peak_gib"] > MOST:
        sys.exit(f"it took {row['peak_gib']} GiB, more than {MOST}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["map"]:
        map_scene(sys.argv[2])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
