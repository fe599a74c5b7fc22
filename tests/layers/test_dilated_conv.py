"""Dilated convolutions: the sum as it is written, how far they see, and moment by moment."""

import pytest
import torch
from torch.nn import functional

from stackwise.errors import ModelError
from stackwise.layers.dilated_conv import (
    DilatedConv,
    dilated_conv,
    receptive_field,
    stack_reaching,
)
from stackwise.layers.moving_average import fft_conv

torch.manual_seed(0)


@pytest.mark.parametrize(("taps", "dilation", "length"), [(3, 1, 9), (5, 4, 40), (7, 9, 20)])
def test_it_is_the_sum_as_written_and_the_convolution_by_fft(taps, dilation, length):
    x, w = torch.randn(2, 3, length), torch.randn(3, taps)
    wanted = torch.zeros_like(x)
    for t in range(length):
        for k in range(taps):
            if t - dilation * k >= 0:
                wanted[:, :, t] += w[:, taps - 1 - k] * x[:, :, t - dilation * k]
    assert torch.allclose(dilated_conv(x, w, dilation), wanted, atol=1e-6)
    dense = torch.zeros(3, (taps - 1) * dilation + 1)
    dense[:, ::dilation] = w.flip(1)
    assert torch.allclose(fft_conv(x, dense[:, :length]), wanted, atol=1e-4)


@pytest.mark.parametrize("dilation", [1, 3, 30])
def test_the_gradient_is_that_of_torch(dilation):
    x = torch.randn(2, 4, 50, requires_grad=True)
    w = torch.randn(4, 5, requires_grad=True)
    weight = torch.randn(2, 4, 50)
    found = torch.autograd.grad((dilated_conv(x, w, dilation) * weight).sum(), (x, w))
    padded = functional.pad(x, (4 * dilation, 0))
    plain = functional.conv1d(padded, w[:, None], groups=4, dilation=dilation)
    wanted = torch.autograd.grad((plain * weight).sum(), (x, w))
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "factor", "depth", "convs"), [(3, 2, 3, 1), (5, 3, 2, 1), (4, 1, 3, 1), (3, 2, 2, 2)]
)
def test_it_sees_as_far_as_it_says_and_no_further(kernel, factor, depth, convs):
    stack = DilatedConv(2, kernel, factor, depth, convs_per_block=convs, activation="silu")
    reach = stack.receptive_field
    assert reach == receptive_field(kernel, factor, depth, convs)
    x = torch.randn(1, reach + 10, 2, requires_grad=True)
    (by_x,) = torch.autograd.grad(stack(x)[0, -1].sum(), x)
    seen = by_x[0].abs().sum(-1) > 0
    assert seen[-reach] and not seen[:-reach].any()


def test_sides_are_seen_as_the_direction_says():
    x = torch.randn(1, 40, 2)
    moved = x.clone()
    moved[:, 20] += 1
    for direction, before in (("causal", False), ("symmetric", True), ("two-way", True)):
        stack = DilatedConv(2, 3, 2, 3, direction=direction)
        changed = (stack(x) != stack(moved)).any(-1)[0]
        assert changed[20:].any() and bool(changed[:20].any()) == before
    two_way = DilatedConv(2, 3, 2, 3, direction="two-way")
    behind = DilatedConv(2, 3, 2, 3)
    ahead = DilatedConv(2, 3, 2, 3)
    for way, one in enumerate((behind, ahead)):
        one.weight.data[0], one.bias.data[0] = two_way.weight.data[way], two_way.bias.data[way]
    wanted = behind(x) + ahead(x.flip(1)).flip(1)
    assert torch.allclose(two_way(x), wanted, atol=1e-6)


@pytest.mark.parametrize("convs", [1, 2])
def test_moment_by_moment_is_the_whole_at_once(convs):
    stack = DilatedConv(3, 4, 3, 3, convs_per_block=convs)
    x = torch.randn(2, 90, 3)
    wanted, state, found = stack(x), stack.start(2), []
    for part in x.split([1, 1, 30, 50, 8], 1):
        answer, state = stack.step(part, state)
        found.append(answer)
    assert torch.allclose(torch.cat(found, 1), wanted, atol=1e-5)
    assert sum(one[0].numel() for one in state) == 3 * (stack.receptive_field - 1)


@pytest.mark.parametrize("direction", ["causal", "symmetric", "two-way"])
def test_padding_does_not_leak(direction):
    stack = DilatedConv(3, 3, 2, 3, direction=direction)
    x = torch.randn(1, 25, 3)
    padded = torch.cat([x, torch.full((1, 15, 3), 9.0)], 1)
    mask = torch.arange(40)[None] < 25
    assert torch.allclose(stack(padded, mask)[:, :25], stack(x), atol=1e-6)


def test_a_stack_is_found_for_a_reach_and_has_no_holes():
    for reach in (1, 5, 17, 18, 500, 9361, 131_072):
        kernel, factor, depth = stack_reaching(reach)
        assert receptive_field(kernel, factor, depth) >= reach and factor <= kernel
    assert stack_reaching(9_361) == (17, 8, 4)  # that of long texts
    assert receptive_field(7, 4, 4) == 511


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"kernel_size": 4, "direction": "symmetric"}, "must be odd .* got 4"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"activation": "gelu"}, "relu, silu or none"),
        ({"direction": "past"}, "causal, symmetric or two-way"),
    ],
)
def test_what_makes_no_stack_is_refused_in_a_sentence(given, sentence):
    with pytest.raises(ModelError, match=sentence):
        DilatedConv(4, **given)
    with pytest.raises(ModelError, match="length 0"):
        DilatedConv(4, 3, 2, 2)(torch.zeros(1, 0, 4))
    with pytest.raises(ModelError, match="cannot go on"):
        DilatedConv(4, 3, 2, 2, direction="two-way").start(1)
