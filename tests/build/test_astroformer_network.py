"""The Astroformer network: its sizes, layouts and other sizes of pictures."""

import pytest
import small_networks
import torch
from small_networks import small_astroformer as network
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from stackwise.build.astroformer import Astroformer, RelativeAttention
from stackwise.errors import ModelError

LAYOUTS = ("CCCC", "CCCT", "CCTT", "CTTT", "TTTT")


def pictures(rows: int = 2, height: int = 32, width: int = 64) -> torch.Tensor:
    return small_networks.pictures(height, width, rows)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def on_meta(**given) -> Astroformer:
    with torch.device("meta"):
        return Astroformer(**given).eval()


def multiply_adds(model: Astroformer, side: int) -> float:
    """Of one picture, in millions."""
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        model(torch.empty(1, 3, side, side, device="meta"))
    return counted.get_total_flops() / 2e6


@pytest.mark.parametrize(
    "size, parameters, ten, work, coatnet, coatnet_work",
    [
        ("0", 23_533_592, 22_772_282, 3990, 25.04, 4550),
        ("1", 38_149_448, 37_388_138, 6810, 42.23, 8640),
        ("2", 67_381_864, 66_367_114, 13340, 74.68, 16430),
        ("3", 150_408_616, 148_886_986, 29880, 166.97, 36450),
        ("4", 242_604_904, 241_083_274, 48530, 275.43, 62310),
        ("5", 595_579_688, 593_551_178, 108230, 687.47, 145260),
    ],
)
def test_a_size_has_its_parameters_and_multiply_adds(
    size: str, parameters: int, ten: int, work: float, coatnet: float, coatnet_work: float
):
    model, other = on_meta(size=size), on_meta(size=size, layout="CCTT")
    assert count(model) == parameters
    assert parameters - 990 * (model.widths[-1] + 1) == ten
    assert round(count(other) / 1e6, 2) == coatnet
    assert multiply_adds(model, 224) == pytest.approx(work, rel=0.01)
    assert multiply_adds(other, 224) == pytest.approx(coatnet_work, rel=0.01)


def test_small_sizes_have_their_multiply_adds():
    given = {"image_size": 32, "n_outputs": 10}
    found = [multiply_adds(on_meta(size=size, **given), 32) for size in ("pico", "nano")]
    assert found == pytest.approx([9.5, 23.4], rel=0.01)


def test_small_sizes_have_their_parameters_in_every_layout():
    given = {"n_outputs": 10, "image_size": 32}
    counts = [count(on_meta(size="pico", layout=layout, **given)) for layout in LAYOUTS]
    assert counts == [265_142, 300_574, 313_478, 315_008, 315_741]
    assert count(on_meta(size="nano", **given)) == 789_052
    assert count(on_meta(size="nano", layout="CCTT", **given)) == 836_518
    few = {"channels": 1, "strides": (2, 2, 1, 1), "stem_stride": 2}
    counts = [count(on_meta(size="pico", layout=f"C{n}", **given | few)) for n in ("CCT", "TTT")]
    assert counts == [300_286, 314_368]
    assert count(on_meta(size="3", image_size=64)) == 150_393_256


def test_a_letter_changes_its_stage_only():
    plain, other = (set(network(layout=layout).state_dict()) for layout in ("CCCT", "CCTT"))
    assert all(key.startswith(("blocks.2.", "blocks.3.")) for key in plain ^ other)
    convolutions = network(layout="CCCC")
    assert not any(isinstance(module, RelativeAttention) for module in convolutions.modules())
    mixed = network(layout=("C", "C", "CT", "T"))
    kinds = [type(block.body).__name__ for block in mixed.blocks]
    assert kinds == ["ConvBlock"] * 3 + ["TransformerBlock"] * 3
    assert network(layout="C-C-CT-T").state_dict().keys() == mixed.state_dict().keys()
    assert network(layout="C-C-C-T").state_dict().keys() == network().state_dict().keys()


@torch.no_grad()
@pytest.mark.parametrize("relative", ["bias", "mlp", "post", "none"])
@pytest.mark.parametrize("head_hidden", [True, 5, False])
def test_a_network_is_resized(relative: str, head_hidden):
    model = network(relative=relative, head_hidden=head_hidden)
    same = model.resized((32, 64))
    assert torch.equal(same(pictures()), model(pictures()))
    larger = model.resized(96)
    assert larger(pictures(1, 96, 96)).shape == (1, 3)
    assert larger.arguments["image_size"] == 96 and model.arguments["image_size"] == [32, 64]
    if relative != "none":
        with pytest.raises(ModelError, match="take `resized"):
            model(pictures(1, 96, 96))


@torch.no_grad()
def test_a_picture_is_filled_up_to_whole_strides():
    model, odd = network(image_size=(30, 50)), pictures(2, 30, 50)
    assert model.image_size == (32, 64)
    assert torch.equal(model(odd), model(nn.functional.pad(odd, (0, 14, 0, 2))))
    assert Astroformer.least_size(size="pico") == 8 and Astroformer.least_size() == 32
    maps = model.forward_features(odd)
    assert [one.shape[1:] for one in maps] == [(4, 8, 16), (6, 4, 8), (8, 2, 4), (8, 1, 2)]


def test_tables_of_offsets_are_not_decayed():
    names = network().no_weight_decay()
    assert names == {f"blocks.{place}.body.attention.table" for place in (4, 5)}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"layout": "CCXT"}, "layout 'CCXT': use C and T, one per stage"),
        ({"layout": "CCT"}, "layout 'CCT': use C and T, one per stage"),
        ({"size": "6"}, "size must be one of pico, nano, 0"),
        ({"head_dim": 3}, "width 8 is not divisible by head_dim 3"),
        ({"strides": (2, 2, 4, 1)}, "strides are 1 or 2"),
        ({"widths": (4, 8, 8)}, "a width, a depth and a stride, got 3, 4 and 4"),
    ],
)
def test_impossible_networks_are_refused(changes: dict, message: str):
    with pytest.raises(ModelError, match=message):
        network(**changes)
