"""The estimators with nested heads: answers and codes of every size, kept, resumed and refused."""

import os
import signal
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch.nn import functional

from stackwise import MatryoshkaClassifier, MatryoshkaTableClassifier, cli
from stackwise.errors import DataError, Interrupted, KnobError
from stackwise.tasks.images.estimators.export import WholePictures
from stackwise.tasks.images.small import small_pictures
from stackwise.tasks.table.task import TableTask
from stackwise.training import session

SMALL = {"width": 4, "n_blocks": 1, "embed_dim": 16, "dims": (4, 8, 16), "max_epochs": 2,
         "min_steps": 0, "threads": 1}  # fmt: skip
WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": "weights change which rows are held out",
}


def fitted(**knobs) -> MatryoshkaClassifier:
    return MatryoshkaClassifier(**SMALL | knobs).fit(*small_pictures(60))


@pytest.fixture(scope="module")
def model() -> MatryoshkaClassifier:
    return fitted()


@parametrize_with_checks(
    [
        MatryoshkaClassifier(width=4, n_blocks=1, embed_dim=8, dims=(4, 8), lr=0.03, max_epochs=4,
                             batch_size=32, augment="none", threads=1),
        MatryoshkaTableClassifier(width=16, n_blocks=1, embed_dim=8, dims=(4, 8), lr=0.03,
                                  max_epochs=4, patience=None, batch_size=32, dropout=0.0,
                                  threads=1),
    ],
    expected_failed_checks=lambda _: WEIGHTS,
)  # fmt: skip
def test_estimators_pass_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_a_code_is_the_first_numbers_of_the_whole_one(model):
    X, _ = small_pictures(20)
    whole = model.transform(X)
    assert whole.shape == (20, 16) and whole.dtype == np.float32
    for dim in (4, 5, 16):  # 5 was not trained
        assert np.array_equal(model.transform(X, dim=dim), whole[:, :dim])
        unit = model.transform(X, dim=dim, normalise=True)
        assert np.allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)


def test_each_size_answers_by_its_own_head(model):
    X, _ = small_pictures(20)
    z = torch.as_tensor(model.transform(X))
    for place, dim in enumerate((4, 8, 16)):
        layer = model.network_.head.layers[place]
        logits = functional.linear(z[:, :dim], layer.weight, layer.bias)
        chances = model.predict_proba(X, dim=dim)
        assert np.allclose(chances, logits.softmax(-1).detach().numpy(), atol=1e-6)
        assert np.array_equal(model.predict(X, dim=dim), model.classes_[chances.argmax(1)])
    assert np.array_equal(model.predict_proba(X, dim=16), model.predict_proba(X))


def test_tied_heads_answer_between_the_sizes_and_others_do_not(model):
    X, _ = small_pictures(20)
    tied = fitted(tied=True, max_epochs=1)
    assert tied.predict_proba(X, dim=5).shape == (20, 3)
    sizes = [sum(p.numel() for p in m.network_.head.parameters()) for m in (model, tied)]
    assert sizes == [3 * (4 + 8 + 16) + 9, 3 * 16 + 3]
    with pytest.raises(DataError, match="no head for dim 5; trained dims are 4, 8, 16"):
        model.predict(X, dim=5)
    with pytest.raises(DataError, match="dim must be from 1 to the embedding size 16, got 17"):
        model.transform(X, dim=17)


def test_the_cascade_stops_where_it_is_sure(model):
    X, y = small_pictures(20)
    assert model.predict_adaptive(X, thresholds=(0, 0))[1].tolist() == [4] * 20
    labels, used = model.predict_adaptive(X, thresholds=(1, 1))
    assert used.tolist() == [16] * 20 and np.array_equal(labels, model.predict(X))
    assert len(model.thresholds_) == 2
    labels, used = model.predict_adaptive(X)
    for dim in set(used):
        assert np.array_equal(labels[used == dim], model.predict(X, dim=dim)[used == dim])


def test_without_held_out_rows_thresholds_are_asked_for():
    X, y = small_pictures(60)
    alone = fitted(validation=0.0, max_epochs=1)
    with pytest.raises(DataError, match=r"give them, or find them by fit_thresholds\(X, y\)"):
        alone.predict_adaptive(X)
    found = alone.fit_thresholds(X, y)
    assert len(found) == 2 and len(alone.predict_adaptive(X)[0]) == 60


def test_one_size_has_no_cascade_and_answers():
    X, _ = small_pictures(20)
    one = fitted(dims=(16,), max_epochs=1)
    assert one.thresholds_ is None and set(one.predict_adaptive(X)[1]) == {16}


def test_weights_of_the_sizes_change_what_is_learned(model):
    other = fitted(weights=(5, 0, 1))
    assert not torch.equal(
        other.network_.head.layers[2].weight, model.network_.head.layers[2].weight
    )


def test_smoothing_acts_and_a_teacher_teaches_every_size(model):
    smooth = fitted(smoothing=0.3)
    taught = fitted(distill_from=model, distill_alpha=0.0)
    kept = model.network_.head.layers[0].weight
    for other in (smooth, taught):
        assert not torch.equal(other.network_.head.layers[0].weight, kept)


def test_it_is_kept_and_read_back(model, tmp_path):
    X, _ = small_pictures(20)
    model.save(tmp_path / "kept")
    again = MatryoshkaClassifier.load(tmp_path / "kept")
    assert again.thresholds_ == model.thresholds_ and again.dims_ == (4, 8, 16)
    assert np.array_equal(again.transform(X), model.transform(X))
    assert np.array_equal(again.predict_proba(X, dim=4), model.predict_proba(X, dim=4))


def test_a_fit_that_is_stopped_goes_on_to_the_same_bits(model, tmp_path):
    sent = []

    def stop(event: dict) -> None:
        if not sent and "metrics" in event:
            sent.append(1)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted), session(folder=tmp_path, on_event=stop):
        fitted()
    with session(folder=tmp_path, resume=True):
        resumed = fitted()
    for name, tensor in model.network_.state_dict().items():
        assert torch.equal(resumed.network_.state_dict()[name], tensor)
    assert resumed.thresholds_ == model.thresholds_


def test_codes_go_on_in_a_pipeline():
    X, y = small_pictures(60)
    rows = X.reshape(60, -1)
    side = X.shape[1:]
    coder = MatryoshkaClassifier(**SMALL, n_components=8, image_shape=side)
    piped = make_pipeline(coder, LogisticRegression()).fit(rows, y)
    assert piped[-1].n_features_in_ == 8
    assert list(piped[0].get_feature_names_out())[-1] == "matryoshkaclassifier7"


def test_rows_of_a_table_are_embedded_from_a_file(tmp_path):
    task = TableTask.small("classification")
    X, y = task.part("train")
    made = MatryoshkaTableClassifier(width=8, embed_dim=16, max_epochs=2, min_steps=0, threads=1)
    task.fit(made)
    pd.DataFrame(X).to_csv(tmp_path / "rows.csv", index=False)
    codes = made.transform(str(tmp_path / "rows.csv"), dim=3)
    assert np.allclose(codes, made.transform(X, dim=3), atol=1e-4)


def test_pictures_are_embedded_in_the_order_of_their_folder(model, tmp_path):
    X, _ = small_pictures(6)
    for number, picture in enumerate(X):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    codes = model.transform(str(tmp_path), dim=4)
    assert np.array_equal(codes, model.transform(X, dim=4))


def test_what_is_exported_answers_by_the_whole_embedding(model):
    X, _ = small_pictures(20)
    with torch.no_grad():
        found = WholePictures(model).eval()(torch.as_tensor(X).float()[:, None])
    assert np.allclose(found.numpy(), model.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"dims": (4, 8)}, "end at the embedding size 16, got"),
        ({"weights": (1, 1)}, "weights has 2 entries for 3 dims"),
    ],
)
def test_knobs_that_do_not_fit_are_one_sentence(knobs, words):
    with pytest.raises(KnobError, match=words):
        fitted(**knobs)
    with pytest.raises(DataError, match="dim must be from 1"):
        fitted(n_components=17)


def run(monkeypatch, capsys, *words: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["stackwise", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0, capsys.readouterr().err


def test_the_command_writes_codes(model, tmp_path, monkeypatch, capsys):
    X, _ = small_pictures(6)
    (tmp_path / "photos").mkdir()
    for number, picture in enumerate(X):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{number}.png")
    model.save(tmp_path / "kept")
    monkeypatch.chdir(tmp_path)
    code, said = run(
        monkeypatch, capsys, "transform", "kept", "photos/", "--dim", "4", "--normalise",
        "-o", "codes.npy",
    )  # fmt: skip
    assert code == 0, said
    assert np.array_equal(np.load("codes.npy"), model.transform(X, dim=4, normalise=True))
    for words, sentence in (
        (("photos/", "--dim", "99"), "dim must be from 1 to the embedding size 16, got 99"),
        (("photos/", "--dim", "0"), "at least 1"),
        (("nowhere/",), "nowhere"),
    ):
        code, said = run(monkeypatch, capsys, "transform", "kept", *words, "-o", "codes.npy")
        assert code == 2 and sentence in said and "Traceback" not in said
