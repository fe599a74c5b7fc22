"""ColBERTer: what matching words and a whole query cost, beside the plain forms.

- the sum of best matches of one query over candidates whose words lie one after the other, against
  the same by einsum over padded rows, which is how it is written in most code;
- all passages by their words alone, exactly, against faiss: a flat index over the vectors of all
  words, whose nearest to each query word name passages that are then scored; so many neighbours as
  find at least 95 % of the ten best;
- a query from its text to ten documents, against MiniLM's mean vector and faiss (flat), on an index
  of stored vectors. Both begin with a pass of the same encoder over the same query.
"""

import tempfile
from pathlib import Path

import faiss
import numpy as np
import torch

from side_by_side import alternate, line
from stackwise.build.colberter.encoding import encode_queries
from stackwise.build.colberter.index.folder import Index
from stackwise.build.colberter.index.searching import QueryVectors, flat_maxsim, search_index
from stackwise.build.colberter.index.segment import Encoded
from stackwise.build.colberter.model.network import ColBERTer
from stackwise.build.colberter.reading import begun
from stackwise.build.colberter.retriever import ColBERTerRetriever
from stackwise.tasks.retrieval.collection import Document

SIZE, ASKED, MEAN_WORDS = 32, 8, 35
CANDIDATES = {
    "100 candidates": (100, 40),
    "1,000 candidates": (1000, 15),
    "4,000 candidates": (4000, 5),
}
PASSAGES = {"300 passages": (300, 5), "1,000 passages": (1000, 3), "3,000 passages": (3000, 3)}
INDICES = {"1,000 passages": (1000, 7), "3,000 passages": (3000, 7), "10,000 passages": (10_000, 7)}
WHY = "a second look at 1,000 candidates word by word, which the single vector has not"


def words_of(passages: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Word vectors of passages of 20 to 50 words, and where each passage begins."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(20, 51, passages)
    vectors = generator.normal(size=(counts.sum(), SIZE)).astype(np.float32)
    return vectors, np.concatenate([[0], np.cumsum(counts)[:-1]])


def matches() -> None:
    for name, (passages, repeats) in CANDIDATES.items():
        vectors, starts = words_of(passages)
        query = np.random.default_rng(1).normal(size=(ASKED, SIZE)).astype(np.float32)
        ends = np.append(starts[1:], len(vectors))
        padded = torch.zeros(passages, 50, SIZE)
        mask = torch.zeros(passages, 50, dtype=torch.bool)
        for place, (begin, end) in enumerate(zip(starts, ends, strict=True)):
            padded[place, : end - begin] = torch.from_numpy(vectors[begin:end])
            mask[place, : end - begin] = True
        asked = torch.from_numpy(query)

        def ours(query=query, vectors=vectors, starts=starts):
            return flat_maxsim(query, vectors, starts)

        def plain(asked=asked, padded=padded, mask=mask):
            products = torch.einsum("id,pjd->pij", asked, padded)
            return products.masked_fill(~mask[:, None], -1000).max(-1).values.sum(-1)

        np.testing.assert_allclose(ours(), plain().numpy(), rtol=1e-4, atol=1e-4)
        own, peer = alternate(ours, plain, repeats)
        line(f"sum of best matches, {name}", own, peer, "einsum over padded rows", "s", "float32",
             1, "both are bound by one matrix product")  # fmt: skip


def against_faiss() -> None:
    for name, (passages, repeats) in PASSAGES.items():
        vectors, starts = words_of(passages)
        owner = np.repeat(np.arange(passages), np.diff(np.append(starts, len(vectors))))
        generator = np.random.default_rng(2)
        queries = []
        for _ in range(4):  # words near those of one passage
            at = int(generator.integers(passages))
            own = np.flatnonzero(owner == at)[:ASKED]
            near = vectors[own] + generator.normal(size=(len(own), SIZE)).astype(np.float32)
            queries.append(near.astype(np.float32))
        flat = faiss.IndexFlatIP(SIZE)
        flat.add(vectors)

        def exact(query, vectors=vectors, starts=starts):
            scores = flat_maxsim(query, vectors, starts)
            return np.argsort(-scores)[:10]

        def by_faiss(query, k, flat=flat, owner=owner, vectors=vectors, starts=starts):
            _, places = flat.search(query, k)
            found = np.unique(owner[places])
            ends = np.append(starts[1:], len(vectors))
            rows = np.concatenate([np.arange(starts[p], ends[p]) for p in found])
            begins = np.concatenate([[0], np.cumsum(ends[found] - starts[found])[:-1]])
            scores = flat_maxsim(query, vectors[rows], begins)
            return found[np.argsort(-scores)[:10]]

        for k in (16, 64, 256, 1024, 2048):
            both = [(exact(q), by_faiss(q, min(k, len(vectors)))) for q in queries]
            recall = float(np.mean([np.isin(a, b).mean() for a, b in both]))
            if recall >= 0.95:
                break

        def ours(exact=exact, queries=queries):
            return [exact(query) for query in queries]

        def theirs(by_faiss=by_faiss, queries=queries, k=k):
            return [by_faiss(query, k) for query in queries]

        own, peer = alternate(ours, theirs, repeats)
        line(f"all words of {name}, exactly; faiss finds {100 * recall:.0f} % with {k} a word",
             own, peer, "faiss, flat, over words", "s", "float32", 1,
             "faiss stops at the neighbours of each word")  # fmt: skip


def queries() -> None:
    knobs = ColBERTerRetriever()
    reading = begun(knobs, [], 0)
    torch.manual_seed(0)
    network = ColBERTer(width=384).eval()
    asked = "why do the tails of dogs wag when they are glad"
    for name, (passages, repeats) in INDICES.items():
        vectors, starts = words_of(passages)
        generator = np.random.default_rng(3)
        cls = generator.normal(size=(passages, 128)).astype(np.float32)
        words = generator.integers(1, 2**32, len(vectors))
        documents = [Document(str(n), f"text number {n}") for n in range(passages)]
        with tempfile.TemporaryDirectory() as folder:
            index = Index.create(Path(folder) / "index", {"kind": "float16", "exact_match": False})
            offsets = np.append(starts, len(vectors))
            index.add_encoded(documents, Encoded(cls, vectors, words, offsets, np.arange(passages)))
            flat = faiss.IndexFlatIP(384)
            means = generator.normal(size=(passages, 384)).astype(np.float32)
            flat.add(means / np.linalg.norm(means, axis=1, keepdims=True))

            def ours(index=index):
                (query,) = encode_queries(reading, network, [asked])
                assert isinstance(query, QueryVectors)
                return search_index(index, query, 10, "cls+bow", 1000)

            @torch.no_grad()
            def peer(flat=flat):
                inputs = reading.tokenizer([asked], return_tensors="pt")
                states = reading.model.base_model(**inputs)[0]  # one text: nothing is padding
                mean = torch.nn.functional.normalize(states.mean(1), dim=1)
                return flat.search(mean.numpy(), 10)

            own, other = alternate(ours, peer, repeats)
            line(f"a query from text to ten documents, {name}", own, other,
                 "MiniLM's mean vector, faiss flat", "s", "float16", 1, WHY)  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    matches()
    against_faiss()
    queries()


if __name__ == "__main__":
    main()
