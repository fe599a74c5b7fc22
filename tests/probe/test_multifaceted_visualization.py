"""Facets by hand, units by name, and the whole probe on small networks."""

import numpy as np
import pytest
import torch
from torch import nn

from stackwise import multifaceted_visualization
from stackwise.conformance.small_models import small_learners
from stackwise.errors import DataError, KnobError, ModelError
from stackwise.probe.multifaceted_visualization import find_facets, mean_images, unit_of
from stackwise.probe.multifaceted_visualization.inputs import shown
from stackwise.probe.multifaceted_visualization.looking import (
    activations,
    coverage,
    exciting_pictures,
    noise,
)
from stackwise.probe.multifaceted_visualization.making import colours

QUICK = {"share": 0.03, "embed": "none", "k": 2, "exciting": 12, "views": 1}


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def blobs(count=12):
    """Codes of two groups far apart, in turn."""
    codes = random(count, 4)
    codes[::2] += 20
    return codes


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip


@pytest.mark.parametrize("embed", ["none", "tsne"])
def test_two_groups_far_apart_never_mix(embed):
    found = find_facets(blobs(), 2, embed=embed)
    assert len(set(found.labels[::2])) == len(set(found.labels[1::2])) == 1
    assert {frozenset(one % 2 for one in rows) for rows in found.members} == {
        frozenset({0}), frozenset({1}),
    }  # fmt: skip


def test_the_number_of_facets_is_found_by_the_silhouette():
    codes = random(30, 4)
    codes[::3] += 20
    codes[1::3] -= 20
    found = find_facets(codes, embed="none")
    assert len(found) == 3 and found.silhouette > 0.9


def test_members_are_the_nearest_to_the_centre_in_the_embedding():
    found = find_facets(blobs(40), 2, n_mean=5, embed="none")
    for cluster, rows in enumerate(found.members):
        own = np.flatnonzero(found.labels == cluster)
        centre = found.embedding[own].mean(0)
        far = np.linalg.norm(found.embedding - centre, axis=1)
        assert len(rows) == 5 and set(rows) <= set(own)
        assert far[rows].max() <= np.sort(far[own])[4] + 1e-9


def test_a_mean_image_is_the_average_of_its_members_as_they_are():
    pictures = 255 * random(12, 3, 5, 5)
    found = find_facets(blobs(), 2, n_mean=15, embed="none")
    means = mean_images(pictures, found)
    for mean, rows in zip(means, found.members, strict=True):
        assert len(rows) == 6  # fewer than 15: all of them
        assert torch.equal(mean, pictures[torch.from_numpy(rows)].mean(0))


def test_as_many_facets_as_pictures_are_the_pictures():
    pictures = 255 * random(6, 3, 5, 5)
    means = mean_images(pictures, find_facets(random(6, 4), 6, embed="none"))
    rows = [int((pictures == mean).flatten(1).all(1).nonzero()) for mean in means]
    assert sorted(rows) == list(range(6))


def test_the_order_of_the_pictures_changes_no_facet():
    codes, order = random(30, 4) + torch.arange(30)[:, None] // 10 * 9, torch.randperm(30)
    one, other = (find_facets(c, 3, embed="none").labels for c in (codes, codes[order]))
    together = (one[:, None] == one[None])[order][:, order]
    assert np.array_equal(together, other[:, None] == other[None])


def test_what_cannot_be_parted_is_refused():
    with pytest.raises(DataError, match="3 pictures have at most as many facets, not 4"):
        find_facets(random(3, 4), 4)
    with pytest.raises(DataError, match="too few to be parted"):
        find_facets(random(3, 4))
    with pytest.raises(DataError, match="NaN or infinite"):
        find_facets(torch.full((6, 2), float("nan")), 2)


def test_coverage_is_the_share_of_pictures_whose_facet_was_made():
    codes = blobs(12)
    found = find_facets(codes, 2, embed="none")
    assert coverage(codes, found, codes[:1]) == 0.5
    assert coverage(codes, found, codes[:2]) == 1.0


def test_units_by_name():
    assert str(unit_of("blocks.3:17@centre")) == "blocks.3:17@centre"
    assert (unit_of("output:2").module, unit_of("output:2").channel) == ("output", 2)
    with pytest.raises(KnobError, match="'blocks.3' names no unit"):
        unit_of("blocks.3")


def test_the_activation_is_the_mean_of_the_channels_map_before_softmax():
    network, pictures = small_network().eval(), random(5, 3, 8, 8)
    of = shown(network, pictures, 100, 0)
    seen = of.low.view(1, 3, 1, 1) + of.pictures / 255 * (of.high - of.low).view(1, 3, 1, 1)
    assert torch.allclose(seen, pictures, atol=1e-6)
    with torch.no_grad():
        whole, inside = network(pictures), network[:4](pictures)
    assert torch.allclose(activations(of, unit_of("output:2")), whole[:, 2], atol=1e-6)
    assert torch.allclose(activations(of, unit_of("3:5")), inside[:, 5].mean((1, 2)), atol=1e-6)
    centre = activations(of, unit_of("3:5@centre"))
    assert torch.allclose(centre, inside[:, 5, 4, 4], atol=1e-6)


def test_pictures_that_hardly_move_a_unit_are_left_out():
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False)).eval()
    nn.init.ones_(network[0].weight)
    pictures = torch.full((32, 1, 4, 4), 0.1) + 0.01 * random(32, 1, 4, 4)
    pictures[5:17] += 0.8
    of = shown(network, pictures, 100, 0)
    rows, found = exciting_pictures(of, unit_of("0:0"), 60, 4)
    assert sorted(rows) == list(range(5, 17))
    assert found[torch.from_numpy(rows)].tolist() == sorted(found.tolist(), reverse=True)[:12]


def test_the_network_is_left_as_it_was_weights_flags_and_modes():
    network = small_network().train()
    network[0].weight.requires_grad_(False)
    before = {name: one.clone() for name, one in network.state_dict().items()}
    multifaceted_visualization(network, random(40, 3, 8, 8), unit="3:5", **QUICK)
    assert network.training and network[1].training
    assert [one.requires_grad for one in network.parameters()][:2] == [False, True]
    assert all(torch.equal(one, before[name]) for name, one in network.state_dict().items())
    assert all(one.grad is None for one in network.parameters())


def test_a_facets_picture_is_the_same_whichever_units_are_asked_for():
    network, pictures = small_network().eval(), random(40, 3, 8, 8)
    alone = multifaceted_visualization(network, pictures, unit="3:5", **QUICK)
    among = multifaceted_visualization(network, pictures, unit=["output:1", "3:5"], **QUICK)
    again = among.tables["facets"].query("unit == '3:5'")["made"]
    assert alone.tables["facets"]["made"].tolist() == again.tolist()


def test_findings_hold_a_row_a_facet_and_a_figure_a_unit():
    found = multifaceted_visualization(
        small_network(), random(40, 3, 8, 8), unit=["3:5", "output:1"], **QUICK
    )
    assert set(found.figures) == {"facets_3-5", "facets_output-1", "embedding"}
    facets = found.tables["facets"]
    assert (
        facets["pictures"].tolist()
        and facets.groupby("unit")["pictures"].sum().between(10, 12).all()
    )
    assert set(found.tables["coverage"].columns) == {"mean", "noise"}
    nearest = found.tables["embedding"].query("nearest > 0")
    assert nearest.groupby(["unit", "facet"])["nearest"].max().le(15).all()
    assert 0 <= found.summary["coverage from mean"] <= 1


def test_without_a_unit_the_three_surest_classes_are_looked_at():
    network, pictures = small_network().eval(), random(40, 3, 8, 8)
    found = multifaceted_visualization(network, pictures, **QUICK, beside=False)
    with torch.no_grad():
        sure = network(pictures).softmax(1).amax(0).argsort(descending=True)[:3].tolist()
    assert found.summary["units"] == [f"output:{one}" for one in sure]


@pytest.mark.parametrize(
    ("knobs", "says"),
    [
        ({"unit": "9:1"}, "no module '9'"),
        ({"unit": "3:8"}, "has 8 channels, 0 to 7, and none of number 8"),
        ({"unit": []}, "unit is empty"),
        ({"unit": "3:1", "layer": "x"}, "no module 'x'"),
    ],
)
def test_a_wrong_name_is_one_sentence(knobs, says):
    with pytest.raises(KnobError, match=says):
        multifaceted_visualization(small_network(), random(20, 3, 8, 8), **QUICK | knobs)


def test_what_cannot_be_looked_at_is_one_sentence():
    network = small_network()
    with pytest.raises(DataError, match="there is nothing to look at"):
        multifaceted_visualization(network)
    with pytest.raises(DataError, match="it is dead"):
        multifaceted_visualization(network, torch.ones(20, 3, 8, 8), unit="3:1", **QUICK)
    with pytest.raises(DataError, match="is excited by 5 pictures, and 9 are needed"):
        multifaceted_visualization(network, random(5, 3, 8, 8), unit="3:1", **QUICK | {"k": 9})
    with pytest.raises(ModelError, match="is no network"):
        multifaceted_visualization(object(), random(5, 3, 8, 8))


@pytest.mark.parametrize("task", ["images", "series"])
def test_a_fitted_network_is_looked_at_through_its_task(task):
    ((_, learner, samples),) = small_learners([task]) if task == "images" else [series_learner()]
    found = multifaceted_visualization(learner, samples, **QUICK)
    assert len(found.summary["units"]) >= 2
    assert str(learner.classes_[0]) in " ".join(found.summary["units"])


def series_learner():
    """A convolutional network on series, fitted for two epochs."""
    from stackwise.build.tcnca.series_learners import TCNCAClassifier
    from stackwise.tasks import task_class

    task = task_class("series").small()
    learner = TCNCAClassifier(max_epochs=2, threads=1)
    return "tcnca", task.fit(learner), task


def test_grey_with_little_noise_and_the_channels_of_what_was_seen():
    of = shown(small_network(), random(20, 3, 8, 8), 100, 0)
    assert torch.equal(noise(of, 3), noise(of, 3)) and noise(of, 3).mean() == pytest.approx(
        175, abs=2
    )
    together = colours(of.pictures)
    assert together.diagonal().mean() == pytest.approx(1) and torch.equal(together, together.T)
