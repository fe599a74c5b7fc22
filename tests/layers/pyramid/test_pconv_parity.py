"""Numbers recorded from the authors' code: pyramid convolution, integrated norm, the whole neck."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from stackwise.layers.pyramid import SEPC, PConv

RECORD = load_file(Path(__file__).parents[2] / "data" / "parity" / "sepc.safetensors")
LEVELS = [RECORD[f"input/level{level}"] for level in range(5)]
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
TERMS = {"Pconv.0": "coarser.conv", "Pconv.1": "same.conv", "Pconv.2": "finer.conv"}


def weights(group):
    """Their names as ours."""
    found = {}
    for name, tensor in RECORD.items():
        if not name.startswith(f"weights/{group}."):
            continue
        ours = name.removeprefix(f"weights/{group}.")
        for theirs, here in TERMS.items():
            ours = ours.replace(theirs, here)
        ours = ours.replace("Pconvs.", "pconvs.").replace("cconv.", "classes.conv.conv.")
        ours = ours.replace("lconv.", "boxes.conv.conv.").replace(
            "cbn.", "classes.norm.whole.norm."
        )
        ours = ours.replace("lbn.", "boxes.norm.whole.norm.")
        if ours.startswith("bn.") or ".bn." in ours:
            ours = ours.replace("bn.", "norm.whole.norm.")
        found[ours] = tensor
    return found


def same(found, prefix):
    for level, one in enumerate(found):
        assert_close(one.detach(), RECORD[f"output/{prefix}{level}"], **CLOSE)


def made(group, norm):
    pconv = PConv(8, norm=norm)
    pconv.load_state_dict(weights(group))
    return pconv


def test_a_pyramid_convolution_and_its_terms():
    pconv = made("pconv", "none")
    same(pconv(LEVELS), "pconv_eval_level")
    assert_close(pconv.same(LEVELS[1], 1), RECORD["output/pconv_terms_level1_same"], **CLOSE)
    assert_close(pconv.finer(LEVELS[0], 1), RECORD["output/pconv_terms_level1_from_finer"], **CLOSE)
    above = RECORD["output/pconv_terms_level1_from_coarser_before_resize"]
    assert_close(pconv.coarser(LEVELS[2], 1), above, **CLOSE)


def test_integrated_batch_norm_in_training_and_after():
    pconv = made("pconv_ibn", "ibn")
    same(pconv.eval()(LEVELS), "pconv_ibn_eval_level")
    same(pconv.train()(LEVELS), "pconv_ibn_train_level")
    norm = pconv.norm.whole.norm
    assert_close(norm.running_mean, RECORD["output/pconv_ibn_train_running_mean_after"], **CLOSE)
    assert_close(norm.running_var, RECORD["output/pconv_ibn_train_running_var_after"], **CLOSE)


@pytest.mark.parametrize(
    ("group", "depth", "fusion"), [("neck", 3, "ibn"), ("neck_nobn", 2, "pconv")]
)
def test_the_whole_neck_with_unpadded_branches(group, depth, fusion):
    module = SEPC(8, depth=depth, fusion=fusion, padding=0).eval()
    module.load_state_dict(weights(group))
    with torch.no_grad():
        classes, boxes = module(LEVELS)
    same(classes, f"{group}_eval_cls")
    same(boxes, f"{group}_eval_loc")
