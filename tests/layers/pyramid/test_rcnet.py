"""RevFP, cross-scale shift, contexts and RCNet: what the equations promise exactly."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from stackwise.errors import ModelError
from stackwise.layers.pyramid import (
    CrossScaleShift,
    FusionNode,
    RCNet,
    RevFP,
    ScaleContext,
    SpatialContext,
)  # fmt: skip
from stackwise.layers.pyramid.levels import enlarged, pooled
from stackwise.layers.pyramid.reverse.contexts import with_contexts
from stackwise.layers.pyramid.reverse.rcnet import _at_size

ODD = ((13, 17), (7, 9), (4, 5), (2, 3), (1, 2))
PLAIN = {"conv": "plain", "norm": "group"}


def pyramid(sides=ODD, channels=4, batch=2, dtype=torch.float64):
    torch.manual_seed(0)
    return [torch.randn(batch, channels, *side, dtype=dtype) for side in sides]


def random(module, scale=0.3):
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=scale)
    return module.double()


def node(**how):
    return FusionNode(4, **{"three": True, "guided": True, "conv": "plain", "norm": "none"} | how)


class Same(nn.Module):
    def forward(self, x):
        return x


def bare(made):
    """A node without its convolutions."""
    made.pre, made.post = Same() if made.pre is not None else None, Same()
    return made


def test_at_first_weights_are_a_half_and_guidance_is_1_everywhere():
    seen, x = [], pyramid()
    RevFP(4, 5, **PLAIN).double()(x, seen=seen)
    assert [len(one.weights) for one in seen] == [1, 2, 2, 2, 1]
    for one in seen:
        assert all(torch.equal(w, torch.full((2,), 0.5)) for w in one.weights)
    assert [one.guidance is None for one in seen] == [False] * 4 + [True]
    for one in seen[:4]:
        assert_close(one.guidance, torch.ones_like(one.guidance))


def test_the_guidance_has_mean_1_always():
    made, (x1, x2, x3) = random(node()), pyramid(((5, 6),) * 3)
    seen = []
    made(x1, x2, x3, seen=seen)
    assert_close(seen[0].guidance.mean((1, 2)), torch.ones(2))
    assert float(seen[0].guidance.std()) > 0.05


def test_at_first_guided_and_unguided_nodes_agree():
    x = pyramid(((5, 6),) * 3)
    torch.manual_seed(0)
    guided = node().double()
    torch.manual_seed(0)
    plain = node(guided=False, weights="mean").double()
    plain.load_state_dict(guided.state_dict(), strict=False)
    assert_close(guided(*x), plain(*x))


def test_weights_are_said_by_means_before_the_guidance_and_after_pre():
    made, (x1, x2, x3) = random(node()), pyramid(((5, 6),) * 3)
    seen = []
    made(x1, x2, x3, seen=seen)

    def said(layer, one, other):
        v = layer.conv.weight.flatten()
        return (
            torch.cat([one.mean((2, 3)), other.mean((2, 3))], 1) @ v + layer.conv.bias
        ).sigmoid()

    first = said(made.weights[0], x1, x2)
    assert_close(seen[0].weights[0].double(), first, rtol=1e-5, atol=1e-6)
    w, attended = first.view(-1, 1, 1, 1), made.guidance(x1, x2) * x2
    pre = made.pre(w * x1 + (1 - w) * attended)
    second = said(made.weights[1], pre, x3)
    assert_close(seen[0].weights[1].double(), second, rtol=1e-5, atol=1e-6)
    w = second.view(-1, 1, 1, 1)
    assert_close(made(x1, x2, x3), made.post(w * pre + (1 - w) * x3))


def test_the_coarser_map_is_joined_first_and_the_finer_one_last():
    made = bare(node())
    ones = torch.ones(1, 4, 4, 4)
    assert_close(made(ones, 2 * ones, 4 * ones), 2.75 * ones)  # ((1 + 2) / 2 + 4) / 2
    pyramid_ = [16 * torch.ones(1, 4, 8, 8), torch.ones(1, 4, 4, 4), 2 * torch.ones(1, 4, 2, 2)]
    revfp = RevFP(4, 3, **PLAIN)
    for one in revfp.nodes:
        bare(one)
    p1, p2, p3 = (one.detach() for one in revfp(pyramid_))
    assert_close(p1, torch.full_like(p1, (16 + 1) / 2))
    assert_close(p2, torch.full_like(p2, ((1 + 2) / 2 + 8.5) / 2))
    assert_close(p3, torch.full_like(p3, (2 + float(p2[0, 0, 0, 0])) / 2))


def test_the_relu_comes_before_the_convolution():
    made = random(node(three=False, guided=False))
    below = -torch.ones(2, 4, 5, 5, dtype=torch.float64)
    bias = made.post.conv.bias.view(1, -1, 1, 1)
    assert_close(made(below, below), bias.expand(2, 4, 5, 5))  # conv of zeros
    assert float(made(*pyramid(((5, 6),) * 2)).min()) < 0


def test_a_fusion_lies_between_its_maps_and_can_be_turned_round():
    x1, x2 = pyramid(((5, 6),) * 2)
    made = bare(random(node(three=False, guided=False)))
    turned = bare(random(node(three=False, guided=False)))
    v = made.weights[0].conv.weight.detach()
    turned.weights[0].conv.weight.data = -torch.cat([v[:, 4:], v[:, :4]], dim=1)
    turned.weights[0].conv.bias.data = -made.weights[0].conv.bias.detach()
    y = made(x1, x2)
    assert bool((y >= torch.minimum(x1, x2)).all() and (y <= torch.maximum(x1, x2)).all())
    assert_close(turned(x2, x1), y)


@pytest.mark.parametrize("wrap", [True, False])
@pytest.mark.parametrize("levels", [3, 5])
def test_groups_are_rolled_copies_beside_the_whole(wrap, levels):
    x = torch.randn(2, levels, 16, 2, 3)
    shift = CrossScaleShift(16, levels, ratio=8, wrap=wrap, norm="none")
    found = shift.shifted(x)
    assert found.shape == (2, levels, 24, 2, 3) and torch.equal(found[:, :, 8:], x)
    for place, offset in enumerate((1, -1, 2, -2)):
        group = slice(2 * place, 2 * place + 2)
        moved = torch.roll(x[:, :, group], -offset, dims=1)
        for level in range(levels):
            inside = 0 <= level + offset < levels
            wanted = moved[:, level] if wrap or inside else torch.zeros_like(moved[:, level])
            assert torch.equal(found[:, level, group], wanted)


def test_without_what_they_add_shift_and_contexts_change_nothing():
    neck = random(RCNet([4, 4], 16, 4, norm="none", conv="plain"))
    for part in neck.csn.shift.aggregations:
        nn.init.zeros_(part[3].weight), nn.init.zeros_(part[3].bias)
    x = torch.randn(2, 4, 16, 3, 3, dtype=torch.float64)
    assert torch.equal(neck.csn.shift(x), x)
    for context in (neck.csn.scale, neck.csn.spatial):
        nn.init.zeros_(context.turns.weight), nn.init.zeros_(context.turns.bias)
    assert torch.equal(with_contexts(x, neck.csn.scale, neck.csn.spatial), x)
    maps = pyramid(((9, 11), (5, 6)))
    p = neck.revfp(neck.before(maps))
    wanted = [one + _at_size(_at_size(one, p[1]), one) for one in p]
    for found, one in zip(neck(maps), wanted, strict=True):
        assert_close(found, one)


def test_a_context_is_its_equation_and_does_not_mind_the_order():
    x = torch.randn(2, 5, 4, 3, 2, dtype=torch.float64)
    scale, spatial = random(ScaleContext(4)), random(SpatialContext(4))
    u = x.mean((3, 4))  # (B, L, C)
    alpha = 5 * (u @ scale.says.weight.flatten() + scale.says.bias).softmax(1)
    mean = (alpha[..., None] * u).mean(1)
    wanted = mean @ scale.turns.weight[:, :, 0, 0].T + scale.turns.bias
    assert_close(scale(x)[:, 0, :, 0, 0], wanted, rtol=1e-6, atol=1e-6)
    u = x.mean(1).flatten(2).transpose(1, 2)  # (B, HW, C)
    beta = 6 * (u @ spatial.says.weight.flatten() + spatial.says.bias).softmax(1)
    mean = (beta[..., None] * u).mean(1)
    wanted = mean @ spatial.turns.weight[:, :, 0, 0].T + spatial.turns.bias
    assert_close(spatial(x)[:, 0, :, 0, 0], wanted, rtol=1e-6, atol=1e-6)
    assert_close(scale(x[:, [3, 1, 4, 0, 2]]), scale(x))
    turned = x.flatten(3)[..., [5, 2, 0, 1, 4, 3]].view_as(x)
    assert_close(spatial(turned), spatial(x))


def reaches(module, sides, widths):
    """For each output level, the given maps that it depends on."""
    found = []
    for level in range(5):
        torch.manual_seed(0)
        leaves = [
            torch.randn(2, w, *side, dtype=torch.float64, requires_grad=True)
            for w, side in zip(widths, sides, strict=True)
        ]
        grads = torch.autograd.grad(module(leaves)[level].square().sum(), leaves, allow_unused=True)
        found.append({n for n, g in enumerate(grads) if g is not None and bool(g.abs().max() > 0)})
    return found


def test_a_level_of_revfp_sees_all_finer_ones_and_the_next_coarser_one():
    revfp = random(RevFP(4, 5, conv="plain", norm="none")).eval()
    sees = [{0, 1}, {0, 1, 2}, {0, 1, 2, 3}, {0, 1, 2, 3, 4}, {0, 1, 2, 3, 4}]
    assert reaches(revfp, ODD, [4] * 5) == sees


def test_after_the_levels_met_each_sees_all():
    neck = random(RCNet([4, 6, 8], 16, 5, conv="plain", norm="none")).eval()
    assert reaches(neck, ODD[:3], [4, 6, 8]) == [{0, 1, 2}] * 5


@pytest.mark.parametrize("fusion", ["rcnet", "revfp", "csn"])
@pytest.mark.parametrize("levels", [3, 4, 5])
def test_odd_sizes_come_back_and_the_given_list_stays(fusion, levels):
    maps = [x.float() for x in pyramid(ODD[:3])]
    kept = [x.clone() for x in maps]
    neck = RCNet([4, 4, 4], 16, levels, fusion=fusion)
    found = neck(maps)
    assert [tuple(x.shape) for x in found] == [(2, 16, *side) for side in ODD[:levels]]
    assert len(maps) == 3 and all(torch.equal(a, b) for a, b in zip(maps, kept, strict=True))
    sum(x.square().sum() for x in found).backward()
    assert all(p.grad is not None for p in neck.parameters())


def test_pictures_are_answered_one_by_one_as_together():
    neck = random(RCNet([4, 4, 4], 16, 5), scale=0.1).eval()
    maps = pyramid(ODD[:3], batch=3)
    together = neck(maps)
    for row in range(3):
        for one, all_ in zip(neck([x[row : row + 1] for x in maps]), together, strict=True):
            assert_close(one[0], all_[row])


def test_offsets_and_masks_of_the_nodes_move_in_the_first_step():
    neck = RCNet([4, 4, 4], 16, 5).double()
    before = {n: p.clone() for n, p in neck.named_parameters() if ".where." in n}
    assert len(before) == 2 * (3 + 5)
    optimizer = torch.optim.SGD(neck.parameters(), lr=0.1)
    torch.manual_seed(7)
    loss = sum((x - torch.randn_like(x)).square().mean() for x in neck(pyramid(ODD[:3])))
    loss.backward()
    optimizer.step()
    assert all(not torch.equal(neck.get_parameter(n), p) for n, p in before.items())


def test_an_odd_edge_is_repeated_before_the_pool():
    x = torch.arange(9.0).view(1, 1, 3, 3) * -1
    assert torch.equal(pooled(x)[0, 0], torch.tensor([[0.0, -2.0], [-6.0, -8.0]]))
    assert enlarged(pooled(x), x).shape == x.shape


def test_it_runs_in_half_precision():
    neck = RCNet([4, 4, 4], 16, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = neck([x.float() for x in pyramid(ODD[:3])])
        sum(x.float().square().sum() for x in found).backward()
    assert all(bool(p.grad.isfinite().all()) for p in neck.parameters())


@pytest.mark.slow
def test_it_exports():
    neck, maps = RCNet([4, 4, 4], 16, 4).eval(), [x.float() for x in pyramid(ODD[:3])]
    with torch.no_grad():
        program = torch.export.export(neck, (maps,)).module()
        for one, other in zip(program(maps), neck(maps), strict=True):
            assert_close(one, other)


def test_decisions_are_those_of_each_node():
    neck = random(RCNet([4, 4, 4], 16, 5, norm="group"), scale=0.1).float()
    maps = [x.float() for x in pyramid(ODD[:3])]
    decided = neck.decisions(maps)
    assert len(decided) == 5 and decided[1].guidance.shape == (2, 7, 9)
    assert RCNet([4, 4, 4], 16, 5, fusion="csn").decisions(maps) == []


def test_what_does_not_fit_is_refused_in_one_sentence():
    with pytest.raises(ModelError, match=r"channels \(60\) must be divisible by ratio \(16\)"):
        CrossScaleShift(60, 5)
    with pytest.raises(ModelError, match="offsets must be smaller than the number of levels"):
        CrossScaleShift(16, 2, offsets=(1, 2))
    with pytest.raises(ModelError, match="CrossScaleShift was built for 5 levels, got 4"):
        CrossScaleShift(16, 5)(torch.zeros(1, 4, 16, 2, 2))
    with pytest.raises(ModelError, match="at least 2 levels, got 1"):
        RevFP(4, 1)
    with pytest.raises(ModelError, match="level 1 is 7 x 9 but level 2 is 3 x 5"):
        RevFP(4, 3).double()(pyramid(((13, 17), (7, 9), (3, 5))))
    with pytest.raises(ModelError, match="take norm='group'"):
        RCNet([4, 4], 16, 3)(pyramid(((4, 4), (2, 2)), batch=1, dtype=torch.float32))
