"""Memory of indexing and searching, each case in a process of its own; by hand, minutes.

    python benchmarks/large/retrieval.py           writes results/benchmarks/large/retrieval.json

- 10,000 passages, indexed from their texts by a small new encoder: within 2 GiB.
- An index of 100,000 passages of stored vectors (128 numbers a text, 20 to 50 words of 32 numbers),
  written segment by segment, opened and searched 100 times: within 4 GiB.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from stackwise.files import write_json
from stackwise.machine import commit, machine, versions

HERE = Path(__file__).parent
RESULT = HERE.parents[1] / "results" / "benchmarks" / "large" / "retrieval.json"
CASES = {"10,000 passages from texts": ("texts", 2.0), "100,000 stored passages": ("stored", 4.0)}


def from_texts() -> dict[str, float]:
    """Seconds of indexing."""
    from stackwise.build.colberter import ColBERTerRetriever

    generator = np.random.default_rng(0)
    vocabulary = np.array([f"word{n}" for n in range(5000)])
    texts = [" ".join(generator.choice(vocabulary, 40)) for _ in range(10_000)]
    learner = ColBERTerRetriever(
        encoder=None, layers=1, width=32, heads=2, vocabulary=1000, max_epochs=1, most_pairs=200,
        threads=1,
    )  # fmt: skip
    learner.fit([text[:40] for text in texts[:200]], texts[:200])
    began = time.monotonic()
    learner.index(texts)
    return {"index_seconds": time.monotonic() - began} | learner.storage()


def from_stored() -> dict[str, float]:
    """Milliseconds of a query."""
    from stackwise.build.colberter.index.folder import A_SEGMENT, Index
    from stackwise.build.colberter.index.searching import QueryVectors, search_index
    from stackwise.build.colberter.index.segment import Encoded
    from stackwise.tasks.retrieval.collection import Document

    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        index = Index.create(Path(folder) / "index", {"kind": "float16", "exact_match": False})
        began = time.monotonic()
        for start in range(0, 100_000, A_SEGMENT):
            counts = generator.integers(20, 51, A_SEGMENT)
            index.add_encoded(
                [Document(str(n), f"text {n}") for n in range(start, start + A_SEGMENT)],
                Encoded(
                    generator.normal(size=(A_SEGMENT, 128)),
                    generator.normal(size=(counts.sum(), 32)),
                    generator.integers(1, 2**32, counts.sum()),
                    np.concatenate([[0], np.cumsum(counts)]), np.arange(A_SEGMENT),
                ),
            )  # fmt: skip
        written = time.monotonic() - began
        opened = Index.open(Path(folder) / "index")
        seconds = []
        for _ in range(100):
            query = QueryVectors(
                generator.normal(size=128).astype(np.float32),
                generator.normal(size=(8, 32)).astype(np.float32), np.arange(1, 9), 0.5, False,
            )  # fmt: skip
            began = time.monotonic()
            search_index(opened, query, 10, "cls+bow", 1000)
            seconds.append(time.monotonic() - began)
        return {
            "write_seconds": written, "first_query_ms": 1000 * seconds[0],
            "query_ms": 1000 * float(np.median(seconds)), "bytes": float(opened.bytes_on_disk()),
        }  # fmt: skip


def main() -> None:
    """Each case in a process of its own."""
    if len(sys.argv) > 1:
        found = from_texts() if sys.argv[1] == "texts" else from_stored()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps(found | {"peak_gib": peak}))
        return
    cases = []
    for name, (kind, limit) in CASES.items():
        done = subprocess.run(
            [sys.executable, __file__, kind], stdout=subprocess.PIPE, text=True, check=True
        )
        found = json.loads(done.stdout.splitlines()[-1])
        cases.append(
            {"case": name, "limit_gib": limit, "within": found["peak_gib"] <= limit} | found
        )
        print(cases[-1], flush=True)
    write_json(RESULT, {
        "cases": cases, "commit": commit(), "machine": machine(), "versions": versions(),
    })  # fmt: skip


if __name__ == "__main__":
    main()
