"""Deformable convolution: exact against a loop of nine samplings, in both forms."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from stackwise.errors import ModelError
from stackwise.layers.deformable import DeformConv2d, deform_conv2d

FORMS = ["grid", "rows"]


def bilinear(picture, y, x):
    """The value of (H, W) at one place, zero outside."""
    height, width = picture.shape
    top, left = int(y.floor()), int(x.floor())
    total = picture.new_zeros(())
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < height and 0 <= column < width:
                share = (1 - (y - row).abs()) * (1 - (x - column).abs())
                total = total + share * picture[row, column]
    return total


def by_loop(x, offset, weight, *, stride=1, padding=1, mask=None):
    """The equation, a number at a time."""
    batch, channels, height, width = x.shape
    side = weight.shape[-1]
    taps, groups = side * side, offset.shape[1] // (2 * side * side)
    out = torch.zeros(batch, weight.shape[0], *offset.shape[-2:], dtype=x.dtype)
    for n in range(batch):
        for c in range(channels):
            group = c // (channels // groups)
            for k in range(taps):
                moved = offset[n].view(groups, taps, 2, *offset.shape[-2:])[group, k]
                for i in range(out.shape[2]):
                    for j in range(out.shape[3]):
                        y = i * stride - padding + k // side + moved[0, i, j]
                        z = j * stride - padding + k % side + moved[1, i, j]
                        value = bilinear(x[n, c], y, z)
                        if mask is not None:
                            value = (
                                value * mask[n].view(groups, taps, *mask.shape[-2:])[group, k, i, j]
                            )
                        out[n, :, i, j] += weight[:, c, k // side, k % side] * value
    return out


def case(stride=1, groups=1, height=4, width=3, scale=2.0):
    torch.manual_seed(0)
    x = torch.randn(2, 4, height, width, dtype=torch.float64)
    tall, wide = (height + stride - 1) // stride, (width + stride - 1) // stride
    offset = torch.randn(2, 18 * groups, tall, wide, dtype=torch.float64) * scale
    weight = torch.randn(3, 4, 3, 3, dtype=torch.float64)
    mask = torch.rand(2, 9 * groups, tall, wide, dtype=torch.float64)
    return x, offset, weight, mask


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 2)])
def test_it_equals_the_loop(form, stride, groups):
    x, offset, weight, mask = case(stride, groups)
    for one in (None, mask):
        wanted = by_loop(x, offset, weight, stride=stride, mask=one)
        found = deform_conv2d(x, offset, weight, stride=stride, mask=one, form=form)
        assert_close(found, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stride", [1, 2])
def test_without_offsets_it_is_a_convolution_and_a_mask_of_a_half_halves_it(form, stride):
    x, offset, weight, mask = case(stride, height=7, width=6)
    plain = functional.conv2d(x, weight, stride=stride, padding=1)
    nothing = torch.zeros_like(offset)
    assert_close(deform_conv2d(x, nothing, weight, stride=stride, form=form), plain)
    half = torch.full_like(mask, 0.5)
    found = deform_conv2d(x, nothing, weight, stride=stride, mask=half, form=form)
    assert_close(found, plain / 2)


@pytest.mark.parametrize("form", FORMS)
def test_whole_offsets_move_the_map(form):
    x, offset, weight, _ = case(height=9, width=8)
    moves = torch.zeros_like(offset).view(2, 9, 2, 9, 8)
    moves[:, :, 0], moves[:, :, 1] = 2, -1
    found = deform_conv2d(x, moves.view_as(offset), weight, form=form)
    wanted = functional.conv2d(x.roll((-2, 1), (2, 3)), weight, padding=1)
    assert_close(found[:, :, 1:5, 3:6], wanted[:, :, 1:5, 3:6])


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_those_of_finite_differences(form):
    x, offset, weight, mask = case(height=3, width=3, scale=0.7)
    given = [one[:1].requires_grad_() for one in (x, offset, mask)] + [weight.requires_grad_()]

    def run(x, offset, mask, weight):
        return deform_conv2d(x, offset, weight, mask=mask, form=form)

    assert torch.autograd.gradcheck(run, given)


@pytest.mark.parametrize("form", FORMS)
def test_a_map_of_one_pixel_and_places_far_outside(form):
    x = torch.ones(1, 1, 1, 1)
    weight = torch.ones(1, 1, 3, 3)
    offset = torch.zeros(1, 18, 1, 1)
    assert float(deform_conv2d(x, offset, weight, form=form)) == pytest.approx(1)
    assert float(deform_conv2d(x, offset + 1e4, weight, form=form)) == 0


@pytest.mark.parametrize("modulated", [False, True])
def test_a_layer_begins_plain_and_learns_where_to_look(modulated):
    torch.manual_seed(0)
    layer = DeformConv2d(4, 6, groups=2, modulated=modulated).double()
    x = torch.randn(2, 4, 7, 5, dtype=torch.float64)
    plain = functional.conv2d(x, layer.weight, padding=1)
    assert_close(layer(x), plain / 2 if modulated else plain)
    functional.mse_loss(layer(x), torch.randn(2, 6, 7, 5, dtype=torch.float64)).backward()
    assert layer.where.weight.grad is not None
    moved = layer.where.weight.grad.flatten(1).abs().amax(1)
    assert bool((moved > 0).all()) and len(moved) == (54 if modulated else 36)


def test_the_forms_agree_in_single_precision_and_autocast():
    torch.manual_seed(0)
    layer = DeformConv2d(8, 8)
    nn.init.normal_(layer.where.weight, std=0.1)
    x = torch.randn(2, 8, 12, 11)
    assert_close(layer(x, form="grid"), layer(x, form="rows"), rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for form in FORMS:
            found = layer(x, form=form)
            found.float().sum().backward()
            assert bool(found.isfinite().all())
            assert_close(found.float(), layer(x).float(), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("form", FORMS)
def test_an_offset_that_is_no_number_spoils_its_own_place_alone(form):
    x, offset, weight, _ = case()
    offset[0, 0, 2, 2] = torch.nan
    found = deform_conv2d(x, offset, weight, form=form)
    assert int(found.isnan().any(1).sum()) <= 1
    assert_close(found[1], deform_conv2d(x[1:], offset[1:], weight)[0])


@pytest.mark.slow
def test_it_exports():
    layer = DeformConv2d(4, 4, modulated=True).eval()
    x = torch.randn(1, 4, 6, 6)
    with torch.no_grad():
        program = torch.export.export(layer, (x,)).module()
        assert_close(program(x), layer(x))


def test_offsets_of_a_wrong_shape_are_refused():
    x, offset, weight, mask = case()
    with pytest.raises(ModelError, match=r"offset must be \(2, groups \* 18, 4, 3\)"):
        deform_conv2d(x, offset[..., :2], weight)
    with pytest.raises(ModelError, match=r"mask must be \(2, 9, 4, 3\), got \(2, 8, 4, 3\)"):
        deform_conv2d(x, offset, weight, mask=mask[:, :8])
