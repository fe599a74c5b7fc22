"""NoProp as estimators: blocks that are trained apart are those that are trained in turn."""

import os
import signal

import numpy as np
import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks

from stackwise import NoPropClassifier, NoPropTableClassifier
from stackwise.errors import Interrupted, KnobError, StudyError
from stackwise.stack import Stack
from stackwise.tasks.images.small import small_pictures
from stackwise.training import session

SMALL = {"steps": 2, "width": 2, "hidden": 8, "max_epochs": 2, "min_steps": 0, "threads": 1}
WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": "weights change which rows are held out",
}


def fitted(**knobs) -> NoPropClassifier:
    return NoPropClassifier(**SMALL | knobs).fit(*small_pictures(60))


def same(one, other) -> bool:
    left, right = one.network_.state_dict(), other.network_.state_dict()
    return all(torch.equal(value, right[name]) for name, value in left.items())


@parametrize_with_checks(
    [
        NoPropClassifier(steps=1, width=4, hidden=16, lr=0.02, max_epochs=12, batch_size=32,
                         augment="none", dropout=0.0, draws=1, threads=1),
        NoPropTableClassifier(steps=1, width=8, hidden=16, lr=0.02, max_epochs=15, batch_size=32,
                              min_steps=0, dropout=0.0, draws=1, threads=1),
    ],
    expected_failed_checks=lambda _: WEIGHTS,
)  # fmt: skip
def test_estimators_pass_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def in_turn() -> NoPropClassifier:
    return fitted()


@pytest.mark.slow
def test_blocks_trained_on_a_pool_are_those_trained_in_turn(in_turn):
    side_by_side = fitted(workers=2)
    assert same(in_turn, side_by_side)
    assert [line["phase"] for line in side_by_side.history_] == [
        name for name in ("block 1", "block 2", "readout") for _ in range(2)
    ]


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_blocks_trained_on_ray_are_those_trained_in_turn(in_turn, small_cluster):
    assert same(in_turn, fitted(on="ray"))


def test_a_cluster_that_is_none_is_one_sentence():
    with pytest.raises(StudyError, match="not on 'dask'"):
        fitted(on="dask")


def test_a_block_learns_the_same_whatever_becomes_of_the_others(in_turn):
    longer = fitted(steps=2, draws=2)  # another prediction, the same training
    assert same(in_turn, longer)


def test_a_fit_that_is_stopped_in_its_second_block_goes_on_to_the_same_bits(in_turn, tmp_path):
    sent = []

    def stop(event: dict) -> None:
        if not sent and event.get("phase") == "block 2 of 3" and "metrics" in event:
            sent.append(1)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted), session(folder=tmp_path, on_event=stop):
        fitted()
    with session(folder=tmp_path, resume=True):
        resumed = fitted()
    assert same(in_turn, resumed)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 6


def test_a_time_limit_ends_every_block_and_is_said():
    model = fitted(max_epochs=100_000, time_limit=0.5)
    assert any("time limit ended the training of 3 of 3 parts" in note for note in model.notes_)
    assert {line["phase"] for line in model.history_} == {"block 1", "block 2", "readout"}


@pytest.mark.parametrize(
    ("variant", "embedding"), [("ct", "prototype"), ("fm", "onehot"), ("dt", "learned")]
)
def test_other_forms_are_fitted_kept_and_read_back(variant, embedding, tmp_path):
    X, _ = small_pictures(60)
    steps = 2 if variant == "dt" else 5
    model = fitted(variant=variant, embedding=embedding, steps=steps, max_epochs=1)
    found = model.predict_proba(X)
    assert np.isfinite(found).all() and np.allclose(found.sum(1), 1)
    model.save(tmp_path / "kept")
    assert np.array_equal(NoPropClassifier.load(tmp_path / "kept").predict_proba(X), found)


def test_prototypes_are_training_pictures():
    model = fitted(embedding="prototype", fixed=True, max_epochs=1, validation=0.0)
    X, y = small_pictures(60)
    pixels = model.pixels(X[:, None])[slice(None)].flatten(1)
    for place, name in enumerate(model.classes_):
        own = pixels[torch.as_tensor(y == name)]
        assert (own - model.network_.embedding[place]).abs().sum(1).min() < 1e-4


def test_the_stages_end_at_the_prediction_and_show_every_block():
    model = fitted()
    X, _ = small_pictures(60)
    latent, block = model.staged_predict_proba(X)
    assert latent.shape == block.shape == (60, 2, 3)
    assert np.allclose(latent[:, -1], model.predict_proba(X), atol=1e-5)


def test_knobs_that_do_not_go_together_are_refused():
    with pytest.raises(KnobError, match="only with a fixed embedding"):
        fitted(embedding="learned", workers=2)
    with pytest.raises(KnobError, match="embedding=onehot has 3 numbers here, not embed_dim=20"):
        fitted(embed_dim=20)


def test_no_answer_depends_on_other_rows():
    model = fitted(draws=2)
    X, _ = small_pictures(70)
    assert np.array_equal(model.predict_proba(X)[11:12], model.predict_proba(X[11:12]))


def test_the_stack_of_the_estimator_is_its_blocks():
    found = Stack.of(fitted(steps=3, max_epochs=1))
    assert len(found) == 3


@pytest.mark.slow
def test_its_onnx_file_denoises_too(tmp_path):
    ort = pytest.importorskip("onnxruntime")
    from stackwise.tasks.images.estimators.export import export

    X, _ = small_pictures(20)
    model = fitted(max_epochs=1)
    (path, _) = export(model, tmp_path / "model.onnx")
    given = {"pixels": X[:, None].astype("float32")}
    (output,) = ort.InferenceSession(path).run(["probability"], given)
    assert np.abs(output - model.predict_proba(X)).max() < 1e-4
