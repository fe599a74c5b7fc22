"""The small collection of the tests as files, in BEIR's layout."""

import json
from pathlib import Path

from stackwise.tasks.retrieval.small import small_collection


def beir(folder: Path) -> Path:
    """Write corpus.jsonl, queries.jsonl and qrels.tsv into a folder; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    found = small_collection()
    for name, key in (("corpus", "documents"), ("queries", "queries")):
        lines = "".join(json.dumps(one) + "\n" for one in found[key])
        (folder / f"{name}.jsonl").write_text(lines)
    rows = "".join(f"{q}\t{d}\t{s}\n" for q, d, s in found["judgements"])
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    return folder
