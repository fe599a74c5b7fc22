"""A square map on frozen MiniLM vectors that learns from pairs, searched by its first numbers.

Docstrings of Python's standard library, those of the evidence of colberter: a query is a summary
line, its one answer the rest of that docstring, cut to 80 tokens. Queries are parted anew by each
seed: half teach, a tenth says which epoch was best, and the others are asked once, among all
documents. The rivals are MiniLM's own vectors, cut to the same sizes, and turned by a PCA of all
documents, which needs no pairs. Knobs are the defaults of the retriever.
"""

from itertools import islice
from typing import Any, cast

import numpy as np
from sklearn.decomposition import PCA

from stackwise.data.search_sets import different_docstrings, standard_library
from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.tasks.retrieval.measures import ndcg, recall
from stackwise.tasks.retrieval.retriever import best_of
from stackwise.tasks.retrieval.task import RetrievalTask
from stackwise.train.matryoshka.retrieval import unit_prefixes
from stackwise.train.matryoshka.searching.network import MappedMeans
from stackwise.train.matryoshka.searching.retriever import MatryoshkaRetriever

TOKENS, FIRST = 80, 10
SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"documents": 40, "seeds": (0,), "few": (8,), "knobs": {
        "model": None, "layers": 1, "width": 16, "heads": 2, "vocabulary": 300, "max_epochs": 1}},
    "cpu": {"documents": 600, "seeds": (0, 1, 2), "few": (12, 24, 48), "knobs": {}},
    "gpu": {"documents": 8000, "seeds": (0, 1, 2), "few": (12, 24, 48), "knobs": {}},
}  # fmt: skip
STATEMENTS = {
    "search-beats-the-cut": "At 12, 24 and 48 of 384 numbers, a map learned from pairs of texts is "
    "ahead of MiniLM's own vectors cut to as many, in nDCG@10 of queries never seen.",
    "search-beats-pca": "At 12, 24 and 48 numbers it is ahead of MiniLM's vectors turned by PCA.",
    "search-loses-nothing": "With all 384 numbers it is at most 0.01 behind MiniLM's own vectors.",
}


def measure(scale: Scale) -> list[Claim]:
    """The claims on search."""
    settings = SETTINGS[scale]
    drawn = list(islice(different_docstrings(standard_library()), settings["documents"]))
    documents = [{"_id": place, "text": rest} for place, _, rest in drawn]
    queries = [{"_id": place, "text": summary} for place, summary, _ in drawn]
    judged = [(place, place, 1) for place, _, _ in drawn]
    found: dict[str, dict[str, list[float]]] = {}
    sizes: tuple[int, ...] = ()
    for seed in settings["seeds"]:
        task = RetrievalTask.load(
            documents, queries=queries, judgements=judged, test=0.4, validation=0.1, split_seed=seed
        )
        learner = MatryoshkaRetriever(length=TOKENS, random_state=seed, **settings["knobs"])
        task.fit(learner)
        sizes = learner.dims_
        for name, values in one_seed(learner, task).items():
            for size, value in values.items():
                found.setdefault(name, {}).setdefault(size, []).append(value)
    return claims_of(found, sizes, scale, settings)


def one_seed(learner: MatryoshkaRetriever, task: RetrievalTask) -> dict[str, dict[str, float]]:
    """nDCG@10 and recall@10 of test queries by size, of what was learned and of its rivals."""
    asked = task.queries_of("test")
    texts = [query.text for _, query in asked]
    right = [task.collection.judged[query.id] for _, query in asked]
    ids = [one.id for one in task.documents]
    vectors = {"learned": (learner.encode(texts), learner.vectors_)}
    cast(MappedMeans, learner.network_).map.reset()
    own = learner.encode(texts), learner.encode([one.whole for one in task.documents])
    turn = PCA(min(own[1].shape), random_state=0).fit(own[1])
    vectors |= {"MiniLM, cut": own, "MiniLM, PCA": tuple(turn.transform(one) for one in own)}
    found: dict[str, dict[str, float]] = {}
    for name, (queries, documents) in vectors.items():
        for size in learner.dims_:
            cosines = unit_prefixes(queries, size) @ unit_prefixes(documents, size).T
            rows = []
            for row, relevant in zip(cosines, right, strict=True):
                places = best_of(row, FIRST)
                first = [ids[place] for place in places]
                rows.append([one(first, row[places], relevant, FIRST) for one in (ndcg, recall)])
            for measured, value in zip(("ndcg@10", "recall@10"), np.mean(rows, 0), strict=True):
                scores = found.setdefault(f"{name}, {measured}", {})
                scores[str(size)] = round(float(value), 4)
    return found


def claims_of(
    found: dict[str, dict[str, list[float]]], sizes: tuple[int, ...], scale: Scale,
    settings: dict[str, Any],
) -> list[Claim]:  # fmt: skip
    """A verdict of each relation, by the worst of its sizes."""

    def apart(other: str, dims: tuple[int, ...]) -> list[float]:
        of_sizes = [
            np.subtract(found["learned, ndcg@10"][str(m)], found[f"{other}, ndcg@10"][str(m)])
            for m in dims
        ]
        return [round(float(one), 4) for one in np.min(of_sizes, 0)]

    whole = (sizes[-1],)
    differences = {
        "search-beats-the-cut": (apart("MiniLM, cut", settings["few"]), 0.0),
        "search-beats-pca": (apart("MiniLM, PCA", settings["few"]), 0.0),
        "search-loses-nothing": (apart("MiniLM, cut", whole), -0.01),
    }
    count = settings["documents"]
    note = f"{count:,} docstrings; frozen MiniLM, of which a square map alone learns, from half."
    claims = []
    for id, (by_seed, margin) in differences.items():
        if scale == "smoke":
            explanation = "A smoke test has a tiny new encoder and one pass."
            claims.append(
                Claim(id, STATEMENTS[id], "not testable at this scale", explanation=explanation)
            )
            continue
        verdict = judge(by_seed, margin=margin)
        numbers: dict[str, Any] = {"difference_by_seed": by_seed}
        if id == "search-beats-the-cut":
            numbers["scores_by_size"] = found
        claims.append(
            Claim(id, STATEMENTS[id], verdict, numbers, list(settings["seeds"]), note)
        )  # fmt: skip
    return claims
