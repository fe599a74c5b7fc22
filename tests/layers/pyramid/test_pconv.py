"""Pyramid convolution, integrated batch norm and SEPC: what the equations promise exactly."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from stackwise.errors import KnobError, ModelError
from stackwise.layers.pyramid import SEPC, IntegratedBatchNorm, PConv, ScaleEqualConv2d

ODD = ((13, 17), (7, 9), (4, 5), (2, 3), (1, 2))


def pyramid(sides=ODD, channels=4, batch=2, dtype=torch.float64):
    torch.manual_seed(0)
    return [torch.randn(batch, channels, *side, dtype=dtype) for side in sides]


def strong(module, scale=0.3):
    """Weights large enough that every term shows."""
    torch.manual_seed(1)
    for name, parameter in module.named_parameters():
        if "where" not in name:
            nn.init.normal_(parameter, std=scale)
    return module.double()


def resized(x, like):
    return functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_it_equals_the_sum_of_three_convolutions(levels):
    pconv, x = strong(PConv(4, norm="none")), pyramid()[:levels]
    for level, found in enumerate(pconv(x)):
        total = functional.conv2d(x[level], pconv.same.conv.weight, pconv.same.conv.bias, padding=1)
        if level > 0:
            finer = pconv.finer.conv
            total = total + functional.conv2d(
                x[level - 1], finer.weight, finer.bias, stride=2, padding=1
            )
        if level + 1 < levels:
            coarser = pconv.coarser.conv
            above = functional.conv2d(x[level + 1], coarser.weight, coarser.bias, padding=1)
            total = total + resized(above, total)
        assert_close(found, total.relu(), rtol=0, atol=1e-12)


def test_with_levels_of_one_size_it_is_a_convolution_in_three_dimensions():
    pconv = strong(PConv(4, norm="none"))
    x = torch.randn(2, 4, 5, 6, 7, dtype=torch.float64)  # (B, C, L, H, W)
    pconv.finer.conv.stride = (1, 1)
    found = pconv.convolved(list(x.unbind(2)))
    kernels = [part.conv.weight for part in (pconv.finer, pconv.same, pconv.coarser)]
    wanted = functional.conv3d(x, torch.stack(kernels, dim=2), padding=1)
    # a bias belongs to a term, and is left out where the term is
    biases = [part.conv.bias.view(1, -1, 1, 1) for part in (pconv.finer, pconv.same, pconv.coarser)]
    for level, one in enumerate(found):
        bias = biases[1] + (biases[0] if level else 0) + (biases[2] if level < 4 else 0)
        assert_close(one - bias, wanted[:, :, level])


@pytest.mark.parametrize("deform", [False, True])
def test_shifted_levels_give_shifted_levels(deform):
    """Kernels are shared, so an interior level answers alike wherever it stands."""
    pconv = strong(PConv(4, norm="none", deform=deform))
    if deform:
        for part in (pconv.finer, pconv.same, pconv.coarser):
            nn.init.normal_(part.where.weight, std=0.2)
    x = pyramid()
    whole, shifted = pconv(x), pconv(x[1:])
    for level in range(1, 4):
        assert_close(whole[level + 1], shifted[level])


@pytest.mark.parametrize("depth", [1, 2])
def test_after_n_of_them_a_level_sees_n_levels_around_and_no_other(depth):
    stack = nn.ModuleList(strong(PConv(4, norm="none")) for _ in range(depth))
    for level in range(5):
        leaves = [one.requires_grad_() for one in pyramid()]
        found = leaves
        for pconv in stack:
            found = pconv(found)
        grads = torch.autograd.grad(found[level].sum(), leaves, allow_unused=True)
        seen = {place for place, g in enumerate(grads) if g is not None and bool(g.any())}
        assert seen == {one for one in range(5) if abs(one - level) <= depth}


def test_an_impulse_goes_down_by_the_kernel_for_coarser_and_up_by_that_for_finer():
    x = [torch.zeros(1, 2, *side, dtype=torch.float64) for side in ((8, 8), (4, 4), (2, 2))]
    x[1][0, :, 1, 1] = 1.0
    for kept, reached in (("finer", 2), ("same", 1), ("coarser", 0)):
        pconv = strong(PConv(2, norm="none"))
        for name in ("finer", "same", "coarser"):
            layer = getattr(pconv, name).conv
            nn.init.zeros_(layer.bias)
            if name != kept:
                nn.init.zeros_(layer.weight)
        assert [bool(one.any()) for one in pconv.convolved(x)] == [n == reached for n in range(3)]


def test_offsets_move_every_target_level_but_the_finest_and_begin_at_nothing():
    layer = strong(ScaleEqualConv2d(4, 4, deform=True))
    x = pyramid()[1]
    plain = layer.conv(x)
    assert_close(layer(x, 1), plain, rtol=0, atol=1e-10)
    nn.init.normal_(layer.where.weight, std=0.5)
    assert torch.equal(layer(x, 0), plain)
    assert not torch.allclose(layer(x, 1), plain, atol=1e-2)
    grad = torch.autograd.grad(layer(x, 0).sum(), layer.where.weight, allow_unused=True)[0]
    assert grad is None


@pytest.mark.parametrize("training", [True, False])
def test_integrated_batch_norm_is_batch_norm_of_all_levels_together(training):
    norm, levels = IntegratedBatchNorm(4).double().train(training), pyramid()
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    nn.init.normal_(norm.norm.running_mean)
    nn.init.uniform_(norm.norm.running_var, 0.5, 2)
    reference = copy.deepcopy(norm.norm)
    flat = torch.cat([one.flatten(2) for one in levels], dim=2)
    found = torch.cat([one.flatten(2) for one in norm(levels)], dim=2)
    assert_close(found, reference(flat))
    assert_close(norm.norm.running_mean, reference.running_mean)
    assert_close(norm.norm.running_var, reference.running_var)


def test_in_training_all_levels_together_have_mean_0_and_variance_1():
    levels = IntegratedBatchNorm(4).double()(pyramid())
    flat = torch.cat([one.transpose(0, 1).flatten(1) for one in levels], dim=1)
    assert_close(flat.mean(1), torch.zeros(4, dtype=torch.float64), atol=1e-12, rtol=0)
    assert_close(flat.var(1, unbiased=False), torch.ones(4, dtype=torch.float64), atol=1e-4, rtol=0)
    assert float(levels[0].detach().mean().abs()) > 1e-3  # a level for itself has not


def test_with_one_level_it_is_plain_batch_norm():
    x = pyramid()[0]
    assert_close(IntegratedBatchNorm(4).double()([x])[0], nn.BatchNorm2d(4).double()(x))


@pytest.mark.parametrize("fusion", ["pconv", "ibn", "lite", "full"])
def test_sepc_keeps_sizes_and_begins_as_its_plain_form(fusion):
    torch.manual_seed(0)
    module = SEPC(4, depth=2, fusion=fusion).double()
    plain = SEPC(4, depth=2, fusion="pconv" if fusion == "pconv" else "ibn").double()
    missing = plain.load_state_dict(module.state_dict(), strict=False)
    assert not missing.missing_keys and all("where" in key for key in missing.unexpected_keys)
    x = pyramid()
    for found, wanted in zip(module(x), plain(x), strict=True):
        assert [one.shape for one in found] == [one.shape for one in x]
        for one, other in zip(found, wanted, strict=True):
            assert_close(one, other, rtol=0, atol=1e-8)


def where_is_deformable(fusion):
    module = SEPC(4, depth=2, fusion=fusion)
    return {name.split(".")[0] for name, _ in module.named_parameters() if "where" in name}


def test_the_variants_deform_what_the_table_says():
    assert where_is_deformable("pconv") == where_is_deformable("ibn") == set()
    assert where_is_deformable("lite") == {"classes", "boxes"}
    assert where_is_deformable("full") == {"pconvs", "classes", "boxes"}


def test_every_layer_of_offsets_moves_in_the_first_step():
    module = strong(SEPC(4, depth=2, fusion="full"))
    before = {n: p.clone() for n, p in module.named_parameters() if "where" in n}
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    classes, boxes = module(pyramid())
    torch.manual_seed(5)
    loss = sum((one - torch.randn_like(one)).square().mean() for one in [*classes, *boxes])
    loss.backward()
    optimizer.step()
    for name, parameter in module.named_parameters():
        if name in before:
            assert not torch.equal(parameter, before[name]), name


def test_offset_gradients_agree_with_finite_differences_between_pixels():
    pconv = strong(PConv(1, norm="none", deform=True))
    torch.manual_seed(3)
    for part in (pconv.finer, pconv.same, pconv.coarser):
        nn.init.normal_(part.where.weight, std=0.05)
        nn.init.uniform_(part.where.bias, 0.2, 0.4)
    x = pyramid(((3, 4), (2, 2)), channels=1, batch=1)
    names = [f"{part}.where.weight" for part in ("finer", "same")]
    given = [pconv.get_parameter(name).detach().requires_grad_() for name in names]

    def run(*weights):
        replaced = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(pconv, replaced, (x,))[1]

    assert torch.autograd.gradcheck(run, given)


def test_the_old_way_without_padding_is_the_same_map_without_its_edge():
    """Its anchors lie on the smaller grid from the corner: one cell up and left of the truth."""
    module = strong(SEPC(4, depth=1, fusion="ibn")).eval()
    old = SEPC(4, depth=1, fusion="ibn", padding=0).double().eval()
    old.load_state_dict(module.state_dict())
    x = pyramid(((12, 14), (6, 7), (3, 4)))
    for new, cut in zip(module(x)[0], old(x)[0], strict=True):
        assert_close(new[:, :, 1:-1, 1:-1], cut)


def test_the_order_of_the_batch_does_not_matter():
    module, x = strong(SEPC(4, depth=2, fusion="full")).eval(), pyramid()
    turned = module([one.flip(0) for one in x])[0]
    for one, other in zip(module(x)[0], turned, strict=True):
        assert_close(one, other.flip(0))


def test_the_list_that_is_given_stays_as_it_was():
    module, x = SEPC(4, depth=2).double(), pyramid()
    kept = [one.clone() for one in x]
    module(x)
    assert all(torch.equal(one, other) for one, other in zip(x, kept, strict=True))


def test_parameters_and_multiplications_are_those_of_the_formula():
    module, x = SEPC(8, depth=4, fusion="ibn"), pyramid(
        tuple((2 ** (9 - n), 2 ** (9 - n)) for n in range(5)), channels=8, batch=1,
        dtype=torch.float32,
    )  # fmt: skip
    weights = sum(p.numel() for n, p in module.named_parameters() if p.ndim == 4)
    assert weights == 14 * 9 * 8**2
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(x)
    one = 2 * 9 * 8**2 * sum(level.shape[-1] * level.shape[-2] for level in x)
    assert counter.get_total_flops() == pytest.approx(8 * one, rel=0.01)


@pytest.mark.parametrize("fusion", ["pconv", "full"])
def test_it_runs_in_half_precision(fusion):
    module = SEPC(4, depth=2, fusion=fusion)
    x = pyramid(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        classes, boxes = module(x)
        sum(one.float().square().sum() for one in [*classes, *boxes]).backward()
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters())


@pytest.mark.slow
def test_it_exports():
    module, x = SEPC(4, depth=1, fusion="full").eval(), pyramid(dtype=torch.float32)[:3]
    with torch.no_grad():
        program = torch.export.export(module, (x,)).module()
        for found, wanted in zip(program(x), module(x), strict=True):
            for one, other in zip(found, wanted, strict=True):
                assert_close(one, other)


def test_what_cannot_be_convolved_is_refused_in_one_sentence():
    with pytest.raises(ModelError, match="PConv needs at least 2 levels, got 1"):
        PConv(4)(pyramid()[:1])
    with pytest.raises(ModelError, match="level 1 is 7 x 11 but level 2 is 3 x 6; expected 4 x 6"):
        PConv(4).double()(pyramid(((14, 22), (7, 11), (3, 6))))
    with pytest.raises(ModelError, match=r"level 1 must be \(batch, 4, height, width\)"):
        x = pyramid()[:2]
        PConv(4).double()([x[0], x[1][:, :2]])
    with pytest.raises(ModelError, match="needs more than one value per channel in training"):
        IntegratedBatchNorm(4)([torch.zeros(1, 4, 1, 1)])
    with pytest.raises(KnobError, match="fusion='pconv' has no norm"):
        SEPC(4, fusion="pconv", norm="group")
