"""Mixing beside window attention, shifts that change sides, and windows by name."""

import pytest
import torch
from small_networks import is_exported_and_made_again, pictures, small_ms_mlp
from torch import nn

from stackwise.build.ms_mlp import MSMLP, HybridBlock, MSBlock
from stackwise.errors import ModelError
from stackwise.layers.window_attention import WindowAttention

PICO = {"size": "pico", "channels": 1, "n_outputs": 10, "image_size": 32}


def maps(dim: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, dim, height, width, dtype=torch.float64, generator=generator)


@torch.no_grad()
def test_a_window_sees_itself_alone():
    attention = WindowAttention(6, 2).double()
    x = maps(6, 5, 4)
    seen = attention(x)
    assert seen.shape == x.shape
    for top, left in ((0, 0), (2, 2)):
        window = x[:, :, top : top + 2, left : left + 2]
        assert torch.allclose(
            seen[:, :, top : top + 2, left : left + 2], attention.inside(window), atol=1e-12
        )
    last = nn.functional.pad(x[:, :, 4:, :2], (0, 0, 0, 1))
    assert torch.allclose(seen[:, :, 4:, :2], attention.inside(last)[:, :, :1], atol=1e-12)


@torch.no_grad()
def test_a_hybrid_block_equals_its_equations():
    block, x = HybridBlock(10, window=2).double(), maps(10, 4, 6)
    normed = block.norm1(x)
    h = x + block.attention(normed) + block.mix(normed)
    hidden = block.first(nn.functional.layer_norm(h.permute(0, 2, 3, 1), (10,), eps=1e-6))
    y = h + block.second(nn.functional.gelu(hidden)).permute(0, 3, 1, 2)
    assert torch.allclose(block(x), y, atol=1e-12)


def test_a_hybrid_network_is_exported_and_made_again():
    made = small_ms_mlp(hybrid="parallel", window=3, widths=(5, 10))
    assert all(isinstance(block, HybridBlock) for block in made.blocks)
    assert made.blocks[0].attention.window == 3
    is_exported_and_made_again(made, 12, 8)


def test_shifts_change_sides_in_every_second_block():
    made = small_ms_mlp(mirror=True, depths=(2, 2))
    assert [block.mix.shifts[0] for block in made.blocks] == [-2, 2, -2, 2]


@torch.no_grad()
def test_turned_shifts_and_kernels_see_the_turned_picture():
    plain, turned = small_ms_mlp(), small_ms_mlp(shifts=(2, 1, 0, -1, -2))
    state = plain.state_dict()
    turned.load_state_dict({n: t.flip(2, 3) if t.ndim == 4 else t for n, t in state.items()})
    x = pictures(16, 16)
    assert torch.allclose(turned(x.flip(2, 3)), plain(x), atol=1e-6)
    assert not torch.allclose(plain(x.flip(2, 3)), plain(x), atol=1e-6)


@pytest.mark.parametrize(
    "mixing, parameters",
    [("growing", 209_570), ("reversed", 210_626), ("even", 202_690), ("none", 198_466)],
)
def test_windows_by_name_have_their_parameters(mixing: str, parameters: int):
    with torch.device("meta"):
        made = MSMLP(**PICO, mixing=mixing)
    assert sum(parameter.numel() for parameter in made.parameters()) == parameters


def test_the_first_block_of_a_stage_steps_to_half_the_map():
    block = MSBlock(10, before=5, layer_scale=0.5)
    assert block.opens and block(torch.ones(1, 5, 6, 4)).shape == (1, 10, 3, 2)
    assert not MSBlock(10).opens


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"mixing": "wide"}, "mixing must be one of growing, shrinking, even, reversed, none"),
        ({"hybrid": "serial"}, "hybrid must be parallel or None"),
        ({"mixing": [(1,) * 5]}, "a width, a depth and mixing sizes, got 2, 2 and 1"),
        ({"shifts": (0, 1)}, "every group needs a shift and a size, got 2 and 5"),
    ],
)
def test_impossible_mixing_is_refused(changes: dict, message: str):
    with pytest.raises(ModelError, match=message):
        small_ms_mlp(**changes)
