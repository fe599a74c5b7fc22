"""Astroformer against the authors': with equal weights, every block, the head and their parts.

The numbers were recorded from Rishit-dagli/Astroformer at e9fcef037dc8af842325d7a742266e7e36a5a45a
(Apache-2.0; astroformer.py and the layers of timm beside it) in float32, on seeded random weights.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from stackwise.build.astroformer import (
    Astroformer,
    ConvBlock,
    RelativeAttention,
    TransformerBlock,
)

RECORD = load_file(Path(__file__).parents[1] / "data" / "parity" / "astroformer.safetensors")
NAMES = {
    "stem.conv1": "stem.0", "stem.norm1": "stem.1", "stem.conv2": "stem.3", ".blocks.": ".",
    "conv1_1x1": "expand", "conv2_kxk": "depthwise", "conv3_1x1": "project", "se.fc1":
    "excite.first", "se.fc2": "excite.second", "shortcut.expand": "shortcut.1",
    "norm1.norm": "norm1", "attn.": "attention.", "rel_pos.relative_position_bias_table": "table",
    "proj.": "out.", "mlp.fc1": "first", "mlp.fc2": "second", "head.fc": "head.",
    "head.norm": "norm", "head.pre_logits.fc": "hidden", "head..": "head.",
}  # fmt: skip


DEPTHS = (1, 2, 1, 2)
PLACES = {
    f"stages.{stage}.{place}": f"blocks.{sum(DEPTHS[:stage]) + place}.body"
    for stage, depth in enumerate(DEPTHS)
    for place in range(depth)
}


def fill(module: nn.Module, start: str) -> nn.Module:
    weights = {}
    for key, value in RECORD.items():
        if key.startswith(f"weights/{start}"):
            name = key.removeprefix(f"weights/{start}")
            for theirs, ours in NAMES.items():
                name = name.replace(theirs, ours)
            place = ".".join(name.split(".")[:3])
            weights[name.replace(place, PLACES.get(place, place), 1)] = value
    module.load_state_dict(weights)
    return module.eval()


def close(ours: Tensor, name: str) -> bool:
    return torch.allclose(ours, RECORD[f"output/{name}"], atol=1e-5, rtol=1e-5)


def watched(module: nn.Module, names: dict[str, str]) -> dict[str, Tensor]:
    """What parts of a module will put out, by the names of the record."""
    seen: dict[str, Tensor] = {}
    for part, name in names.items():
        hook = lambda _m, _a, output, name=name: seen.__setitem__(name, output)  # noqa: E731
        module.get_submodule(part).register_forward_hook(hook)
    return seen


@torch.no_grad()
def test_every_block_and_the_logits_equal_the_authors():
    model = Astroformer(
        image_size=(64, 96), n_outputs=7, widths=(8, 16, 24, 32), depths=DEPTHS, stem=8,
        head_dim=16, head_hidden=20,
    )  # fmt: skip
    fill(model, "net.")
    names = {"stem": "net_stem"} | {
        PLACES[f"stages.{stage}.{place}"]: f"net_stage{stage}_block{place}"
        for stage, depth in enumerate(DEPTHS)
        for place in range(depth)
    }
    seen = watched(model, names | {"norm": "head_norm", "hidden": "hidden"})
    logits = model(RECORD["input/image"])
    assert close(seen.pop("head_norm")[..., None, None], "net_head_norm")
    assert close(seen.pop("hidden").tanh(), "net_pre_logits")
    assert len(seen) == 7 and close(logits, "net_logits")
    for name, value in seen.items():
        assert close(value, name), name


@torch.no_grad()
def test_relative_attention_equals_the_authors():
    attention = fill(RelativeAttention(12, 12, 4, (3, 4)), "attn.")
    seen = watched(attention, {"qkv": "attn_qkv"})
    assert torch.equal(attention.index, RECORD["output/attn_rel_pos_index"])
    assert close(attention.bias()[None], "attn_rel_pos_bias")
    assert close(attention(RECORD["input/attn_x"]), "attn_out")
    assert close(seen["attn_qkv"], "attn_qkv")


@torch.no_grad()
def test_a_transformer_block_equals_the_authors():
    block = fill(TransformerBlock(10, 15, 2, map_size=(2, 3), head_dim=5), "tblock.")
    parts = {"shortcut": "shortcut", "pool": "norm1_down", "attention": "attn", "second": "mlp"}
    seen = watched(block, {part: f"tblock_{name}" for part, name in parts.items()})
    assert close(block(RECORD["input/tblock_x"]), "tblock_out")
    assert all(close(value, name) for name, value in seen.items())


@torch.no_grad()
def test_a_convolution_block_equals_the_authors():
    block = fill(ConvBlock(8, 8), "mbconv.")
    parts = {
        "pre_norm": "pre_norm", "expand": "conv1_1x1", "depthwise": "conv2_kxk", "excite": "se",
        "project": "conv3_1x1",
    }  # fmt: skip
    seen = watched(block, {part: f"mbconv_{name}" for part, name in parts.items()})
    assert close(block(RECORD["input/mbconv_x"]), "mbconv_out")
    assert len(seen) == 5 and all(close(value, name) for name, value in seen.items())
