"""The MS-MLP network: its sizes, its pyramid, and any picture."""

import pytest
import small_networks
import torch
from small_networks import small_ms_mlp as network
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from stackwise.build.ms_mlp import MSMLP
from stackwise.errors import ModelError

SHRINKING = ((1, 1, 3, 5, 7), (1, 1, 3, 5, 5), (1, 1, 3, 3, 3), (1, 1, 1, 1, 3))


def pictures(rows: int = 2, height: int = 12, width: int = 8) -> torch.Tensor:
    return small_networks.pictures(height, width, rows)


def on_meta(**given) -> tuple[int, float]:
    """Parameters, and multiply-adds of a picture in millions."""
    side = given.get("image_size", 224)
    with torch.device("meta"), torch.no_grad():
        model = MSMLP(**given).eval()
        with FlopCounterMode(display=False) as counted:
            model(torch.empty(1, given.get("channels", 3), side, side))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return parameters, counted.get_total_flops() / 2e6


@pytest.mark.parametrize(
    "given, parameters, multiply_adds",
    [
        ({"size": "tiny"}, 28_656_232, 4440),
        ({"size": "small"}, 50_303_752, 8670),
        ({"size": "base"}, 88_696_792, 15330),
        ({"size": "pico", "n_outputs": 10, "channels": 1, "image_size": 32}, 209_570, 5.8),
        ({"size": "nano", "n_outputs": 10, "channels": 1, "image_size": 32}, 410_890, 14.6),
    ],
)
def test_a_size_has_its_parameters_and_multiply_adds(given, parameters, multiply_adds):
    counted, operations = on_meta(**given)
    assert counted == parameters
    assert operations == pytest.approx(multiply_adds, rel=0.015)


@pytest.mark.parametrize(
    "given, parameters",
    [
        ({"size": "tiny", "n_outputs": 10}, 27_894_922),
        ({"size": "small", "n_outputs": 10}, 49_542_442),
        ({"size": "base", "n_outputs": 10}, 87_682_042),
        ({"size": "tiny", "mixing": SHRINKING}, 28_347_304),
        ({"size": "small", "mixing": "shrinking"}, 49_730_152),
        ({"size": "base", "mixing": "shrinking"}, 87_933_832),
    ],
)
def test_other_heads_and_windows_have_their_parameters(given, parameters):
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in MSMLP(**given).parameters()) == parameters


def test_the_pyramid_has_a_map_for_each_stage():
    model = network()
    maps = model.forward_features(pictures())
    assert [tuple(one.shape) for one in maps] == [(2, 5, 6, 4), (2, 9, 3, 2)]
    assert model.strides == [2, 4] and model.widths == [5, 9]
    tiny = MSMLP(widths=(5, 5, 5, 5), depths=(1, 1, 1, 1), image_size=32)
    assert tiny.strides == [4, 8, 16, 32]


@torch.no_grad()
def test_any_size_is_taken_and_filled_up_with_zeros():
    model, odd = network(), pictures(height=11, width=5)
    full = nn.functional.pad(odd, (0, 3, 0, 1))
    assert torch.equal(model(odd), model(full))
    assert MSMLP.least_size(size="pico") == 8 and MSMLP.least_size() == 32
    assert MSMLP.least_size(patch=2, depths=(1, 2)) == model.strides[-1]
    assert model(pictures(1, 4, 4)).shape == (1, 3)


@torch.no_grad()
def test_a_network_of_single_pixels_moves_with_the_picture():
    model, x = network(mixing=((1,) * 5,) * 2).double(), pictures(height=16, width=16).double()
    before, after = (model.forward_features(one)[-1] for one in (x, torch.roll(x, (4, 8), (2, 3))))
    assert torch.allclose(torch.roll(before, (1, 2), (2, 3)), after, atol=1e-10)


@torch.no_grad()
def test_the_memory_format_does_not_matter():
    model, x = network(), pictures()
    expected = model(x)
    model.to(memory_format=torch.channels_last)
    assert torch.allclose(model(x.to(memory_format=torch.channels_last)), expected, atol=1e-5)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"size": "huge"}, "size must be one of pico, nano"),
        ({"depths": (1, 1, 1)}, "a width, a depth and mixing sizes, got 2, 3 and 2"),
        ({"image_size": 3}, "at least 4 pixels a side, got 3"),
        ({"image_size": (8, 8, 8)}, r"a side or \(height, width\)"),
    ],
)
def test_impossible_networks_are_refused(changes: dict, message: str):
    with pytest.raises(ModelError, match=message):
        network(**changes)
