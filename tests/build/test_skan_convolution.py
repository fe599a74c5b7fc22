"""The sliding layer equals the dense one on patches, and its pruned form the hardened one."""

import pytest
import torch
from torch.nn import functional as F

from stackwise.build.skan import (
    FAMILIES,
    PrunedKANConv2d,
    SConvKAN,
    SelectableKANConv2d,
    SelectableKANLayer,
    edge_values,
)
from stackwise.build.skan.gates import top
from stackwise.build.skan.selection import prune, scores
from stackwise.errors import ModelError
from stackwise.learning.outputs import batch_loss

POOL = ("bspline", "rbf", "cheby")
GRAINS = ["node", "tap", "edge", "output", "layer"]


def layer(*given, **knobs) -> SelectableKANConv2d:
    torch.manual_seed(0)
    made = SelectableKANConv2d(*given, **{"pool": POOL} | knobs)
    with torch.no_grad():
        made.gates.add_(torch.randn_like(made.gates))
        made.bias.add_(torch.randn_like(made.bias))
    return made


def dense_twin(of: SelectableKANConv2d) -> SelectableKANLayer:
    """A dense layer on unfolded patches, of one gate a channel."""
    taps = of.taps[0] * of.taps[1]
    made = SelectableKANLayer(of.n_in * taps, of.n_out, pool=of.pool)
    with torch.no_grad():
        made.gates.copy_(of.gates.repeat_interleave(taps, 0))
        made.bias.copy_(of.bias)
        made.base.weight.copy_(of.base.weight.flatten(1))
        for family, weight in of.coefficients.items():
            made.coefficients[family].copy_(weight.flatten(1, 3))
    return made


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
def test_it_equals_the_dense_layer_on_unfolded_patches(stride: int, dilation: int):
    made = layer(3, 5, 3, stride=stride, padding=1, dilation=dilation)
    x = torch.randn(2, 3, 8, 7)
    patches = F.unfold(x, 3, padding=1, stride=stride, dilation=dilation).transpose(1, 2)
    wanted = dense_twin(made)(patches.flatten(0, 1)).view(2, -1, 5).transpose(1, 2)
    found = made(x)
    sides = [(side + 2 - dilation * 2 - 1) // stride + 1 for side in (8, 7)]
    assert found.shape == (2, 5, *sides)
    assert torch.allclose(found.flatten(2), wanted, atol=1e-5)


def test_a_border_of_bases_adds_nothing_and_one_of_values_adds_phi_of_zero():
    x = torch.randn(1, 2, 5, 5)
    by_values, by_bases = (layer(2, 3, 3, padding=1, pad=pad) for pad in ("input", "basis"))
    inside = (..., slice(1, -1), slice(1, -1))
    assert torch.allclose(by_values(x)[inside], by_bases(x)[inside], atol=1e-5)
    zero = edge_values(by_values, torch.zeros(1, 2))[0].sum(1)  # (n_out, kh, kw)
    outside = zero[:, 0].sum(-1)  # the taps above the middle of the first row
    difference = (by_values(x) - by_bases(x))[0, :, 0, 2]
    assert torch.allclose(difference, outside, atol=1e-5)
    assert outside.abs().max() > 1e-3


def test_a_window_of_one_is_the_dense_layer_at_each_pixel():
    made, x = layer(3, 4, 1), torch.randn(2, 3, 5, 6)
    wanted = dense_twin(made)(x.movedim(1, -1).flatten(0, 2)).view(2, 5, 6, 4).movedim(-1, 1)
    assert torch.allclose(made(x), wanted, atol=1e-5)


def test_moved_pictures_give_moved_maps():
    made, x = layer(1, 2, 3), torch.randn(1, 1, 9, 9)
    assert torch.allclose(made(x)[..., 1:], made(x.roll(-1, -1))[..., :-1], atol=1e-5)


def test_groups_are_layers_of_their_own():
    made, x = layer(4, 6, (3, 2), groups=2, padding=(1, 0)), torch.randn(2, 4, 6, 6)
    for group in range(2):
        alone = layer(2, 3, (3, 2), padding=(1, 0))
        inputs, outputs = slice(2 * group, 2 * group + 2), slice(3 * group, 3 * group + 3)
        with torch.no_grad():
            alone.gates.copy_(made.gates[inputs])
            alone.bias.copy_(made.bias[outputs])
            alone.base.weight.copy_(made.base.weight[outputs])
            for family, weight in made.coefficients.items():
                alone.coefficients[family].copy_(weight[outputs])
        assert torch.allclose(made(x)[:, outputs], alone(x[:, inputs]), atol=1e-5)


@pytest.mark.parametrize("per", GRAINS)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("keep", [1, 2])
def test_a_pruned_convolution_equals_the_hardened_one(per: str, groups: int, keep: int):
    made = layer(4, 4, 3, padding=1, per=per, groups=groups, pool=FAMILIES)
    made.select(torch.randn_like(made.gates), keep)
    pruned, x = made.pruned(), 2 * torch.randn(2, 4, 5, 5)
    assert torch.allclose(pruned(x), made(x), atol=1e-5)
    assert made(x).std() > 0.01
    assert (made.choice().sum(-1) == keep).all()
    count = sum(p.numel() for p in pruned.parameters())
    assert count <= sum(p.numel() for p in made.parameters()) - made.gates.numel()


def test_parameters_after_pruning_follow_the_formula():
    made = layer(3, 2, 3, pool=("bspline", "cheby"))
    made.select(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    # coefficients, base, bias
    assert sum(p.numel() for p in made.pruned().parameters()) == 2 * 9 * (8 + 5 + 5) + 54 + 2


def test_edges_that_chose_another_family_stay_out_in_training():
    made = layer(2, 2, 3, per="tap")
    made.select(torch.randn_like(made.gates))
    pruned = made.pruned()
    pruned(torch.randn(4, 2, 6, 6)).square().sum().backward()
    with torch.no_grad():
        for parameter in pruned.parameters():
            parameter -= parameter.grad
    chosen = made.choice()  # (n_in, kh, kw, M)
    for place, family in enumerate(made.pool):
        acts = (pruned.folded()[family] != 0).any(-1).any(0)
        assert torch.equal(acts, chosen[pruned.chosen[family]][..., place])


def test_the_gradient_is_that_of_the_unfolded_layer():
    made = layer(2, 3, 3, padding=1, pool=("rbf", "wavelet"))
    twin, x = dense_twin(made), torch.randn(2, 2, 5, 5)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    weight = torch.randn(2, 3, 25)
    (made(a).flatten(2) * weight).sum().backward()
    patches = F.unfold(b, 3, padding=1).transpose(1, 2).flatten(0, 1)
    (twin(patches).view(2, 25, 3).transpose(1, 2) * weight).sum().backward()
    assert torch.allclose(a.grad, b.grad, atol=1e-4)
    got = made.coefficients["rbf"].grad.flatten(1, 3)
    assert torch.allclose(got, twin.coefficients["rbf"].grad, atol=1e-4)


def network(**knobs) -> tuple[SConvKAN, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    made = SConvKAN(
        channels=1, n_outputs=3, ranges=[[0.0, 2.0]], widths=(3, 4), **{"pool": POOL} | knobs
    )
    with torch.no_grad():
        for of in made.selectable:
            of.gates.add_(torch.randn_like(of.gates))
    rows = {"pixels": 2 * torch.rand(12, 1, 7, 6), "target": torch.arange(12) % 3}
    made.settle(rows)
    return made.eval(), rows | {"weight": torch.ones(12)}


@pytest.mark.parametrize("per", GRAINS)
def test_a_pruned_network_equals_the_hardened_one_and_its_saved_copy(per: str):
    made, rows = network(per=per)
    for of in made.selectable:
        of.select(torch.randn_like(of.gates))
    pruned = made.pruned()
    found = pruned(rows["pixels"])
    assert torch.allclose(found, made(rows["pixels"]), atol=1e-5)
    assert all(isinstance(of, PrunedKANConv2d) for of in pruned.all_layers())
    again = SConvKAN(**pruned.arguments).eval()
    again.load_state_dict(pruned.state_dict())
    assert torch.equal(again(rows["pixels"]), found)


@pytest.mark.parametrize("per", GRAINS)
@pytest.mark.parametrize("how", ["gate", "contribution", "taylor", "ablation"])
def test_every_score_has_a_value_for_every_gate(per: str, how: str):
    made, rows = network(per=per, pool=("rbf", "cheby"))
    with torch.no_grad():
        made.selectable[0].coefficients["cheby"].zero_()
    found = scores(made, how, rows, batch_loss)
    assert [score.shape for score in found] == [of.gates.shape for of in made.selectable]
    if how != "gate":  # a function that is zero everywhere does nothing
        assert found[0][..., 1].abs().max() < 1e-6 < found[0][..., 0].abs().max()


def test_a_contribution_is_the_deviation_over_pixels():
    made, rows = network()
    first = made.selectable[0]
    flat = made.first(rows).movedim(1, -1).flatten(0, 2)
    phi = torch.einsum("bik,jihwk->bjihw", first.bases["rbf"](flat), first.coefficients["rbf"])
    wanted = first.soft()[:, 1] * phi.var(0, correction=0).mean((0, 2, 3)).sqrt()
    got = scores(made, "contribution", rows, batch_loss)[0][:, 1]
    assert torch.allclose(got, wanted, atol=1e-5)


def test_pruning_keeps_the_mean_of_maps_and_takes_statistics_anew():
    made, rows = network()
    choice = [top(torch.randn_like(of.gates), 1) for of in made.selectable]
    pruned = prune(made, choice, rows)
    x = made.first(rows)
    y = pruned.all_layers()[0](x)
    assert torch.allclose(y.mean((0, 2, 3)), made.selectable[0](x).mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(pruned.blocks[0].norm.running_var, y.var((0, 2, 3)), atol=1e-5)


def test_a_pruned_network_exports():
    made, rows = network()
    for of in made.selectable:
        of.select(of.gates.detach())
    pruned, pixels = made.pruned().eval(), rows["pixels"]
    exported = torch.export.export(pruned, (pixels,)).module()
    assert torch.allclose(exported(pixels), pruned(pixels), atol=1e-5)


def test_wrong_arguments_are_named():
    with pytest.raises(ModelError, match="do not fall into 3 groups"):
        layer(4, 6, 3, groups=3)
    with pytest.raises(ModelError, match="kernel_size is one number or two, at least 1, not"):
        layer(2, 2, (3, 3, 3))
    with pytest.raises(ModelError, match="a layer without a window has no taps"):
        SelectableKANLayer(2, 2, per="tap")
