"""Memory of training on many pictures, each case in a process of its own; by hand, minutes.

    python benchmarks/large/pictures.py            writes results/benchmarks/large/pictures.json

- 100,000 pictures of 32 x 32 in an array, one epoch of a small residual CNN: within 2 GiB.
- A folder of 20,000 JPEGs of a megapixel, brought to 64 x 64, an epoch: within 3 GiB. The folder
  is made of 200 different pictures, each under 100 names (hard links), so that it is made within
  seconds; every one of the files is opened and decoded.
- The same folder at 224 x 224, which does not fit into 1 GiB and is decoded ahead in training.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from stackwise.files import write_json
from stackwise.machine import commit, machine, versions

HERE = Path(__file__).parent
RESULT = HERE.parents[1] / "results" / "benchmarks" / "large" / "pictures.json"
CASES = {
    "100,000 pictures of 32 x 32 in an array": ("array", 2.0),
    "20,000 JPEGs of a megapixel, to 64 x 64": ("held", 3.0),
    "4,000 JPEGs of a megapixel, to 224 x 224, --memory 0.25GiB": ("streamed", None),
}
SMALL = {"width": 8, "n_blocks": 1, "max_epochs": 1, "min_steps": 0, "threads": 2}


def folder_of(place: Path, count: int, different: int = 200) -> Path:
    """JPEGs of 1,152 x 864 in two classes."""
    rng = np.random.default_rng(0)
    for number in range(count):
        here = place / f"class{number % 2}"
        here.mkdir(parents=True, exist_ok=True)
        path = here / f"{number}.jpg"
        if number < different:
            coarse = Image.fromarray(rng.integers(0, 256, (27, 36, 3), dtype=np.uint8))
            coarse.resize((1152, 864), Image.Resampling.BICUBIC).save(path, quality=90)
        else:
            first = number % different
            os.link(place / f"class{first % 2}" / f"{first}.jpg", path)
    return place


def train(kind: str, place: str) -> None:
    """One epoch; prints the peak of memory and the seconds as JSON."""
    from stackwise.tasks.images.baselines.residual_cnn import ResidualCNNClassifier
    from stackwise.tasks.images.task import ImagesTask

    began = time.monotonic()
    if kind == "array":
        rng = np.random.default_rng(0)
        pictures = rng.integers(0, 256, (100_000, 32, 32, 3), dtype=np.uint8)
        task = ImagesTask.load((pictures, rng.integers(0, 10, 100_000)))
        del pictures
    elif kind == "held":
        task = ImagesTask.load(place, image_size=64)
    else:
        task = ImagesTask.load(place, image_size=224, memory="0.25GiB")
    loaded = time.monotonic() - began
    task.fit(ResidualCNNClassifier(**SMALL | ({"width": 4} if kind == "streamed" else {})))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = {"peak_gib": round(peak, 3), "load_seconds": round(loaded, 1),
             "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
    print(json.dumps(found))


def main() -> None:
    """All cases; the result is written."""
    rows = []
    for name, (kind, most) in CASES.items():
        with tempfile.TemporaryDirectory() as made:
            count = {"held": 20_000, "streamed": 4_000, "array": 0}[kind]
            place = folder_of(Path(made), count) if count else Path(made)
            command = [sys.executable, __file__, kind, str(place)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{name}: {done.stderr[-2000:]}")
        rows.append({"case": name, "most_gib": most} | json.loads(done.stdout.splitlines()[-1]))
        print(json.dumps(rows[-1]), flush=True)
    write_json(RESULT, {
        "cases": rows, "commit": commit(), "machine": machine(), "versions": versions(),
        "command": "python benchmarks/large/pictures.py",
    })  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) == 3:
        train(*sys.argv[1:])
    else:
        main()
