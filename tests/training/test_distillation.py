"""A network that learns from a teacher: on tables and pictures, in Python and by command."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from torch import nn

import stackwise
from stackwise import cli
from stackwise.build.hopular import HopularClassifier
from stackwise.build.skan import SKANClassifier
from stackwise.build.tabm import TabMClassifier
from stackwise.errors import DataError, Interrupted, ModelError
from stackwise.tasks.images.baselines.residual_cnn import ResidualCNNClassifier
from stackwise.tasks.images.small import small_pictures
from stackwise.tasks.table.baselines.mlp import MLPClassifier, MLPRegressor
from stackwise.training import session

QUICK = {"max_epochs": 3, "batch_size": 16, "threads": 1, "validation": 0.0}
SMALL = {"width": 8, "n_blocks": 1, "dropout": 0.0, "lr": 0.01, **QUICK}


def rows(count: int = 120) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(count, 3))
    return X, np.array(["no", "yes"])[(X[:, 0] + X[:, 1] > 0).astype(int)]


@pytest.fixture(scope="module")
def teacher() -> LogisticRegression:
    return LogisticRegression().fit(*rows())


@pytest.mark.parametrize(
    ("student", "data"),
    [
        (MLPClassifier(**SMALL), rows()),
        (ResidualCNNClassifier(width=4, **QUICK), small_pictures(30)),
    ],
    ids=["table", "augmented pictures"],
)
def test_alpha_1_is_training_without_a_teacher_bit_for_bit(student, data):
    X, y = data
    plain = student.fit(X, y).predict_proba(X)
    by = LogisticRegression(max_iter=20).fit(X.reshape(len(X), -1), y)
    taught = student.__class__(**student.get_params() | {"distill_from": by, "distill_alpha": 1})
    assert np.array_equal(taught.fit(X, y).predict_proba(X), plain)
    taught.set_params(distill_alpha=0.5)
    assert not np.array_equal(taught.fit(X, y).predict_proba(X), plain)


@pytest.mark.parametrize(
    "student",
    [
        MLPClassifier(**SMALL),
        TabMClassifier(k=2, width=8, depth=1, dropout=0.0, lr=0.01, share_batches=False, **QUICK),
        SKANClassifier(hidden=[4], lr=0.02, keep="all", **QUICK),
        HopularClassifier(
            feature_dim=8,
            heads=2,
            blocks=1,
            lr=0.02,
            mix=(0.0, 0.0),
            follow_share=1.0,
            dropout=(0.0, 0.0, 0.0),
            **QUICK | {"batch_size": 60},
        ),
    ],
    ids=lambda student: type(student).__name__,
)
def test_on_random_labels_the_teacher_is_followed(student, teacher):
    X, y = rows()
    noise = np.random.default_rng(1).permutation(y)
    student.set_params(distill_from=teacher, distill_alpha=0.0, max_epochs=60)
    found = student.fit(X, noise).predict(X)
    assert (found == teacher.predict(X)).mean() > 0.9
    assert (found == noise).mean() < 0.7


def test_pictures_are_shown_to_the_teacher_as_they_are_varied():
    X, y = small_pictures(60)
    by = ResidualCNNClassifier(width=8, lr=0.02, **QUICK | {"max_epochs": 12}).fit(X, y)
    noise = np.random.default_rng(1).permutation(y)
    student = ResidualCNNClassifier(
        width=8, lr=0.02, augment="shift", distill_from=by, distill_alpha=0.0,
        **QUICK | {"max_epochs": 12},
    )  # fmt: skip
    found = student.fit(X, noise).predict(X)
    assert (found == by.predict(X)).mean() > 0.8

    pixels = student.pixels(X[:, None])[np.arange(60)]
    assert np.array_equal(student.samples_of({"pixels": pixels})[:, 0], X)


def test_a_number_is_learned_from_what_the_teacher_predicts():
    X, _ = rows()
    y = 5 + 3 * X[:, 0]
    by = LinearRegression().fit(X, y)
    noise = np.random.default_rng(1).permutation(y)
    student = MLPRegressor(**SMALL | {"max_epochs": 40}, distill_from=by, distill_alpha=0.0)
    found = student.fit(X, noise).predict(X)
    assert np.corrcoef(found, y)[0, 1] > 0.9


def test_a_module_teaches_by_logits_or_by_probabilities():
    X, y = rows()

    class Sum(nn.Module):
        def __init__(self, certain: bool) -> None:
            super().__init__()
            self.certain = certain

        def forward(self, numeric, categorical):
            logits = torch.stack([torch.zeros(len(numeric)), 4 * numeric[:, :2].sum(1)], 1)
            return logits.softmax(-1) if self.certain else logits

    found = [
        MLPClassifier(**SMALL, distill_from=Sum(certain), distill_alpha=0.0).fit(X, y)
        for certain in (False, True)
    ]
    first, second = (made.predict_proba(X) for made in found)
    assert np.allclose(first, second, atol=1e-4)


def test_the_classes_of_a_teacher_may_stand_in_another_order(teacher):
    X, y = rows()

    class Turned:
        classes_ = teacher.classes_[::-1]
        predict = teacher.predict

        def predict_proba(self, X):
            return teacher.predict_proba(X)[:, ::-1]

    made = [
        MLPClassifier(**SMALL, distill_from=by, distill_alpha=0.0).fit(X, y).predict_proba(X)
        for by in (teacher, Turned())
    ]
    assert np.array_equal(*made)


def test_a_teacher_that_cannot_teach_is_refused_in_one_sentence(teacher):
    X, y = rows()

    def learn(by, student=MLPClassifier):
        student(**SMALL, distill_from=by).fit(X, y if student is MLPClassifier else X[:, 0])

    others = LogisticRegression().fit(X, np.where(y == "yes", "maybe", "no"))
    with pytest.raises(DataError, match=r"2 classes, the labels have 2; the teacher does not know"):
        learn(others)
    three = LogisticRegression().fit(X, np.array(["no", "yes", "so"])[np.arange(len(X)) % 3])
    with pytest.raises(DataError, match="returns 3 classes, the labels have 2"):
        learn(three)
    with pytest.raises(DataError, match="returns 5 classes, the labels have 2"):
        learn(Columns(5))
    with pytest.raises(DataError, match="gives no probabilities"):
        learn(LinearRegression().fit(X, X[:, 0]))
    with pytest.raises(DataError, match="predicts classes, the target is a number"):
        learn(teacher, MLPRegressor)
    with pytest.raises(DataError, match="returns 2 numbers a row"):
        learn(Columns(2), MLPRegressor)
    with pytest.raises(DataError, match="output of row 0 is not finite"):
        learn(Columns(2, torch.nan))
    with pytest.raises(ModelError, match="not fitted.*FrozenEstimator"):
        learn(LogisticRegression())
    with pytest.raises(ModelError, match="no run, estimator or module"):
        learn(object())
    learn(FrozenEstimator(teacher))


class Columns(nn.Module):
    def __init__(self, count: int, value: float = 0.0) -> None:
        super().__init__()
        self.count, self.value = count, value

    def forward(self, numeric, categorical):
        return torch.full((len(numeric), self.count), self.value)


def test_a_taught_fit_that_was_stopped_ends_as_one_that_was_not(teacher, tmp_path):
    X, y = rows()

    def student():
        return MLPClassifier(**SMALL | {"dropout": 0.2}, distill_from=teacher)

    whole = student().fit(X, y).predict_proba(X)

    def stop(event):
        if event.get("epoch") == 2:
            raise Interrupted("stop")

    with pytest.raises(Interrupted), session(folder=tmp_path, on_event=stop):
        student().fit(X, y)
    with session(folder=tmp_path, resume=True):
        assert np.array_equal(student().fit(X, y).predict_proba(X), whole)


def run(monkeypatch, capsys, *words: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["stackwise", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0), capsys.readouterr().err


def test_a_run_teaches_another_by_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    X, y = rows()
    pd.DataFrame(X, columns=list("abc")).assign(label=y).to_csv("rows.csv", index=False)
    few = ["--set", "width=8", "--set", "max_epochs=2"]
    data = ["rows.csv", "--target", "label"]
    code, said = run(monkeypatch, capsys, "fit", "mlp", *data, *few, "--out", "big")
    assert code == 0, said
    taught = ["fit", "mlp", *data, *few, "--set", "distill_from=big", "--out", "small"]
    code, said = run(monkeypatch, capsys, *taught)
    assert code == 0, said
    record = json.loads((tmp_path / "small" / "run.json").read_text())
    assert record["knobs"]["distill_from"] == "big"
    assert len(record["models"]["distill_from"]) == 16
    assert (
        len(stackwise.load(tmp_path / "small").predict(pd.DataFrame(X, columns=list("abc")))) == 120
    )
    code, said = run(monkeypatch, capsys, *taught[:-3], "distill_from=nothing", "--out", "x")
    assert code == 2 and "there is no model 'nothing'" in said
