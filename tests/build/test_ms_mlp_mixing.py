"""Mixing and shifting against its definition, pixel by pixel."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from stackwise.build.ms_mlp import MixShift, MSBlock
from stackwise.build.ms_mlp.mix_shift import group_widths
from stackwise.errors import ModelError

ORDERS, BORDERS = ("shift-mix", "mix-shift"), ("wrap", "zero")
VARIANTS = list(product(ORDERS, BORDERS))


def mixer(dim: int = 9, **changes) -> MixShift:
    torch.manual_seed(0)
    mix = MixShift(dim, **changes).double()
    for parameter in mix.parameters():
        nn.init.normal_(parameter, std=0.5)
    return mix


def maps(dim: int = 9, height: int = 6, width: int = 7, rows: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, dim, height, width, dtype=torch.float64, generator=generator)


def moved(x: Tensor, shift: int, axis: int, border: str) -> Tensor:
    """torch.roll, with zeros for what came around where the border says so."""
    if border == "wrap":
        return torch.roll(x, shift, axis)
    side, out = x.shape[axis], torch.zeros_like(x)
    for place in range(side):
        if 0 <= place - shift < side:
            out.select(axis, place).copy_(x.select(axis, place - shift))
    return out


def windowed(x: Tensor, kernel: nn.Conv2d) -> Tensor:
    """The depthwise convolution as loops over pixels and taps."""
    (size, _), (height, width) = kernel.kernel_size, x.shape[-2:]
    out = kernel.bias[:, None, None].expand_as(x).clone()
    for r, c, dy, dx in product(range(height), range(width), range(size), range(size)):
        row, column = r + dy - size // 2, c + dx - size // 2
        if 0 <= row < height and 0 <= column < width:
            out[:, :, r, c] += kernel.weight[:, 0, dy, dx] * x[:, :, row, column]
    return out


@torch.no_grad()
def by_definition(mix: MixShift, x: Tensor) -> Tensor:
    branches = []
    for axis, kernels in ((3, mix.horizontal), (2, mix.vertical)):
        groups = []
        for part, shift, kernel in zip(x.split(mix.widths, 1), mix.shifts, kernels, strict=True):
            if mix.order == "shift-mix":
                groups.append(windowed(moved(part, shift, axis, mix.border), kernel))
            else:
                groups.append(moved(windowed(part, kernel), shift, axis, mix.border))
        branches.append(torch.cat(groups, 1))
    return branches[0] + branches[1]


@pytest.mark.parametrize("order, border", VARIANTS)
@pytest.mark.parametrize("height, width", [(6, 7), (3, 2), (1, 1), (1, 8)])
@torch.no_grad()
def test_mixing_equals_its_definition(order: str, border: str, height: int, width: int):
    mix, x = mixer(order=order, border=border), maps(height=height, width=width)
    assert torch.allclose(mix(x), by_definition(mix, x), atol=1e-12)


@torch.no_grad()
def test_variants_agree_inside_and_differ_at_the_border():
    x = maps(height=16, width=16)
    outputs = [mixer(order=order, border=border)(x) for order, border in VARIANTS]
    for place, one in enumerate(outputs):
        for other in outputs[:place]:
            assert torch.allclose(one[..., 5:-5, 5:-5], other[..., 5:-5, 5:-5], atol=1e-6)
            assert not torch.allclose(one, other, atol=1e-3)


def test_on_one_pixel_every_shift_is_the_identity():
    mix, x = mixer(), maps(height=1, width=1)
    still = mixer(shifts=(0,) * 5)
    assert torch.equal(mix(x), still(x))


def test_a_window_begins_beside_its_query_and_reaches_away():
    mix = mixer(10, shifts=(0, -1, -2, -3, -4), sizes=(1, 1, 3, 5, 7), order="mix-shift")
    for kernel in mix.vertical:
        nn.init.zeros_(kernel.weight)
    x = maps(10, 15, 15).requires_grad_()
    row = column = 4
    for group in range(5):
        chosen = slice(2 * group, 2 * group + 2)
        (gradient,) = torch.autograd.grad(mix(x)[0, chosen, row, column].sum(), x)
        seen = gradient[0].abs().sum(0).nonzero().unique(dim=0)
        far = group
        columns = [column] if far == 0 else list(range(column + 1, column + 2 * far))
        rows = [row] if far == 0 else list(range(row - far + 1, row + far))
        assert seen.tolist() == [list(pair) for pair in product(rows, columns)]
        others = [c for c in range(10) if not chosen.start <= c < chosen.stop]
        assert not gradient[:, others].any(), "groups depend on each other"


@torch.no_grad()
def test_without_shifts_both_branches_are_one_convolution():
    mix, x = mixer(5, shifts=(0,), sizes=(7,)), maps(5, 9, 9)
    across, along = mix.horizontal[0], mix.vertical[0]
    one = nn.functional.conv2d(
        x, across.weight + along.weight, across.bias + along.bias, padding=3, groups=5
    )
    assert torch.equal(mix(x), one)


def only_horizontal(shift: int, border: str) -> MixShift:
    mix = mixer(1, shifts=(shift,), sizes=(1,), border=border)
    for kernel in (*mix.horizontal, *mix.vertical):
        nn.init.ones_(kernel.weight)
        nn.init.zeros_(kernel.bias)
    return mix


@pytest.mark.parametrize("border", BORDERS)
@torch.no_grad()
def test_a_positive_shift_moves_right_and_down(border: str):
    mix = only_horizontal(1, border)
    left = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    left[..., :2] = 1
    right = torch.tensor([0.0, 1, 1, 0], dtype=torch.float64).expand(4, 4)
    down = left[0, 0].clone()
    if border == "zero":
        down[0] = 0
    assert torch.equal(mix(left)[0, 0], right + down)
    assert torch.equal(mix(left.mT)[0, 0], (right + down).mT)


@torch.no_grad()
def test_an_impulse_comes_out_in_two_windows():
    mix, x = mixer(5), torch.zeros(1, 5, 17, 17, dtype=torch.float64)
    for kernel in (*mix.horizontal, *mix.vertical):
        nn.init.zeros_(kernel.bias)
    x[..., 8, 8] = 1
    for group, (shift, size) in enumerate(zip(mix.shifts, (1, 1, 3, 5, 7), strict=True)):
        expected, half = torch.zeros(17, 17), size // 2
        for row, column in ((8, 8 + shift), (8 + shift, 8)):
            expected[row - half : row + half + 1, column - half : column + half + 1] = 1
        assert torch.equal(mix(x)[0, group] != 0, expected.bool())


@torch.no_grad()
def test_windows_of_one_pixel_move_with_the_picture():
    mix, x = mixer(sizes=(1,) * 5), maps(height=8, width=8)
    rolled = torch.roll(x, (2, 3), (2, 3))
    assert torch.allclose(mix(rolled), torch.roll(mix(x), (2, 3), (2, 3)), atol=1e-12)
    assert torch.equal(mix(x), mixer(sizes=(1,) * 5, order="mix-shift")(x))


@pytest.mark.parametrize("order, border", VARIANTS)
def test_gradients_are_those_of_the_definition(order: str, border: str):
    mix, x = mixer(5, order=order, border=border), maps(5, 3, 3).requires_grad_()
    names, values = zip(*mix.named_parameters(), strict=True)

    def run(x: Tensor, *given: Tensor) -> Tensor:
        return torch.func.functional_call(mix, dict(zip(names, given, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *values), fast_mode=True)


@torch.no_grad()
def test_the_norm_sees_the_sum_of_branches_over_channels_only():
    torch.manual_seed(0)
    block = MSBlock(10, sizes=(1,) * 5, shifts=(0,) * 5, layer_scale=1.0).double()
    x = maps(10, 2, 2)
    x[..., 1, 1] = x[..., 0, 0]
    assert torch.equal(block(x)[..., 1, 1], block(x)[..., 0, 0])
    scaled = x.clone()
    scaled[..., 0, 1] *= 3
    assert torch.equal(block(scaled)[..., 0, 0], block(x)[..., 0, 0])


def test_a_block_without_scale_or_with_its_path_dropped_is_the_identity():
    x = maps(10)
    assert torch.equal(MSBlock(10, layer_scale=0.0).double()(x), x)
    assert torch.equal(MSBlock(10, layer_scale=1.0, drop_path=1.0).double().train()(x), x)


def test_one_unshifted_group_is_a_block_of_convnext():
    torch.manual_seed(0)
    block = MSBlock(6, shifts=(0,), sizes=(7,), layer_scale=0.7).double()
    x, mix = maps(6, 9, 9), block.mix
    kernels = mix.horizontal[0], mix.vertical[0]
    depthwise = nn.Conv2d(6, 6, 7, padding=3, groups=6).double()
    depthwise.weight.data = sum(kernel.weight.data for kernel in kernels)
    depthwise.bias.data = sum(kernel.bias.data for kernel in kernels)
    h = nn.functional.layer_norm(depthwise(x).permute(0, 2, 3, 1), (6,), eps=1e-6)
    h = 0.7 * block.second(nn.functional.gelu(block.first(h)))
    assert torch.allclose(block(x), x + h.permute(0, 3, 1, 2), atol=1e-12)


def test_groups_have_the_sizes_of_chunks():
    for dim in (9, 13, 18, 24, 36, 96, 128):
        assert group_widths(dim, 5) == [len(chunk) for chunk in torch.arange(dim).chunk(5)]
    assert group_widths(96, 5) == [20, 20, 20, 20, 16]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"sizes": (1, 1, 3, 5)}, "a shift and a size, got 5 and 4"),
        ({"sizes": (1, 1, 3, 4, 7)}, "mixing sizes are odd, got 4"),
        ({"dim": 3}, "3 channels cannot be split into 5 groups: chunks of 1 make 3"),
        ({"dim": 16}, "16 channels cannot be split into 5 groups: chunks of 4 make 4"),
        ({"order": "mix"}, "order must be shift-mix or mix-shift"),
        ({"border": "reflect"}, "border must be wrap or zero"),
    ],
)
def test_impossible_groups_are_refused(changes: dict, message: str):
    with pytest.raises(ModelError, match=message):
        mixer(**changes)
