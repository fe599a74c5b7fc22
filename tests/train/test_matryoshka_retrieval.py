"""Searches that begin with prefixes end as exact ones do where nothing is left out."""

import numpy as np
import pytest

from stackwise import adaptive_search, funnel_search
from stackwise.errors import DataError, KnobError
from stackwise.train.matryoshka import NestedSearch, search_cost

pytest.importorskip("faiss")
N, D = 120, 32


@pytest.fixture(scope="module")
def vectors() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    scale = np.linspace(2, 0.2, D)
    database = generator.normal(size=(N, D)) * scale
    queries = database[:9] + 0.3 * generator.normal(size=(9, D)) * scale
    return queries.astype(np.float32), database.astype(np.float32)


def exact(queries, database, dim) -> tuple[np.ndarray, np.ndarray]:
    unit = [v[:, :dim] / np.linalg.norm(v[:, :dim], axis=1, keepdims=True) for v in vectors64(
        queries, database)]  # fmt: skip
    distances = ((unit[0][:, None] - unit[1][None]) ** 2).sum(-1)
    order = distances.argsort(1, kind="stable")
    return order, np.take_along_axis(distances, order, 1)


def vectors64(*arrays):
    return [array.astype(np.float64) for array in arrays]


@pytest.mark.parametrize("rerank", [16, D])
def test_a_shortlist_of_everything_ends_in_the_exact_order(vectors, rerank):
    queries, database = vectors
    order, distances = exact(queries, database, rerank)
    places, found = adaptive_search(queries, database, shortlist_dim=4, rerank_dim=rerank, k=N)
    assert np.array_equal(places, order)
    assert np.allclose(found, distances, atol=1e-5)


def test_a_funnel_that_leaves_nothing_out_ends_in_the_exact_order(vectors):
    queries, database = vectors
    places, _ = funnel_search(queries, database, dims=(4, 8, D), lengths=(N, N, N))
    assert np.array_equal(places, exact(queries, database, D)[0])


def test_each_stage_keeps_the_first_of_the_order_before(vectors):
    queries, database = vectors
    found, _ = funnel_search(queries, database, shortlist_dim=4, dims=(8, 16), lengths=(20, 5))
    for query, kept in enumerate(found):
        first = exact(queries, database, 4)[0][query, :20]
        by_8 = [p for p in exact(queries, database, 8)[0][query] if p in first][:5]
        by_16 = [p for p in exact(queries, database, 16)[0][query] if p in by_8]
        assert kept.tolist() == by_16


def test_a_table_of_neighbours_is_left_as_it_was(vectors):
    queries, database = vectors
    search = NestedSearch(database, 4)
    table, _ = search.shortlist(queries, 40)
    before = table.copy()
    settings = [{"dims": (8, 32), "lengths": (40, 10)}, {"dims": (16, 32), "lengths": (20, 5)}]
    one_by_one = [search.rerank(queries, table, **setting)[0] for setting in settings]
    assert np.array_equal(table, before)
    assert np.array_equal(one_by_one[1], search.rerank(queries, before, **settings[1])[0])


def test_the_length_of_queries_does_not_count(vectors):
    queries, database = vectors
    search = NestedSearch(database, 4)
    plain = search.adaptive(queries, k=30)
    longer = search.adaptive(queries / np.linalg.norm(queries, axis=1, keepdims=True), k=30)
    assert np.array_equal(plain[0], longer[0])
    assert np.allclose(plain[1], longer[1], atol=1e-5)


def test_a_graph_finds_nearly_what_looking_at_everything_finds(vectors):
    queries, database = vectors
    graph = adaptive_search(queries, database, shortlist_dim=16, k=20, index="hnsw")[0]
    flat = adaptive_search(queries, database, shortlist_dim=16, k=20)[0]
    shared = [len(set(a) & set(b)) / 20 for a, b in zip(graph, flat, strict=True)]
    assert np.mean(shared) > 0.9


def test_the_cost_of_a_search():
    assert search_cost(1000, 8) == 8000
    assert search_cost(1000, 8, (16, 64), (200, 10)) == 8000 + 16 * 200 + 64 * 10
    assert search_cost(1024, 8, index="hnsw") == 80


def test_a_shortlist_longer_than_the_database_is_cut_with_a_warning(vectors):
    queries, database = vectors
    with pytest.warns(UserWarning, match=f"a shortlist of 500 is cut to the {N} vectors"):
        places, _ = adaptive_search(queries, database, k=500)
    assert places.shape == (9, N)


def test_stages_that_do_not_fit_are_refused(vectors):
    queries, database = vectors
    search = NestedSearch(database, 4)
    for dims, lengths, words in (
        ((8, 16), (20,), "dims and lengths must have the same length, got 2 and 1"),
        ((8, 16), (5, 20), "lengths must not increase"),
        ((8, 64), (20, 5), "dim must be from 1 to the embedding size 32, got 64"),
        ((8,), (0,), "holds at least 1"),
    ):
        with pytest.raises(DataError, match=words):
            search.funnel(queries, dims=dims, lengths=lengths)
    with pytest.raises(DataError, match="10 neighbours a query, and lengths begin 20"):
        search.rerank(queries, search.shortlist(queries, 10)[0], dims=(8,), lengths=(20,))


def test_what_is_no_table_of_vectors_is_refused(vectors):
    queries, database = vectors
    with pytest.raises(DataError, match="NaN"):
        NestedSearch(np.full((3, 4), np.nan), 2)
    with pytest.raises(DataError, match=r"must be \(n, d\) numbers"):
        NestedSearch(database[0], 2)
    with pytest.raises(DataError, match="queries have 8 numbers, the database 32"):
        NestedSearch(database, 4).adaptive(queries[:, :8])
    with pytest.raises(KnobError, match="flat or hnsw"):
        NestedSearch(database, 4, index="tree")
