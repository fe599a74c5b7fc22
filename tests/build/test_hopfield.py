import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from stackwise.layers.hopfield import HopfieldAssociation, look_up, nearest_places, weights_of


@pytest.fixture(autouse=True)
def same_start():
    torch.manual_seed(0)


def patterns(heads=2, batch=5, n=37, a=4, b=3):
    return torch.randn(heads, batch, a), torch.randn(heads, n, a), torch.randn(heads, n, b)


def with_gradients(**how):
    q, k, v = (x.clone().requires_grad_() for x in patterns())
    found = look_up(q, k, v, 0.7, **how)
    found.square().sum().backward()
    return [found.detach(), q.grad, k.grad, v.grad]


@pytest.mark.parametrize("own", [None, torch.tensor([3, -1, 0, 36, 12])])
def test_a_stretch_at_a_time_is_the_whole_softmax_with_its_gradients(own):
    torch.manual_seed(1)
    whole = with_gradients(own=own)
    torch.manual_seed(1)
    parts = with_gradients(own=own, how="chunked", chunk=10)
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("own", [None, torch.tensor([3, -1, 0, 36, 12])])
def test_the_nearest_of_all_patterns_are_all_patterns(own):
    q, k, v = patterns()
    whole = look_up(q, k, v, 0.7, own=own)
    assert torch.allclose(look_up(q, k, v, 0.7, own=own, how="nearest", neighbours=37), whole)
    from stackwise.layers import hopfield

    near = hopfield._nearest(q, k, v, 0.7, own, 0.0, 37, 10)
    assert torch.allclose(near, whole, atol=1e-5)


def test_the_nearest_patterns_are_those_of_the_highest_score():
    q, k, _ = patterns(n=300)
    found = nearest_places(q, k, 1.0, None, 7, chunk=64).sort(-1).values
    assert torch.equal(found, (q @ k.transpose(1, 2)).topk(7).indices.sort(-1).values)


def test_a_sharp_lookup_is_well_met_by_its_nearest_patterns():
    q, k, v = patterns(n=400)
    errors = [
        (look_up(q, k, v, 3.0, how="nearest", neighbours=count) - look_up(q, k, v, 3.0)).abs().max()
        for count in (1, 10, 100)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.05


def test_a_state_never_looks_at_its_own_pattern():
    q, k, v = patterns()
    own = torch.tensor([0, 1, 2, 3, 4])
    changed = v.clone()
    changed[:, 2] += 100
    for how in ("full", "chunked", "nearest"):
        before = look_up(q, k, v, 1.0, own=own, how=how, neighbours=36)
        after = look_up(q, k, changed, 1.0, own=own, how=how, neighbours=36)
        assert torch.allclose(before[:, 2], after[:, 2], atol=1e-5)
        assert not torch.allclose(before[:, 1], after[:, 1])


def test_storing_every_pattern_twice_changes_nothing():
    q, k, v = patterns()
    twice = look_up(q, torch.cat([k, k], 1), torch.cat([v, v], 1), 0.7)
    assert torch.allclose(twice, look_up(q, k, v, 0.7), atol=1e-6)


def test_a_large_scaling_takes_the_nearest_value_and_none_takes_the_mean():
    q, k, v = patterns()
    best = (q @ k.transpose(1, 2)).argmax(-1)
    nearest = torch.stack([values[places] for values, places in zip(v, best, strict=True)])
    assert torch.allclose(look_up(q, k, v, 1e5), nearest, atol=1e-4)
    mean = v.mean(1, keepdim=True).expand(-1, 5, -1)
    assert torch.allclose(look_up(q, k, v, 0.0), mean, atol=1e-6)


def test_the_association_is_torchs_multi_head_attention_with_the_same_weights():
    d, heads = 12, 3
    ours, theirs = HopfieldAssociation(d, heads).eval(), nn.MultiheadAttention(d, heads)
    with torch.no_grad():
        projections = (ours.query, ours.key, ours.value)
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
        theirs.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    state, memory = torch.randn(5, d), torch.randn(20, d)
    expected, weights = theirs(state, memory, memory)
    stored = ours.stored(memory)
    assert torch.allclose(ours(state, stored), expected, atol=1e-6)
    assert torch.allclose(ours.weights(state, stored).mean(0), weights, atol=1e-6)
    assert ours.beta == pytest.approx(1 / math.sqrt(4))


def test_the_lookup_is_torchs_attention():
    q, k, v = patterns()
    assert torch.allclose(
        look_up(q, k, v, 0.5),
        functional.scaled_dot_product_attention(q, k, v, scale=0.5), atol=1e-6,
    )  # fmt: skip
    assert torch.allclose(weights_of(q, k, 0.5).sum(-1), torch.ones(2, 5), atol=1e-6)
