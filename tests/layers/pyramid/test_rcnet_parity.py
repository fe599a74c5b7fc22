"""Numbers recorded from the authors' code: laterals, RevFP, shift, contexts, the whole neck."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from stackwise.layers.pyramid import RCNet

RECORD = load_file(Path(__file__).parents[2] / "data" / "parity" / "rcnet.safetensors")
MAPS = [RECORD[f"input/backbone{n}"] for n in (1, 2, 3)]
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def ours(name):
    """What we call a weight of theirs."""
    *path, last = name.split(".")
    first = path[0]
    if first == "lateral_convs":
        return f"before.sides.{path[1]}.{'1' if path[2] == 'bn' else '0'}.{last}"
    if first == "extra_downsamples":
        return f"before.further.{path[1]}.{'1' if path[3] == 'bn' else '0'}.{last}"
    if first == "RevFP":
        node = f"revfp.nodes.{int(path[1][1]) - 3}"
        if last == "temp":
            return f"{node}.guidance.temperature"
        if path[2] == "spatial_weight":
            return f"{node}.guidance.conv.{last}"
        if path[2] == "weight":
            return f"{node}.weights.{path[3]}.conv.{last}"
        part = path[2].removesuffix("_fusion")
        return f"{node}.{part}.{'norm' if path[3] == 'bn' else 'conv'}.{last}"
    if path[1] == "msm":
        place = {"0": "1" if path[-1] == "bn" else "0", "1": "3"}[path[4]]
        return f"csn.shift.aggregations.{path[3]}.{place}.{last}"
    context = "scale" if path[1] == "scaleContext" else "spatial"
    return f"csn.{context}.{'says' if path[2] == 'channel_agg' else 'turns'}.{last}"


@pytest.fixture(scope="module")
def neck():
    made = RCNet([8, 12, 16], 32, 5, conv="plain", norm="batch").eval()
    weights = {k.removeprefix("weights/"): v for k, v in RECORD.items() if k.startswith("weights/")}
    made.load_state_dict({ours(name): tensor for name, tensor in weights.items()})
    return made.requires_grad_(requires_grad=False)


def test_laterals_and_further_levels(neck):
    names = ["lateral_c3", "lateral_c4", "lateral_c5", "extra_c6", "extra_c7"]
    for found, name in zip(neck.before(MAPS), names, strict=True):
        assert_close(found, RECORD[f"output/{name}"], **CLOSE)


def test_revfp_and_what_its_nodes_decide(neck):
    seen = []
    found = neck.revfp(neck.before(MAPS), seen=seen)
    for level, (one, node) in enumerate(zip(found, seen, strict=True), start=3):
        assert_close(one, RECORD[f"output/revfp_p{level}"], **CLOSE)
        for fusion, w in enumerate(node.weights):
            logit = RECORD[f"output/revfp_p{level}_fuse{fusion}_gate_logit"]
            assert_close(w, logit.sigmoid().flatten(), **CLOSE)
        if node.guidance is not None:
            logit = RECORD[f"output/revfp_p{level}_spatial_logit"][:, 0]
            scale = neck.revfp.nodes[level - 3].guidance.temperature * 32**-0.5
            share = (logit * scale).flatten(1).softmax(1).view_as(logit)
            assert_close(node.guidance, share * logit[0].numel(), **CLOSE)


def test_the_shift_takes_the_levels_that_theirs_takes(neck):
    found = neck.csn.shift.shifted(RECORD["input/shift_x"])
    assert torch.equal(found.transpose(0, 1), RECORD["output/shift_only"])


def test_shift_and_contexts(neck):
    stacked = RECORD["output/csn_stacked_in"]
    met = neck.csn.shift(stacked)
    assert_close(met, RECORD["output/csn_shift_out"], **CLOSE)
    for context, name in ((neck.csn.scale, "scale"), (neck.csn.spatial, "spatial")):
        assert_close(context(met)[:, 0], RECORD[f"output/csn_{name}_context"][0], **CLOSE)


def test_the_whole_neck(neck):
    for level, found in enumerate(neck(MAPS), start=3):
        assert_close(found, RECORD[f"output/neck_p{level}"], **CLOSE)
