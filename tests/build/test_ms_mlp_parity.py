"""MS-MLP against the authors': with equal weights, every map, the pooled features and the logits.

The numbers were recorded from JegZheng/MS-MLP at a10d34d955c6061c767600937b534abd8a200871 (MIT;
models/ms_mlp.py) in float32, on seeded random weights.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from stackwise.build.ms_mlp import MSMLP, MSBlock
from stackwise.build.ms_mlp.mix_shift import shifted

RECORD = load_file(Path(__file__).parents[1] / "data" / "parity" / "ms-mlp.safetensors")
MIXING = ((1, 1, 3, 5, 7), (1, 1, 3, 5, 5), (1, 1, 3, 3, 3), (1, 1, 1, 1, 3))
NAMES = {
    "dwconv_lr": "mix.horizontal", "dwconv_td": "mix.vertical", "pwconv1": "first",
    "pwconv2": "second",
}  # fmt: skip


DEPTHS = (1, 2, 1, 1)


def renamed(key: str) -> str:
    """Our name of a tensor of theirs; each of their stages ends with our next one's step."""
    for theirs, ours in NAMES.items():
        key = key.replace(theirs, ours)
    parts = key.split(".")
    if "patch_embed" in parts:
        return f"stem.{'conv' if parts[1] == 'proj' else 'norm'}.{parts[2]}"
    if parts[0] != "layers":
        return key
    stage = int(parts[1])
    if "downsample" in parts:
        part = "conv" if parts[3] == "proj" else "norm"
        return f"blocks.{sum(DEPTHS[: stage + 1])}.step.{part}.{parts[4]}"
    return ".".join(["blocks", str(sum(DEPTHS[:stage]) + int(parts[3])), *parts[4:]])


def fill(module: nn.Module, start: str) -> nn.Module:
    weights = {
        renamed(key.removeprefix(start)): value
        for key, value in RECORD.items()
        if key.startswith(start)
    }
    module.load_state_dict(weights)
    return module.eval()


def network() -> MSMLP:
    model = MSMLP(
        image_size=(64, 96), n_outputs=7, widths=(9, 18, 36, 72), depths=DEPTHS,
        mixing=MIXING,
    )  # fmt: skip
    return fill(model, "weights/net.")


def block() -> MSBlock:
    return fill(MSBlock(13, mlp_ratio=3), "weights/block.")


def close(ours: Tensor, name: str) -> bool:
    return torch.allclose(ours, RECORD[f"output/{name}"], atol=1e-5)


@torch.no_grad()
def test_every_map_equals_the_authors():
    model, seen = network(), {}

    def keep(name: str):
        return lambda _module, _args, output: seen.__setitem__(name, output)

    model.stem.register_forward_hook(keep("net_patch_embed"))
    blocks = iter(model.blocks)
    for stage, depth in enumerate(DEPTHS):
        for place in range(depth):
            block = next(blocks)
            block.register_forward_hook(keep(f"net_layer{stage}_block{place}"))
            if stage and not place:
                block.step.register_forward_hook(keep(f"net_layer{stage - 1}_downsample"))
    model.norm.register_forward_hook(keep("net_features"))
    seen["net_logits"] = model(RECORD["input/image"])
    assert seen.keys() == {key[7:] for key in RECORD if key.startswith("output/net")}
    for name, value in seen.items():
        assert close(value, name), name


@torch.no_grad()
def test_the_parts_of_a_block_equal_the_authors():
    model, x = block(), RECORD["input/block_x"]
    u = model.mix(x).permute(0, 2, 3, 1)
    assert close(u, "block_norm_in_nhwc")
    assert close(model.norm(u), "block_norm_out_nhwc")
    assert close(model.second(model.activation(model.first(model.norm(u)))), "block_pwconv2_nhwc")
    assert close(model(x), "block_out")


@pytest.mark.parametrize("group", range(5))
def test_groups_are_shifted_as_the_authors_shift_them(group: int):
    mix, ramp = block().mix, RECORD["input/ramp"]
    part, shift = ramp.split(mix.widths, 1)[group], mix.shifts[group]
    for name, axis in (("lr", -1), ("td", -2)):
        moved = shifted(part, shift, axis, "wrap")
        assert torch.equal(moved, RECORD[f"output/ramp_shifted_{name}{group}"])
