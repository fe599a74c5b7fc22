"""From influences to irreducible units: exact, against brute force, networkx and scipy."""

import itertools

import networkx as nx
import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from stackwise.errors import KnobError, ModelError
from stackwise.shrink.lattice_pruning import (
    adjacency_of,
    centrality_of,
    covers,
    dependency_sets,
    edge_mask,
    flow_ranks,
    hasse_picture,
    lattice_of,
    meet_irreducible,
    strongest_paths,
    transitive_closure,
)
from stackwise.shrink.lattice_pruning.dependency.irreducible import one_upper_cover
from stackwise.shrink.lattice_pruning.dependency.orders import components


def random_graph(seed: int, size: int, share: float = 0.3) -> Tensor:
    """(n, n) bool with the diagonal; an edge from column to row."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(size, size, generator=generator) < share).fill_diagonal_(True)


def random_weights(seed: int, size: int) -> Tensor:
    return torch.rand(size, size, generator=torch.Generator().manual_seed(seed))


def numbers(flags: Tensor) -> list[int]:
    return flags.nonzero().flatten().tolist()


def graph_of(edges: Tensor) -> nx.DiGraph:
    """The graph in networkx; edges go from column to row."""
    made = nx.DiGraph()
    made.add_nodes_from(range(len(edges)))
    made.add_edges_from((j, i) for i, j in edges.nonzero().tolist() if i != j)
    return made


def irreducible_by_enumeration(sets: Tensor, join: bool = False) -> list[int]:
    """List the whole lattice that intersections (or unions) of the rows make, and count covers."""
    everything = frozenset(range(len(sets)))
    rows = [frozenset(numbers(row)) for row in sets]
    ends = frozenset() if join else everything
    found = {ends}
    for row in rows:
        found |= {(row | one) if join else (row & one) for one in found}

    def beyond(one: frozenset, other: frozenset) -> bool:
        return one > other if not join else one < other

    irreducible = []
    for unit, row in enumerate(rows):
        above = [one for one in found if beyond(one, row)]
        upper = [one for one in above if not any(beyond(one, other) for other in above)]
        if len(upper) == 1 and row not in rows[:unit]:
            irreducible.append(unit)
    return irreducible


@pytest.mark.parametrize("size", [1, 2, 4, 6, 8])
def test_the_criterion_agrees_with_the_whole_lattice_listed(size):
    for seed in range(40):
        sets = random_graph(seed, size, share=0.2 + 0.6 * (seed % 4) / 3)
        assert numbers(meet_irreducible(sets)[0]) == irreducible_by_enumeration(sets)
        closed = transitive_closure(sets)
        assert numbers(meet_irreducible(closed)[0]) == irreducible_by_enumeration(closed)


def test_an_edge_leads_from_the_column_to_the_row():
    weights = torch.full((3, 3), 0.01)
    weights[1, 0] = weights[2, 1] = 1.0  # unit 0 drives 1, which drives 2
    edges = adjacency_of(weights, threshold=0.5)
    assert [numbers(row) for row in dependency_sets(edges)] == [[0], [0, 1], [0, 1, 2]]
    assert flow_ranks(weights * (edges > 0)).tolist() == [0, 1, 2]
    turned = adjacency_of(weights.T, threshold=0.5)
    assert [numbers(row) for row in dependency_sets(turned)] == [[0, 1, 2], [1, 2], [2]]


def test_turning_a_graph_around_changes_which_units_are_irreducible():
    changed = 0
    for seed in range(60):
        closed = transitive_closure(random_graph(seed, 6))
        found = numbers(meet_irreducible(closed)[0])
        assert found == irreducible_by_enumeration(closed)
        changed += found != numbers(meet_irreducible(closed.T.contiguous())[0])
    assert changed > 20


def test_irreducible_for_meets_is_not_irreducible_for_joins():
    chain = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]]).bool()
    assert numbers(meet_irreducible(chain)[0]) == [0, 1]
    assert irreducible_by_enumeration(chain, join=True) == [0, 1, 2]  # above the empty set
    differ = 0
    for seed in range(40):
        closed = transitive_closure(random_graph(seed, 6, 0.25))
        meets = numbers(meet_irreducible(closed)[0])
        differ += meets != irreducible_by_enumeration(closed, join=True)
    assert differ > 10


def test_known_orders_have_the_units_that_order_theory_says():
    chain = torch.ones(6, 6).tril().bool()
    assert numbers(meet_irreducible(chain)[0]) == [0, 1, 2, 3, 4]
    antichain = torch.eye(5).bool()
    assert meet_irreducible(antichain)[0].all()
    diamond = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1]]).bool()
    assert numbers(meet_irreducible(diamond)[0]) == [1, 2]
    subsets = [set(some) for k in range(4) for some in itertools.combinations(range(3), k)]
    boolean = torch.tensor([[one <= other for one in subsets] for other in subsets])
    coatoms = [place for place, one in enumerate(subsets) if len(one) == 2]
    assert numbers(meet_irreducible(boolean)[0]) == coatoms


def test_of_equal_rows_the_first_counts_alone():
    sets = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).bool()
    assert numbers(meet_irreducible(sets)[0]) == [0, 2]


@pytest.mark.parametrize("ranking", ["net", "greedy"])
def test_the_flow_has_no_cycle_and_closes_to_a_partial_order(ranking):
    for seed in range(20):
        weights = random_weights(seed, 9)
        edges = adjacency_of(weights, quantile=0.4)
        ranks = flow_ranks(weights * edges, ranking)
        assert sorted(ranks.tolist()) == list(range(9))
        forward = (edges > 0) & (ranks[None] < ranks[:, None])
        assert nx.is_directed_acyclic_graph(graph_of(forward))
        sets = dependency_sets(edges, strength=weights.double(), ranking=ranking)
        assert torch.equal(sets, transitive_closure(forward | torch.eye(9).bool()))
        assert not (sets & sets.T).fill_diagonal_(False).any()


def test_the_greedy_order_keeps_more_of_the_flow():
    kept = {"net": 0.0, "greedy": 0.0}
    for seed in range(20):
        weights = random_weights(seed, 12)
        for ranking in kept:
            ranks = flow_ranks(weights, ranking)
            kept[ranking] += float((weights * (ranks[None] < ranks[:, None])).sum())
    assert kept["greedy"] > kept["net"]


@pytest.mark.parametrize("ranking", ["net", "greedy"])
def test_of_a_graph_without_cycles_every_edge_runs_forward(ranking):
    acyclic = random_weights(0, 10).tril(-1)
    shuffled = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    hidden = acyclic[shuffled][:, shuffled]
    ranks = flow_ranks(hidden, "greedy")
    assert ((hidden == 0) | (ranks[None] < ranks[:, None])).all()
    assert sorted(flow_ranks(hidden, ranking).tolist()) == list(range(10))


def test_the_closure_is_that_of_networkx_and_scipy():
    for seed in range(20):
        edges = random_graph(seed, 12, 0.12)
        closed = transitive_closure(edges)
        assert closed.diagonal().all()
        assert torch.equal(closed, transitive_closure(closed))
        assert torch.equal(closed, (closed.float() @ closed.float() > 0))
        theirs = nx.to_numpy_array(nx.transitive_closure(graph_of(edges), reflexive=True))
        assert np.array_equal(closed.numpy(), theirs.T > 0)
        count, label = connected_components(edges.numpy(), connection="strong")
        found = components(edges)
        assert len(found.unique()) == count
        same = label[:, None] == label[None]
        assert np.array_equal((found[:, None] == found[None]).numpy(), same)


@pytest.mark.parametrize("paths", ["min", "product"])
def test_strongest_paths_are_those_that_a_search_finds(paths):
    for seed in range(5):
        weights = random_weights(seed, 5).fill_diagonal_(1).double()
        found = strongest_paths(weights, paths)
        for to, source in itertools.product(range(5), repeat=2):
            best = 0.0
            between = [unit for unit in range(5) if unit not in (to, source)]
            for length in range(len(between) + 1):
                for middle in itertools.permutations(between, length):
                    way = [source, *middle, to]
                    steps = [float(weights[b, a]) for a, b in itertools.pairwise(way)]
                    best = max(best, min(steps) if paths == "min" else float(np.prod(steps)))
            assert float(found[to, source]) == pytest.approx(best)


def test_fuzzy_sets_of_zeros_and_ones_are_sets():
    for seed in range(20):
        sets = random_graph(seed, 7, 0.4)
        assert torch.equal(strongest_paths(sets.double()), transitive_closure(sets).double())
        crisp, gap = meet_irreducible(sets)
        fuzzy, fuzzy_gap = meet_irreducible(sets.double(), 0.0)
        assert torch.equal(crisp, fuzzy) and torch.equal(gap, fuzzy_gap)


def test_a_fuzzy_unit_is_reducible_within_the_tolerance():
    sets = torch.tensor([[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.5, 0.95, 1.0]]).double()
    assert meet_irreducible(sets, 0.1)[1].tolist() == pytest.approx([1.0, 1.0, 0.5])
    assert numbers(meet_irreducible(sets, 0.6)[0]) == [0, 1]
    near = torch.tensor([[1.0, 0.96, 0.3], [0.97, 1.0, 0.3], [0.0, 0.0, 1.0]]).double()
    assert numbers(meet_irreducible(near, 0.1)[0]) == [0, 2]  # twins within the tolerance
    assert numbers(meet_irreducible(near, 0.0)[0]) == [0, 1, 2]


def test_the_hasse_diagram_is_the_transitive_reduction():
    for seed in range(20):
        weights = random_weights(seed, 10)
        sets = dependency_sets(adjacency_of(weights, quantile=0.7), strength=weights.double())
        strict = graph_of(sets)
        reduced = nx.transitive_reduction(strict)
        found = {(lower, upper) for upper, lower in covers(sets).nonzero().tolist()}
        assert found == set(reduced.edges)
        ones = [unit for unit in range(10) if reduced.out_degree(unit) == 1]
        assert numbers(one_upper_cover(sets)) == ones


def test_the_poset_is_stricter_than_the_lattice():
    for seed in range(10):
        weights = random_weights(seed, 16)
        of_lattice = lattice_of(weights, quantile=0.5).irreducible
        of_poset = lattice_of(weights, quantile=0.5, notion="poset").irreducible
        assert not (of_poset & ~of_lattice).any()


def test_centralities_are_those_of_networkx():
    for seed in range(4):
        edges = random_graph(seed, 9, 0.25).double()
        graph = graph_of(edges)
        between = nx.betweenness_centrality(graph, normalized=False)
        assert centrality_of(edges, "betweenness").tolist() == pytest.approx(list(between.values()))
        near = nx.closeness_centrality(graph.to_undirected())
        assert centrality_of(edges, "closeness").tolist() == pytest.approx(list(near.values()))
        both = (edges + edges.T).numpy()
        values, vectors = np.linalg.eigh(both)
        top = np.abs(vectors[:, -1]) / np.abs(vectors[:, -1]).max()
        if values[-1] - values[-2] > 0.05:
            found = centrality_of(edges, "eigenvector")
            assert found.tolist() == pytest.approx(top.tolist(), abs=1e-6)
        degree = [graph.in_degree(unit) + graph.out_degree(unit) for unit in range(9)]
        assert centrality_of(edges, "strength").tolist() == degree


def test_a_weak_edge_is_a_long_way():
    weights = adjacency_of(random_weights(0, 8), kind="continuous", quantile=0.3)
    graph = nx.DiGraph()
    for i, j in (weights > 0).nonzero().tolist():
        if i != j:
            graph.add_edge(j, i, length=1 - float(weights[i, j].log()))
    between = nx.betweenness_centrality(graph, normalized=False, weight="length")
    found = centrality_of(weights, "betweenness")
    assert found.tolist() == pytest.approx([between[unit] for unit in range(8)])


def test_a_quantile_keeps_its_share_and_zero_keeps_everything():
    weights = random_weights(0, 20)
    for quantile in (0.5, 0.8, 0.95):
        edges = adjacency_of(weights.clone().fill_diagonal_(0.0), quantile=quantile)
        assert int(edges.sum()) - 20 == round(400 * (1 - quantile))
    assert adjacency_of(weights, quantile=0.0).all()
    assert torch.equal(adjacency_of(3 * weights, quantile=0.8), adjacency_of(weights, quantile=0.8))
    mean = adjacency_of(weights, threshold="mean")
    assert torch.equal(mean > 0, (weights > weights.mean()).fill_diagonal_(True))
    halved = adjacency_of(weights, threshold=0.5, normalise="row")
    assert torch.equal(
        halved > 0, (weights / weights.amax(1, keepdim=True) > 0.5).fill_diagonal_(True)
    )
    strong = adjacency_of(weights, kind="continuous", quantile=0.0)
    assert torch.allclose(strong, (weights.double() / weights.max()).fill_diagonal_(1.0))


def test_renumbering_the_units_renumbers_the_mask_and_nothing_else():
    weights = random_weights(3, 14)
    turned = torch.randperm(14, generator=torch.Generator().manual_seed(5))
    for knobs in ({}, {"order": "direct", "quantile": 0.85}, {"adjacency": "continuous"}):
        plain = lattice_of(weights, **knobs)
        other = lattice_of(weights[turned][:, turned], **knobs)
        assert len(plain.twins.unique()) == 14
        assert torch.equal(plain.irreducible[turned], other.irreducible)
        assert torch.equal(edge_mask(plain)[turned][:, turned], edge_mask(other))


def test_scaling_the_weights_changes_nothing():
    weights = random_weights(4, 12)
    for knobs in ({"quantile": 0.7}, {"adjacency": "continuous"}, {"threshold": "mean"}):
        ours, scaled = lattice_of(weights, **knobs), lattice_of(7 * weights, **knobs)
        assert torch.equal(edge_mask(ours), edge_mask(scaled))


def test_edge_rules_keep_what_they_say():
    lattice = lattice_of(random_weights(1, 12), quantile=0.6, notion="poset")
    edges, critical = lattice.edges, lattice.critical
    diagonal = torch.eye(12).bool()
    touch = critical[:, None] | critical[None]
    assert torch.equal(edge_mask(lattice), (edges & touch) | diagonal)
    both = critical[:, None] & critical[None]
    assert torch.equal(edge_mask(lattice, keep="both"), (edges & both) | diagonal)
    assert torch.equal(edge_mask(lattice, keep="cover"), lattice.covers | diagonal)
    assert not (lattice.covers & ~edges).any()


def test_the_cover_rule_on_components_keeps_edges_between_covering_ones():
    edges = torch.eye(5).bool()
    for to, source in ((1, 0), (0, 1), (2, 1), (3, 2), (3, 0), (4, 3)):
        edges[to, source] = True  # {0, 1} -> 2 -> 3 -> 4, and a short cut from 0 to 3
    lattice = lattice_of(edges.float(), threshold=0.5, order="reach")
    assert lattice.components.tolist() == [0, 0, 2, 3, 4]
    assert numbers(lattice.irreducible) == [0, 2, 3]
    mask = edge_mask(lattice, keep="cover")
    assert not mask[3, 0] and mask[2, 1] and mask[1, 0] and mask[0, 1]


@pytest.mark.parametrize("sparsity", [0.5, 0.73, 0.9])
def test_a_sparsity_is_met_to_the_entry(sparsity):
    weights = random_weights(2, 16)
    lattice = lattice_of(weights, quantile=0.4)
    mask = edge_mask(lattice, keep="score", sparsity=sparsity)
    assert int(mask.sum()) == round((1 - sparsity) * 256)
    assert mask.diagonal().all() and not (mask & ~lattice.edges).any()
    total = lattice.score[:, None] + lattice.score[None]
    value = weights.double() * total
    out = lattice.edges & ~mask
    assert value[mask & ~torch.eye(16).bool()].min() >= value[out].max()


def test_a_quantile_of_centrality_leaves_fewer_critical_units():
    weights = random_weights(6, 20)
    plain, central = lattice_of(weights), lattice_of(weights, central=0.5)
    assert torch.equal(plain.critical, plain.irreducible)
    middle = central.centrality.quantile(0.5)
    assert torch.equal(central.critical, central.irreducible & (central.centrality >= middle))


def test_where_all_units_reach_each_other_the_order_is_void_and_the_threshold_stays():
    weights = random_weights(0, 12)
    lattice = lattice_of(weights, order="reach")
    assert "are one element of the order" in lattice.void
    assert torch.equal(edge_mask(lattice), lattice.edges)
    direct = lattice_of(torch.eye(6), threshold=0.5, order="direct")
    assert direct.void == "every unit is irreducible: the lattice prunes nothing"
    assert torch.equal(edge_mask(direct), direct.edges)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"quantile": 1.0}, "quantile must be at least 0 and below 1"),
        ({"quantile": 0.5, "threshold": 0.1}, "give quantile or threshold, not both"),
        ({"normalise": "max"}, "normalise=max changes nothing but an absolute threshold"),
        ({"tolerance": 0.2}, "paths and tolerance are of adjacency=continuous"),
        ({"adjacency": "continuous", "notion": "poset"}, "fuzzy sets within a tolerance have none"),
        ({"order": "reach", "ranking": "greedy"}, "ranking is of order=flow"),
        ({"adjacency": "continuous", "order": "direct", "paths": "product"}, "follows no path"),
        ({"keep": "score"}, "keep=score needs sparsity"),
        ({"sparsity": 0.9}, "keep=either keeps as many connections as the lattice has it"),
        ({"adjacency": "continuous", "keep": "cover"}, "fuzzy sets have none"),
        ({"keep": "score", "sparsity": 0.99}, "keeps fewer of the 64 connections than the 8 self"),
        ({"keep": "score", "sparsity": 0.1}, "keeps 58 of the 64 connections, and only"),
    ],
)
def test_bad_settings_get_one_sentence(knobs, words):
    from stackwise import lattice_pruning

    with pytest.raises(KnobError, match=words):
        lattice_pruning(torch.nn.RNN(3, 8), **knobs)


def test_weights_that_are_no_numbers_are_refused():
    layer = torch.nn.GRU(3, 4)
    layer.weight_hh_l0.data[0, 0] = float("nan")
    from stackwise import lattice_pruning

    with pytest.raises(ModelError, match="hidden-to-hidden weights contain NaN"):
        lattice_pruning(layer)


def test_the_picture_of_few_units_names_each_and_fills_the_critical_ones():
    lattice = lattice_of(random_weights(0, 9), quantile=0.7)
    figure = hasse_picture(lattice)
    (axes,) = figure.axes
    assert sorted(int(text.get_text()) for text in axes.texts) == list(range(9))
    assert len(axes.lines) == int(lattice.covers.sum())
    filled = [text for text in axes.texts if text.get_color() == "white"]
    assert {int(text.get_text()) for text in filled} == set(numbers(lattice.critical))
    (many,) = hasse_picture(lattice_of(random_weights(0, 50))).axes
    assert many.images[0].get_array().shape == (50, 50)
