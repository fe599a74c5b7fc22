"""SEPC as a detector: every fusion with every head, what is refused, and what is kept."""

import numpy as np
import pytest

from stackwise import SEPCDetector
from stackwise.errors import KnobError
from stackwise.layers.pyramid import SEPC
from stackwise.tasks.detection.small import small_scenes

X, Y = small_scenes(8, side=32)
LITTLE = {"backbone_width": 4, "width": 8, "pconvs": 1, "max_epochs": 1, "min_steps": 0,
          "batch_size": 4, "augment": "none", "random_state": 0}  # fmt: skip


def fitted(**knobs):
    return SEPCDetector(**LITTLE | knobs).fit(X, Y)


@pytest.mark.parametrize(
    ("fusion", "head"),
    [("pconv", "retina"), ("ibn", "fcos"), ("lite", "atss"), ("full", "fcos")],
)
def test_a_detector_of_each_fusion_learns_and_answers(fusion, head):
    model = fitted(fusion=fusion, head=head)
    assert any(isinstance(part, SEPC) for part in model.network_.modules())
    found = model.predict(X[:2])
    assert len(found) == 2 and set(found[0]) == {"boxes", "scores", "labels"}
    assert np.isfinite(found[0]["boxes"]).all()


@pytest.mark.slow
def test_it_learns_to_find_squares():
    pictures, truth = small_scenes(16, side=32, seed=1)
    before = SEPCDetector(**LITTLE | {"width": 16}).fit(pictures, truth)
    after = SEPCDetector(**LITTLE | {"width": 16, "max_epochs": 20, "lr": 4e-3}).fit(
        pictures, truth
    )
    assert after.score(pictures, truth) > before.score(pictures, truth) + 0.05


def test_a_detector_that_was_kept_answers_alike(tmp_path):
    model = fitted(fusion="full", levels=5)
    model.save(tmp_path / "kept")
    again = SEPCDetector.load(tmp_path / "kept")
    for one, other in zip(model.predict(X), again.predict(X), strict=True):
        assert np.array_equal(one["boxes"], other["boxes"])


def test_the_head_has_no_towers_and_no_knob_for_them():
    with pytest.raises((KnobError, TypeError), match="head_convs"):
        SEPCDetector(head_convs=2)
    network = SEPCDetector(**LITTLE).build_network(2)
    assert len(network.head.class_tower) == 0


def test_a_norm_for_the_fusion_that_has_none_is_refused():
    with pytest.raises(KnobError, match="fusion=pconv has no norm, got levels_norm=group"):
        fitted(fusion="pconv", levels_norm="group")


def test_group_norm_learns_from_one_picture_a_step():
    pictures, truth = small_scenes(3, side=64)
    model = SEPCDetector(**LITTLE | {"batch_size": 1, "levels": 5, "levels_norm": "group"})
    assert len(model.fit(pictures, truth).predict(pictures[:1])) == 1
