"""A learner that gives margins and no probabilities: its files, its scores, what it is refused."""

import numpy as np
import pandas as pd
import pytest
from sklearn.svm import LinearSVC

from stackwise import CNNSVMClassifier, swap_head
from stackwise.conformance import small_task
from stackwise.errors import DataError
from stackwise.tasks.images.task import ImagesTask
from stackwise.tasks.labelled.answers import ask, predict_frame, predict_once
from stackwise.tasks.labelled.ensembles.bagged import Bagged
from stackwise.tasks.table.baselines import MLPClassifier
from stackwise.tasks.table.decisions import decision_of


class Fits(LinearSVC):
    """Any estimator of the user's own with `decision_function` alone."""


def rows(classes: int) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(0).normal(size=(60, classes))
    return X, np.array(list("abc"))[X.argmax(1)]


@pytest.mark.parametrize("classes", [2, 3])
def test_answers_have_a_margin_a_class_and_the_largest_is_the_prediction(classes):
    X, y = rows(classes)
    learner = Fits().fit(X, y)
    frame = predict_frame(learner, X)
    margins = [f"margin_{name}" for name in learner.classes_]
    assert list(frame.columns) == ["prediction", *margins]
    assert (learner.classes_[frame[margins].to_numpy().argmax(1)] == frame["prediction"]).all()
    assert (frame["prediction"] == learner.predict(X)).all()
    assert predict_once(learner, X)[1] is None and ask(learner, X).probability is None


@pytest.fixture(scope="module")
def pictures() -> tuple[ImagesTask, CNNSVMClassifier]:
    task = small_task("images", "classification")
    learner = CNNSVMClassifier(channels=[4], kernel_size=3, hidden=8, max_epochs=1, min_steps=0)
    return task, task.fit(learner)


def test_scores_that_need_probabilities_stay_empty(pictures):
    task, learner = pictures
    judged = task.judge(learner, "test")
    assert "accuracy" in judged.scores and "f1" in judged.scores
    assert not {"log_loss", "roc_auc", "calibration_error"} & set(judged.scores)
    assert [name for name in judged.samples if name.startswith("margin_")]


def test_a_metric_of_probabilities_is_refused_before_training():
    task = ImagesTask.load((np.zeros((60, 8, 8), np.uint8), np.arange(60) % 3), metric="log_loss")
    with pytest.raises(DataError, match="log_loss needs probabilities.*gives margins"):
        task.fit(CNNSVMClassifier(channels=[2], hidden=4))


def test_files_of_predictions_carry_margins(pictures, tmp_path):
    task, learner = pictures
    X, _ = task.part("test")
    np.save(tmp_path / "new.npy", X[np.arange(len(X))][:, 0])
    task.write_predictions(tmp_path / "out.csv", learner, tmp_path / "new.npy")
    frame = pd.read_csv(tmp_path / "out.csv")
    assert list(frame.columns)[1:] == ["prediction", "margin_across", "margin_down",
                                       "margin_square"]  # fmt: skip


def test_copies_answer_by_their_mean_margin_and_no_threshold_is_set():
    task = small_task("table", "classification")
    learner = swap_head(task.fit(MLPClassifier(width=4, max_epochs=1, min_steps=0)))
    X, _ = task.part("test")
    bagged = Bagged(learner)
    bagged.members, bagged.classes_ = {"fold-0": learner}, learner.classes_
    assert not hasattr(bagged, "predict_proba")
    assert np.allclose(ask(bagged, X).margin, ask(learner, X).margin)
    assert (bagged.predict(X) == learner.predict(X)).all()
    if len(learner.classes_) == 2:
        with pytest.raises(DataError, match="a threshold is one of probabilities"):
            decision_of(learner, None, threshold=0.3)
