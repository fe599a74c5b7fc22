"""MaskNet against FuxiCTR's: with equal weights, equal masks, blocks and probabilities.

The numbers were recorded from reczoo/FuxiCTR at 0245987fdc1d43c36164ea496a02324885a8557a
(model_zoo/MaskNet: the networks, their blocks and the norms) in float32, on seeded random weights.
"""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from stackwise.build.masknet import MaskBlock, MaskNet, ParallelMaskBlocks

RECORD = load_file(Path(__file__).parents[1] / "data" / "parity" / "masknet.safetensors")
FIELDS = RECORD["input/feature_emb"]  # (16, 5, 6)
ROWS, COUNT, K = FIELDS.shape
NETS = {
    "serial_r2": ([24, 20, 16], [], 2.0),
    "serial_r1": ([12, 12], [], 1.0),
    "parallel_r2": ([10, 10, 10], [12, 8], 2.0),
    "parallel_r05": ([14, 14], [12], 0.5),
}


def weights(name: str) -> dict[str, Tensor]:
    start = f"weights/{name}/"
    return {key.removeprefix(start): value for key, value in RECORD.items() if start in key}


def of_theirs(name: str) -> MaskNet:
    """Our network with their weights; each row has codes of its own, and so the given fields."""
    widths, head, reduction = NETS[name]
    ours = MaskNet(
        n_numeric=0, cardinalities=[ROWS] * COUNT, n_outputs=1, variant=name.split("_")[0],
        blocks=len(widths), width=widths[-1], reduction=reduction, embedding_dim=K, head=head,
    )  # fmt: skip
    d = COUNT * K
    if isinstance(ours.blocks, nn.ModuleList):  # theirs may narrow from block to block
        ours.blocks = nn.ModuleList(
            MaskBlock(d, a, b, reduction=reduction) for a, b in pairwise([d, *widths])
        )
    theirs = weights(name)
    with torch.no_grad():
        # the row after each field's stretch is for codes never seen
        ours.embedding.weight.view(COUNT, ROWS + 1, K)[:, :ROWS] = FIELDS.transpose(0, 1)
        for part in ("weight", "bias"):
            norms = [theirs[f"emb_norm.{field}.{part}"] for field in range(COUNT)]
            getattr(ours.norm, part).copy_(torch.stack(norms))
        for block in range(len(widths)):
            copy_block(ours, block, theirs)
        inside = "fc" if isinstance(ours.blocks, nn.ModuleList) else "dnn.mlp"
        for place, layer in enumerate(ours.head):
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(theirs[f"mask_net.{inside}.{place}.weight"])
                layer.bias.copy_(theirs[f"mask_net.{inside}.{place}.bias"])
    return ours.eval()


def copy_block(ours: MaskNet, index: int, theirs: dict[str, Tensor]) -> None:
    start = f"mask_net.mask_blocks.{index}."
    linear, scale, shift, w1, b1, w2, b2 = (
        theirs[start + name]
        for name in (
            "hidden_layer.0.weight", "hidden_layer.1.weight", "hidden_layer.1.bias",
            "mask_layer.0.weight", "mask_layer.0.bias", "mask_layer.2.weight", "mask_layer.2.bias",
        )
    )  # fmt: skip
    if isinstance(ours.blocks, ParallelMaskBlocks):
        blocks = ours.blocks
        blocks.weight[index] = linear.T
        blocks.scale[index, 0], blocks.bias[index, 0] = scale, shift
        hidden = slice(index * len(b1), (index + 1) * len(b1))
        blocks.aggregate.weight[hidden], blocks.aggregate.bias[hidden] = w1, b1
        blocks.project.weight[index], blocks.project.bias[index] = w2.T, b2
        return
    block = ours.blocks[index]
    for parameter, value in (
        (block.linear.weight, linear), (block.norm.weight, scale), (block.norm.bias, shift),
        (block.mask.aggregate.weight, w1), (block.mask.aggregate.bias, b1),
        (block.mask.project.weight, w2), (block.mask.project.bias, b2),
    ):  # fmt: skip
        parameter.copy_(value)


def expected(name: str, what: str) -> Tensor:
    return RECORD[f"output/{name}/{what}"]


@pytest.mark.parametrize("name", NETS)
def test_the_answers_equal_the_authors(name: str):
    codes = torch.arange(ROWS)[:, None].expand(-1, COUNT)
    with torch.no_grad():
        logit = of_theirs(name)(torch.zeros(ROWS, 0), codes)
    assert torch.allclose(logit, expected(name, "logit"), atol=1e-5)
    assert torch.allclose(logit.sigmoid(), expected(name, "probability"), atol=1e-6)


@pytest.mark.parametrize("name", NETS)
def test_norms_masks_and_blocks_equal_the_authors(name: str):
    ours, raw = of_theirs(name), FIELDS.flatten(1)
    with torch.no_grad():
        normed = ours.norm(FIELDS)
        assert torch.allclose(normed, expected(name, "emb_norm"), atol=1e-6)
        h = normed.flatten(1)
        count = len(NETS[name][0])
        if isinstance(ours.blocks, ParallelMaskBlocks):
            found = ours.blocks(raw, h).chunk(count, 1)
            hidden = ours.blocks.aggregate(raw).relu().unflatten(-1, (count, -1))
            masks = ours.blocks.project(hidden).unbind(1)
        else:
            masks, found = [], []
            for block in ours.blocks:
                masks.append(block.mask(raw))
                h = block(raw, h)
                found.append(h)
    for index in range(count):
        assert torch.allclose(masks[index], expected(name, f"block{index}_mask"), atol=1e-5)
        assert torch.allclose(found[index], expected(name, f"block{index}_out"), atol=1e-5)


def test_our_network_has_as_many_weights_as_the_authors():
    for name in NETS:
        ours = of_theirs(name)
        count = sum(p.numel() for n, p in ours.named_parameters() if n != "embedding.weight")
        assert count == sum(value.numel() for value in weights(name).values())
