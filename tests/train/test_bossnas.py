"""Block-wise bootstrapping, held to what holds exactly: paths, slices, targets, ratings."""

import copy
import math
from typing import ClassVar

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional

from stackwise.errors import KnobError, ModelError
from stackwise.layers.arguments import keeps_arguments
from stackwise.train.bossnas import (
    HyTra,
    MBConvSpace,
    OperationSpace,
    RowSpace,
    SearchSpace,
    SlimSpace,
    build,
    costs,
    rank_report,
    space_of,
)
from stackwise.train.bossnas.outcomes.peers import naswot
from stackwise.train.bossnas.search.bootstrapping import (
    Pair,
    Prefix,
    Stem,
    distance,
    ensemble_target,
    tau_at,
    unit,
)
from stackwise.train.bossnas.search.rating import center_and_ratings, taking_statistics
from stackwise.train.bossnas.search.ratings import Rated, Ratings
from stackwise.train.bossnas.search.rule import BootstrapRule
from stackwise.train.bossnas.search.sampling import candidates, paths_of_a_step
from stackwise.train.bossnas.spaces.hytra_operations import HyTraOperation, PlaceAttention
from stackwise.train.bossnas.spaces.operations import resampled
from stackwise.train.bossnas.spaces.slimmable import SlimConv
from stackwise.train.bossnas.spaces.super_block import SuperBlock
from stackwise.training.batches import ListBatches
from stackwise.training.loop import train

SLIM = SlimSpace(channels=1, size=(6, 6), widths=(2, 4), depths=(2, 1))
SMALL = {
    "hytra": HyTra(channels=1, size=(8, 8), width=2, blocks=2, layers=2, scales=3),
    "size": SLIM,
    "mbconv": MBConvSpace(channels=1, size=(8, 8), width=2, depths=(1, 2)),
    "operations": OperationSpace(channels=2, size=(6, 6), width=4, blocks=2, layers=1),
    "series": OperationSpace(channels=2, size=(8,), width=4, blocks=2, layers=1),
    "rows": RowSpace(n_numeric=2, cardinalities=[3], width=4, blocks=2, layers=1),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inputs_for(space, count: int = 4) -> dict:
    made = {}
    for name, one in space.example().items():
        shape = (count, *one.shape[1:])
        if one.is_floating_point():
            made[name] = torch.randn(shape, generator=seeded())
        else:
            made[name] = one.expand(shape).contiguous()
    return made


def pair_of(space=SLIM, block=0, source=None, teachers=None, every=None) -> Pair:
    torch.manual_seed(0)
    every = every or candidates(space, block, [space.start], None, 0)
    ends = sorted({end for _, _, end in every})
    return Pair(space, block, source or Stem(space, block, None), teachers, ends, 8, 6)


# paths


@pytest.mark.parametrize(("scale", "count"), [(0, 51), (1, 99), (2, 80), (3, 16)])
def test_four_layers_of_hytra_have_the_papers_paths_by_the_scale_that_comes_in(scale, count):
    space = HyTra()
    assert space.path_count(1, scale) == count == len(space.paths(1, scale))


def test_hytra_has_the_papers_number_of_architectures():
    assert len(HyTra()) == 2_818_103
    assert len(HyTra(free_start=False)) == 1_703_991


def test_the_first_layer_may_work_at_any_scale():
    assert len(HyTra().paths(0, 0)) == 131


def test_the_operations_of_hytra_have_the_numbers_of_the_authors_code():
    assert HyTra().operations(0, 0) == [
        "att@1/32", "conv@1/32", "att@1/16", "conv@1/16", "conv@1/8", "conv@1/4",
    ]  # fmt: skip


def test_an_operation_that_does_not_exist_is_named():
    space = HyTra(size=(64, 64), width=2, blocks=1, layers=2)
    with pytest.raises(KnobError, match=r"\[3, 9\]\]: operation 9 of layer 2 .* \(0\.\.5\)"):
        space.checked([[3, 9]])
    with pytest.raises(KnobError, match="conv@1/4 of layer 2 of block 1 cannot follow"):
        space.checked([[4, 5]])


def test_a_block_with_too_many_paths_is_refused():
    space = MBConvSpace(size=(32, 32), width=4, depths=(2, 8))
    with pytest.raises(KnobError, match="block 2 has 65,536 paths: rating enumerates at most 4,0"):
        candidates(space, 1, [0], None, 0)


def test_drawn_architectures_are_allowed():
    space = HyTra(size=(64, 64), width=2, blocks=3, layers=3)
    for seed in range(20):
        space.checked(space.drawn(seeded(seed)))


def test_fair_sampling_uses_each_operation_once_a_layer():
    every = candidates(SMALL["mbconv"], 1, [0], None, 0)
    for step in range(5):
        chosen = paths_of_a_step(SMALL["mbconv"], 1, every, "fair", 4, 0, 0, step)
        for layer in range(2):
            assert sorted(path[layer] for _, path, _ in chosen) == [0, 1, 2, 3]


def test_random_paths_differ_and_depend_on_seed_epoch_and_step_alone():
    every = candidates(SMALL["hytra"], 0, [0], None, 0)
    chosen = paths_of_a_step(SMALL["hytra"], 0, every, "random", 4, 3, 1, 2)
    assert len(set(chosen)) == 4
    assert chosen == paths_of_a_step(SMALL["hytra"], 0, every, "random", 4, 3, 1, 2)
    assert chosen != paths_of_a_step(SMALL["hytra"], 0, every, "random", 4, 3, 1, 3)


# networks


@pytest.mark.parametrize("name", SMALL)
def test_a_network_with_the_weights_of_a_path_is_the_supernet_on_that_path(name):
    space = SMALL[name]
    torch.manual_seed(0)
    stem = space.stem().eval()
    blocks = [SuperBlock(space, block).eval() for block in range(len(space.depths))]
    for block in blocks:  # gains of 0 would hide what stands behind them
        for module in block.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                module.running_mean.uniform_(-0.5, 0.5)
    inputs = inputs_for(space)
    for seed in range(8):
        architecture = space.drawn(seeded(seed))
        network = build(space, architecture, 3).eval()
        network.stem.load_state_dict(stem.state_dict())
        h, state, cut = stem(**inputs), space.start, []
        for block, path in zip(blocks, architecture, strict=True):
            cut += block.cut(path, state)
            h, state = block(h, path, state)
        for own, given in zip(network.blocks, cut, strict=True):
            own.load_state_dict(given.state_dict())
        found = network.stem(**inputs)
        for layer in network.blocks:
            found = layer(found)
        assert torch.allclose(found, h, atol=1e-6)
        assert h.shape[1] == space.channels(len(space.depths) - 1, state)
        assert network(**inputs).shape == (4, 3)


@pytest.mark.parametrize("name", SMALL)
def test_every_end_of_a_block_is_aligned_to_one_number_of_channels(name):
    space = SMALL[name]
    every = candidates(space, 0, [space.start], None, 0)
    pair = pair_of(space, every=every)
    assert {pair.online(inputs_for(space), path, state).shape for state, path, _ in every} == {
        (4, 6)
    }


@pytest.mark.parametrize("name", SMALL)
def test_a_space_is_made_again_from_its_spec(name):
    again = space_of(SMALL[name].spec)
    assert type(again) is type(SMALL[name]) and len(again) == len(SMALL[name])


@pytest.mark.parametrize("name", SMALL)
def test_a_block_that_is_searched_apart_is_entered_in_every_state(name):
    space = SMALL[name]
    torch.manual_seed(0)
    for block in range(1, len(space.depths)):
        source = Stem(space, block, space.entries(block))
        for state in space.entries(block):
            h = source(inputs_for(space), state)
            for path, end in space.paths(block, state):
                found, ended = SuperBlock(space, block)(h, path, state)
                assert ended == end and found.shape[1] == space.channels(block, end)


def test_a_slim_convolution_is_the_slice_of_the_first_channels():
    layer = SlimConv((2, 4), 1).eval()
    h = torch.randn(3, 2, 5, 5, generator=seeded())
    by_hand = functional.conv2d(h, layer.weight[:2, :2], padding=1)
    assert torch.allclose(layer(h, 0, 0), layer.norms[0](by_hand).relu(), atol=1e-6)


def test_each_width_has_statistics_of_its_own():
    layer = SlimConv((2, 4), 1)
    before = layer.norms[1].running_mean.clone()
    layer(torch.randn(3, 4, 5, 5), 0, 1)
    assert torch.equal(layer.norms[1].running_mean, before)
    assert not torch.equal(layer.norms[0].running_mean, torch.zeros(2))


def test_attention_sums_values_over_the_places_that_are_asked():
    torch.manual_seed(0)
    attention = PlaceAttention(4)
    h = torch.randn(1, 4, 1, 2)
    query, key, value = attention.qkv(h).view(3, 4, 2)
    weights = (query.T @ key / 2.0).softmax(1)  # (place that asks, place that is asked)
    assert torch.allclose(weights.sum(1), torch.ones(2))
    assert torch.allclose(attention(h)[0, :, 0], value @ weights.T, atol=1e-6)


def test_attention_without_its_convolution_does_not_know_places():
    torch.manual_seed(0)
    operation = HyTraOperation("att", 8, {"keep": 8}).eval()
    nn.init.ones_(operation.body[-1].weight)
    entry = operation.entries["keep"]
    entry[1] = nn.Identity()
    h = torch.randn(2, 8, 3, 3)
    order = torch.randperm(9)
    moved = h.flatten(2)[..., order].view_as(h)
    expected = operation(h).flatten(2)[..., order]
    assert torch.allclose(operation(moved).flatten(2), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["conv", "att"])
def test_a_new_residual_block_is_its_shortcut(kind):
    operation = HyTraOperation(kind, 8, {"keep": 8, "down": 4}).eval()
    h = torch.randn(2, 8, 4, 4)
    assert torch.equal(operation.through(h, "keep"), h.relu())
    less = torch.randn(2, 4, 4, 4)
    assert torch.equal(operation.through(less, "down"), operation.shortcuts["down"](less).relu())


def test_series_are_resampled_over_their_own_length():
    values = torch.tensor([[[0.0, 2.0, 4.0, 99.0]], [[0.0, 1.0, 2.0, 3.0]]])
    found = resampled(values, torch.tensor([3, 4]), 5)
    assert torch.allclose(found[0, 0], torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0]))
    assert torch.allclose(found[1, 0], torch.tensor([0.0, 0.75, 1.5, 2.25, 3.0]))


def test_costs_are_those_of_the_network():
    small, large = costs(SLIM, [[0, 0], [0]]), costs(SLIM, [[1, 1], [1]])
    assert small[0] < large[0] and small[1] < large[1]
    assert small[0] == sum(p.numel() for p in build(SLIM, [[0, 0], [0]], 1).parameters())


# the user's own space


@keeps_arguments
class Twice(nn.Module):
    kind: ClassVar[str] = "twice"

    def __init__(self, *, by: float = 2.0) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))

    def forward(self, h):
        return self.by * h


def own(**more) -> SearchSpace:
    layer = {"twice": Twice, "nothing": nn.Identity}
    given = {"blocks": [[layer] * 2, [layer]], "stem": nn.Identity, "channels": 3}
    return SearchSpace(**given | {"example": {"input": torch.zeros(1, 3, 2)}} | more)


def test_an_own_space_builds_networks_of_the_users_modules():
    network = build(own(), [[0, 1], [0]], 2)
    features = network.features(torch.ones(1, 3, 2))
    assert torch.allclose(features, torch.full((1, 3), 4.0))
    assert len(own()) == 8


def test_paths_that_end_with_other_channels_are_refused():
    bad = [[{"same": nn.Identity, "more": lambda: nn.Conv1d(3, 5, 1)}]]
    with pytest.raises(KnobError, match=r"paths of block 1 end with same \[3, 2\], more \[5, 2\]"):
        own(blocks=bad)


def test_an_own_space_may_leave_paths_out():
    space = own(legal=lambda block, path: path != (0, 0))
    assert [path for path, _ in space.paths(0, 0)] == [(0, 1), (1, 0), (1, 1)]


def test_a_part_that_no_file_can_make_again_cannot_be_kept():
    from stackwise.train.bossnas.spaces.own import check_keepable

    with pytest.raises(ModelError, match="its stem is a Identity"):
        check_keepable(build(own(), [[0, 0], [0]], 2))


# bootstrapping


def test_the_target_is_the_mean_of_unit_vectors():
    z = [torch.randn(5, 3, generator=seeded(i)) * (i + 1) for i in range(4)]
    expected = sum(one / one.norm(dim=1, keepdim=True) for one in z) / 4
    assert torch.allclose(ensemble_target(z), expected, atol=1e-6)
    assert torch.allclose(ensemble_target(z[:1]), unit(z[0]))


def test_the_loss_is_the_squared_distance_of_directions():
    one, other = torch.randn(50, 4, generator=seeded(1)), torch.randn(50, 4, generator=seeded(2))
    found = distance(one, other)
    assert torch.allclose(found, (unit(one) - unit(other)).square().sum(1), atol=1e-5)
    assert found.min() >= 0 and found.max() <= 4
    assert torch.allclose(distance(one, one), torch.zeros(50), atol=1e-6)
    assert torch.allclose(distance(one, -one), torch.full((50,), 4.0), atol=1e-5)


def test_tau_rises_from_its_beginning_to_one():
    assert tau_at(0, 10, 0.9) == pytest.approx(0.9)
    assert tau_at(5, 10, 0.9) == pytest.approx(0.95)
    assert tau_at(10, 10, 0.9) == 1


def test_the_teacher_is_the_closed_form_of_the_moving_average():
    pair = pair_of()
    first = {n: p.clone() for n, p in pair.teacher.named_parameters()}
    steps = []
    for seed in range(3):
        for place, parameter in enumerate(pair.online.parameters()):
            noise = torch.randn(parameter.shape, generator=seeded(100 * seed + place))
            parameter.data.add_(noise)
        steps.append({n: p.detach().clone() for n, p in pair.online.named_parameters()})
        pair.follow(0.8)
    for name, found in pair.teacher.named_parameters():
        expected = 0.8**3 * first[name]
        for place, one in enumerate(steps):
            expected = expected + 0.2 * 0.8 ** (2 - place) * one[name]
        assert torch.allclose(found, expected, atol=1e-5)


def test_tau_of_one_leaves_the_teacher_and_of_zero_copies():
    pair = pair_of()
    for parameter in pair.online.parameters():
        parameter.data.add_(1.0)
    before = [p.clone() for p in pair.teacher.parameters()]
    pair.follow(1.0)
    assert all(map(torch.equal, before, pair.teacher.parameters()))
    pair.follow(0.0)
    assert all(map(torch.equal, pair.online.parameters(), pair.teacher.parameters()))


def one_step(pair: Pair, chosen, *, together=True, views=None, **options):
    views = 2 * len(chosen) if views is None else views
    shape = (6, views, 1, 6, 6)
    batch = {"pixels": torch.randn(shape, generator=seeded(5)), "target": torch.zeros(6)}
    rule = BootstrapRule(
        lambda epoch, place: chosen, ["pixels"], together=together, own=views > 2, ema=0.5,
        **{"lr": 0.1, "grad_clip": None} | options,
    )  # fmt: skip
    trained = train(pair, rule, ListBatches([batch]), max_epochs=1)
    return batch, trained


def test_a_step_of_one_path_is_byol():
    chosen = [(1, (0, 1), 1)]
    pair = pair_of()
    again = pair_of()
    _, trained = one_step(pair, chosen, together=False, views=2)
    shape = (6, 2, 1, 6, 6)
    pixels = torch.randn(shape, generator=seeded(5))
    one, other = ({"pixels": pixels[:, side]} for side in (0, 1))
    state, path, _ = chosen[0]
    loss = torch.zeros(())
    for asked, shown in ((one, other), (other, one)):
        answer = again.predictor(again.online(asked, path, state))
        target = again.teacher(shown, path, state).detach()
        loss = loss + (unit(answer) - unit(target)).square().sum(1).mean()
    assert trained.history[0]["metrics"]["train_loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_all_paths_of_a_step_chase_the_mean_of_their_targets():
    chosen = [(1, (0, 1), 1), (1, (1, 0), 0)]
    again = pair_of()
    batch, trained = one_step(pair_of(), chosen)
    views = [[{"pixels": batch["pixels"][:, 2 * p + side]} for side in (0, 1)] for p in (0, 1)]
    target = [
        sum(unit(again.teacher(views[p][side], chosen[p][1], 1)) for p in (0, 1)) / 2
        for side in (0, 1)
    ]
    loss = sum(
        (unit(again.answers(views[p][side], chosen[p][1], 1)) - unit(target[1 - side]))
        .square().sum(1).mean() / 2
        for p in (0, 1) for side in (0, 1)
    )  # fmt: skip
    assert trained.history[0]["metrics"]["train_loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_operations_that_no_path_of_a_step_uses_do_not_change():
    space = SMALL["mbconv"]
    pair = pair_of(space)
    before = {n: p.detach().clone() for n, p in pair.named_parameters()}
    batch = {"pixels": torch.randn(6, 4, 1, 8, 8, generator=seeded())}
    rule = BootstrapRule(
        lambda epoch, place: [(0, (0,), 0), (0, (2,), 0)], ["pixels"], together=True, own=True,
        ema=0.5, lr=0.1, weight_decay=0.5,
    )  # fmt: skip
    made = train(pair, rule, ListBatches([batch]), max_epochs=2).model
    for name, parameter in made.named_parameters():
        if "layers.0.operations.1." in name or "layers.0.operations.3." in name:
            assert torch.equal(parameter, before[name]), name
        if "online.block.layers.0.operations.0.expand.0" in name:
            assert not torch.equal(parameter, before[name])


def behind(fixed: bool) -> Pair:
    torch.manual_seed(1)
    first = SuperBlock(SLIM, 0)
    stem = SLIM.stem()
    prefixes = [Prefix(copy.deepcopy(stem), first.cut((0, 1), 1), fixed=fixed) for _ in (0, 1)]
    return pair_of(block=1, source=prefixes[0], teachers=prefixes[1])


@pytest.mark.parametrize("fixed", [True, False])
def test_the_gradient_of_a_block_reaches_those_before_it_only_where_it_is_let(fixed):
    pair = behind(fixed)
    pair.answers({"pixels": torch.randn(4, 1, 6, 6)}, (1,), 1).sum().backward()
    reached = [p.grad is not None for p in pair.online.source.parameters()]
    assert not any(reached) if fixed else all(reached)
    assert all(p.grad is None for p in pair.teacher.parameters())


# ratings


def rated(pair: Pair, paths, seed: int = 7):
    generator = seeded(seed)
    calibration = {"pixels": torch.randn(8, 1, 6, 6, generator=generator)}
    seen = {"pixels": torch.randn(10, 2, 1, 6, 6, generator=generator)}
    return center_and_ratings(pair, paths, calibration, seen)


def test_the_center_is_the_direction_of_the_mean_over_all_paths():
    pair = pair_of()
    paths = candidates(SLIM, 0, [1], None, 0)
    center, ratings = rated(pair, paths)
    generator = seeded(7)
    calibration = {"pixels": torch.randn(8, 1, 6, 6, generator=generator)}
    seen = torch.randn(10, 2, 1, 6, 6, generator=generator)
    pair.eval()
    mean = torch.zeros(10, 6)
    with torch.no_grad():
        for state, path, _ in paths:
            with taking_statistics(pair.teacher):
                pair.teacher(calibration, path, state)
            mean += unit(pair.teacher({"pixels": seen[:, 0]}, path, state)) / len(paths)
    assert torch.allclose(center[0], unit(mean), atol=1e-5)
    assert all(0 <= one <= 8 for one in ratings)


def test_ratings_do_not_depend_on_the_order_of_paths_nor_on_what_ran_before():
    paths = candidates(SLIM, 0, [1], None, 0)
    pair = pair_of()
    _, ratings = rated(pair, paths)
    pair.train()
    pair.online({"pixels": 5 * torch.randn(9, 1, 6, 6)}, (1, 1), 1)
    _, backwards = rated(pair, paths[::-1])
    assert ratings == pytest.approx(backwards[::-1], abs=1e-6)


def test_identical_paths_get_identical_ratings():
    space = SMALL["rows"]
    every = candidates(space, 0, [0], None, 0)
    pair = pair_of(space, every=every)
    doubled = every[:1] * 2
    inputs = inputs_for(space, 8)
    seen = {name: torch.stack([one, one], 1) for name, one in inputs.items()}
    _, ratings = center_and_ratings(pair, doubled, inputs, seen)
    assert ratings[0] == ratings[1]


def test_ratings_run_the_teachers_prefix_alone():
    pair = behind(fixed=True)
    pair.teacher.source = Prefix(SLIM.stem(), SuperBlock(SLIM, 0).cut((0, 1), 1), fixed=True)
    paths = candidates(SLIM, 1, [1], None, 0)
    _, ratings = rated(pair, paths)
    for parameter in pair.online.source.parameters():
        parameter.data.add_(1.0)
    assert rated(pair, paths)[1] == ratings


def ratings_of() -> Ratings:
    values = iter([4.0, 1.0, 2.0, 3.0, 0.5, 0.25])
    blocks = []
    for block in range(2):
        every = candidates(SLIM, block, [1], None, 0)
        blocks.append(Rated(tuple((s, p, e, next(values)) for s, p, e in every)))
    return Ratings(SLIM, blocks)


def test_an_architecture_is_rated_by_the_sum_and_the_least_is_best():
    ratings = ratings_of()
    assert ratings.rate([[1, 0], [0]]) == 2.5
    assert ratings.best == ((0, 1), (1,)) and ratings.rate(ratings.best) == 1.25
    sums = [value for _, value in ratings.in_order()]
    assert sums == sorted(sums) and len(sums) == len(SLIM) == 8
    assert all(ratings.rate(one) == value for one, value in ratings.in_order())


def test_ratings_are_written_and_read_back():
    again = Ratings.of_json(SLIM, ratings_of().as_json())
    assert list(again.in_order()) == list(ratings_of().in_order())
    assert list(again.tables()[0].columns) == ["path", "operations", "entered", "rating"]


def test_architectures_come_in_order_through_the_scales_of_hytra():
    space = SMALL["hytra"]
    blocks = []
    for block in range(2):
        every = candidates(space, block, space.entries(block), None, 0)
        values = torch.rand(len(every), generator=seeded(block)).tolist()
        blocks.append(
            Rated(tuple((s, p, e, v) for (s, p, e), v in zip(every, values, strict=True)))
        )
    ratings = Ratings(space, blocks)
    found = list(ratings.in_order())
    assert len(found) == len(space) == len({one for one, _ in found})
    sums = [value for _, value in found]
    assert sums == sorted(sums) and math.isclose(sums[0], ratings.rate(found[0][0]))


def test_a_path_that_was_not_rated_is_named():
    space = SMALL["hytra"]
    first = candidates(space, 0, [0], None, 0)
    later = candidates(space, 1, [2], None, 0)
    blocks = [Rated(tuple((*one, 1.0) for one in rows)) for rows in (first, later)]
    ratings = Ratings(space, blocks)
    with pytest.raises(KnobError, match="was not rated where it stands"):
        ratings.rate([[4, 4], [4, 4]])
    every = list(ratings.in_order())
    assert len(ratings) == len(every) < len(space)
    drawn = {ratings.drawn(seeded(seed)) for seed in range(20)}
    assert len(drawn) > 3 and drawn <= {one for one, _ in every}


def test_a_good_ranking_is_positive():
    found = rank_report([3.0, 2.0, 1.0, 0.0], [0.1, 0.5, 0.3, 0.9])
    assert found["kendall"] == pytest.approx(
        stats.kendalltau([0, 1, 2, 3], [0.1, 0.5, 0.3, 0.9])[0]
    )
    assert 0 < found["spearman"] < 1 and found["pearson"] > 0
    assert rank_report([0, 0, 0], [1, 2, 3])["spearman"] == 0


def test_naswot_counts_the_relus_that_agree():
    space = own(blocks=[[{"relu": nn.ReLU, "nothing": nn.Identity}]])
    given = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0]]).reshape(2, 3, 1).expand(2, 3, 2)
    found = naswot(space, ((0,),), {"input": given})  # 6 agree with themselves, 2 of the two
    assert found == pytest.approx(-math.log(6 * 6 - 2 * 2))
    assert math.isnan(naswot(space, ((1,),), {"input": given}))


def test_naswot_sees_what_follows_the_stem():
    space = SMALL["operations"]
    scores = {naswot(space, ((one,), (one,)), inputs_for(space)) for one in range(4)}
    assert len(scores) == 4
