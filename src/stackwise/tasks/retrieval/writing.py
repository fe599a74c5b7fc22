"""Write what was found for many queries: a line of JSON each, or a TREC run."""

import inspect
import json
from collections import Counter
from pathlib import Path
from typing import Any

from stackwise.errors import DataError, KnobError
from stackwise.files import replacing
from stackwise.tasks.retrieval.reading import read_queries

RUNS = (".trec", ".run")
"""Endings of a run as trec_eval and ir-measures read it: query Q0 document rank score name."""


def write_rankings(
    path: Path | str, learner: Any, source: Any, k: int, dim: int | None = None
) -> int:
    """Write the first k documents of each query of `source`; returns how many queries there are.

    Args:
        dim: numbers of each vector that are compared, of a learner whose `rank` takes them.

    Raises:
        DataError: there are no queries, or a query is blank. KnobError: no vector can be cut.
    """
    given = {} if dim is None else {"dim": dim}
    if given and "dim" not in inspect.signature(learner.rank).parameters:
        raise KnobError(
            f"a {type(learner).__name__} compares no vectors that could be cut to {dim} numbers; "
            "leave --dim out"
        )
    path = Path(path)
    queries = list(read_queries(source))
    if not queries:
        raise DataError(f"{source} holds no queries")
    blank = next((one.id for one in queries if not one.text.strip()), None)
    if blank is not None:
        raise DataError(f"query {blank!r} is blank; leave it out")
    names = Counter(one.id for one in queries)
    twice = next((name for name, times in names.items() if times > 1), None)
    if twice is not None:
        raise DataError(f"two queries of {source} have the id {twice!r}")
    rankings = learner.rank([one.text for one in queries], k, **given)
    with replacing(path) as beside, open(beside, "w", encoding="utf-8") as file:
        for query, (ids, scores) in zip(queries, rankings, strict=True):
            if path.suffix in RUNS:
                for rank, (one, score) in enumerate(zip(ids, scores, strict=True), start=1):
                    file.write(f"{query.id} Q0 {one} {rank} {float(score):.6f} stackwise\n")
                continue
            found = [{"id": one, "score": float(score)} for one, score in zip(ids, scores)]
            line = {"query_id": query.id, "query": query.text, "results": found}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return len(queries)
