"""The network of Mamba blocks, and what it costs."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from stackwise.errors import ModelError
from stackwise.layers.s6 import S6
from stackwise.shrink.mamba_pkd import Mamba, decays, multiply_adds, shares, width_of_cost
from stackwise.shrink.mamba_pkd.cost import within_budget
from stackwise.stack import Stack

DIGIT = (1, 28, 28)


def network(**changed: object) -> Mamba:
    torch.manual_seed(0)
    arguments = {"image_shape": (3, 8, 12), "n_outputs": 5, "width": 8, "d_state": 4}
    return Mamba(**arguments | changed)


def rows_of_digits(width: int, depth: int) -> Mamba:
    return Mamba(image_shape=DIGIT, n_outputs=10, patch=None, d_state=8, width=width, depth=depth)


# --------------------------------------------------------------------------- pictures as sequences


def test_patches_are_cut_row_by_row():
    pixels = torch.arange(2 * 3 * 8 * 12.0).view(2, 3, 8, 12)
    patches = network().patches(pixels)
    assert patches.shape == (2, 2 * 3, 3 * 16)
    # the fourth patch is the first of the second row of patches
    assert torch.equal(patches[1, 3], pixels[1, :, 4:8, 0:4].flatten())
    rows = network(patch=None).patches(pixels)
    assert torch.equal(rows[1, 5], pixels[1, :, 5].flatten())


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_network_made_of_its_arguments_and_its_weights_gives_the_same(
    pooling: str, bidirectional: bool
):
    ours = network(pooling=pooling, bidirectional=bidirectional, previous=3)
    again = Mamba(**ours.arguments)
    again.load_state_dict(ours.state_dict())
    given = torch.randn(2, 3, 8, 12), torch.randn(2, 3)
    assert torch.equal(ours(*given), again(*given))
    assert ours(*given).shape == (2, 5)


def test_the_features_of_the_student_before_are_one_more_token():
    student, pixels = network(previous=3), torch.randn(2, 3, 8, 12)
    one, other = (student(pixels, torch.full((2, 3), value)) for value in (0.0, 1.0))
    assert not torch.allclose(one, other)
    with pytest.raises(ModelError, match="reads 3 features, got 0"):
        student(pixels)


def test_stack_finds_the_blocks_and_runs_the_second_one_alone():
    ours, pixels = network(depth=3).eval(), torch.randn(2, 3, 8, 12)
    stack = Stack.of(ours)
    assert len(stack) == 3
    with stack.path([1]), torch.no_grad():
        found = ours.features(pixels)
    u = ours.blocks[1](ours.embedding(ours.patches(pixels)) + ours.positions)
    assert torch.equal(found, ours.norm(u).mean(1))


@torch.no_grad()
def test_the_output_matrix_of_a_block_begins_smaller_in_a_deep_network():
    shallow, deep = (network(depth=depth, bidirectional=True).blocks[0].mixer for depth in (1, 16))
    for one, other in ((shallow, deep), (shallow.reverse, deep.reverse)):
        ratio = one.out_proj.weight.std() / other.out_proj.weight.std()
        assert ratio == pytest.approx(4, rel=0.2)


def test_weight_decay_leaves_rates_skips_norms_and_biases_alone():
    kept = {name for name, parameter in network().named_parameters() if not decays(name, parameter)}
    block = {"norm.weight", "mixer.A_log", "mixer.D", "mixer.conv1d.bias", "mixer.dt_proj.bias"}
    blocks = {f"blocks.{place}.{name}" for place in (0, 1) for name in block}
    assert kept == blocks | {"norm.weight", "head.bias", "embedding.bias"}


def test_pictures_that_do_not_fit_are_refused_in_one_sentence():
    with pytest.raises(ModelError, match="patch 5 does not divide 28"):
        Mamba(image_shape=DIGIT, n_outputs=10, patch=5)
    with pytest.raises(ModelError, match=r"are \(1, 28, 28\), the network was built for"):
        network()(torch.zeros(2, *DIGIT))


# --------------------------------------------------------------------------- cost


@pytest.mark.parametrize("changed", [{}, {"patch": None}, {"bidirectional": True}, {"depth": 1}])
def test_the_formula_counts_what_a_call_computes(changed: dict[str, object]):
    ours = network(**changed)
    assert ours.multiply_adds() == multiply_adds(ours, torch.zeros(1, 3, 8, 12))
    read = network(previous=7, **changed)
    given = torch.zeros(1, 3, 8, 12), torch.zeros(1, 7)
    assert read.multiply_adds() == multiply_adds(read, *given)


def test_a_layer_costs_what_the_paper_says():
    # L (2 D E + k E + E (R + 2 N) + R E + E D + 5 E N) with D = 64, E = 128, N = 8, R = 4
    token = 2 * 64 * 128 + 4 * 128 + 128 * 20 + 4 * 128 + 128 * 64 + 5 * 128 * 8
    assert S6(64, d_state=8).multiply_adds(28) == 28 * token


def test_students_of_the_pilot_cost_the_stated_share_of_their_teacher():
    teacher = rows_of_digits(64, 2).multiply_adds()
    assert teacher == pytest.approx(1.91e6, rel=0.005)
    found = [rows_of_digits(width, 1).multiply_adds() / teacher for width in range(4, 29, 4)]
    assert [round(share, 3) for share in found] == [0.010, 0.023, 0.039, 0.058, 0.081, 0.105, 0.133]


def test_any_network_is_counted_and_left_in_its_mode():
    mlp = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 2)).train()
    assert multiply_adds(mlp, torch.zeros(1, 4, 4)) == 16 * 5 + 5 * 2
    conv = nn.Conv2d(4, 6, 3, groups=2)
    assert multiply_adds(conv, torch.zeros(1, 4, 5, 5)) == 9 * 6 * 2 * 9
    assert mlp.training


@pytest.mark.parametrize("students", [1, 2, 7])
def test_shares_grow_by_one_factor_and_sum_to_the_total(students: int):
    found = shares(students)
    assert sum(found) == pytest.approx(0.63)
    if students > 1:
        assert found[0] == 0.01
        factors = [after / before for before, after in pairwise(found)]
        assert factors == pytest.approx([factors[0]] * len(factors)) and factors[0] > 1


def test_the_width_of_a_cost_is_the_nearest():
    for budget, width in ((0.2, 1), (9, 3), (11.9, 3), (12.6, 4), (10_000, 100)):
        assert width_of_cost(budget, lambda width: width**2) == width


def test_a_budget_buys_the_longest_prefix_that_it_pays():
    costs = [0.01, 0.02, 0.04]
    assert [within_budget(costs, budget) for budget in (0.01, 0.029, 0.03, 0.07, 1)] == [
        1, 1, 2, 3, 3,
    ]  # fmt: skip
    with pytest.raises(ModelError, match=r"budget 0.005 is below the smallest student \(0.01\)"):
        within_budget(costs, 0.005)
