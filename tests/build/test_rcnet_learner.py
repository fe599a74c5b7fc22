"""RCNet as a detector: every fusion with every head, its probe, what is refused, what is kept."""

import numpy as np
import pytest

from stackwise import RCNetDetector
from stackwise.build.rcnet.probe import fusion_names, fusions
from stackwise.errors import DataError, KnobError, ModelError
from stackwise.layers.pyramid import RCNet
from stackwise.tasks.detection.small import small_scenes
from stackwise.tasks.detection.task import DetectionTask

X, Y = small_scenes(8, side=32)
LITTLE = {"backbone_width": 4, "width": 16, "head_convs": 1, "max_epochs": 1, "min_steps": 0,
          "batch_size": 4, "augment": "none", "random_state": 0}  # fmt: skip


def fitted(**knobs):
    return RCNetDetector(**LITTLE | knobs).fit(X, Y)


@pytest.mark.parametrize(
    ("fusion", "head", "conv"),
    [("rcnet", "retina", "plain"), ("revfp", "fcos", "deform"), ("csn", "atss", "plain"),
     ("rcnet", "fcos", "deform")],
)  # fmt: skip
def test_a_detector_of_each_fusion_learns_and_answers(fusion, head, conv):
    model = fitted(fusion=fusion, head=head, conv=conv)
    assert isinstance(model.network_.neck, RCNet)
    found = model.predict(X[:2])
    assert len(found) == 2 and np.isfinite(found[0]["boxes"]).all()


def test_a_detector_that_was_kept_answers_alike(tmp_path):
    model = fitted(levels=5, guided=False, weights="mean", wrap=False, ratio=8)
    model.save(tmp_path / "kept")
    again = RCNetDetector.load(tmp_path / "kept")
    for one, other in zip(model.predict(X), again.predict(X), strict=True):
        assert np.array_equal(one["boxes"], other["boxes"])


def test_the_probe_reads_the_weight_of_each_fusion_and_the_guidance():
    task = DetectionTask.load((X, Y), test=0.5, validation=0.25)
    model = fitted()
    found = fusions(model, task, pictures=3, shown=2)
    weights = found.tables["weights"]
    assert list(weights.index) == fusion_names(4) and len(weights) == 6
    assert weights["taken"].between(0, 1).all()
    assert found.tables["pictures"].shape == (3, 6)
    assert set(found.figures) == {"weights", "guidance"}
    mean = found.tables["pictures"].mean()
    assert np.allclose(weights["taken"], mean)


def test_the_probe_says_what_it_cannot_read():
    task = DetectionTask.load((X, Y), test=0.5, validation=0.25)
    with pytest.raises(ModelError, match="fusion=csn has no reverse pyramid"):
        fusions(fitted(fusion="csn"), task)
    with pytest.raises(ModelError, match="give a run of rcnet"):
        fusions(object(), task)
    with pytest.raises(DataError, match="give their source"):
        fusions(fitted(), None)


def test_a_width_that_does_not_divide_is_refused():
    with pytest.raises(KnobError, match="width must be a multiple of ratio, got width=24"):
        fitted(width=24)


def test_group_norm_learns_from_one_picture_a_step():
    pictures, truth = small_scenes(3, side=64)
    model = RCNetDetector(**LITTLE | {"batch_size": 1, "levels": 5, "neck_norm": "group"})
    assert len(model.fit(pictures, truth).predict(pictures[:1])) == 1
