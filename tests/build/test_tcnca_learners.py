"""TCNCA's estimators: scikit-learn's contract, kept and read back, texts, language, knobs."""

import numpy as np
import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks

from stackwise.build.tcnca import (
    TCNCAClassifier,
    TCNCALanguageLearner,
    TCNCARegressor,
    TCNCATextClassifier,
)
from stackwise.build.tcnca.knobs import decays
from stackwise.errors import KnobError, ModelError
from stackwise.tasks.labels.task import LabelsTask
from stackwise.tasks.series.small import small_series
from stackwise.tasks.series.task import SeriesTask
from stackwise.tasks.text.task import TextTask

SMALL = {"width": 8, "blocks": 1, "max_epochs": 1, "threads": 1}
WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": "weights change which rows are held out",
}
QUICK = {"width": 8, "blocks": 1, "chunk": 8, "kernel_size": 3, "max_epochs": 40, "lr": 0.02,
         "batch_size": 16, "threads": 1}  # fmt: skip


@pytest.mark.slow
@parametrize_with_checks(
    [TCNCAClassifier(**QUICK), TCNCARegressor(**QUICK)], expected_failed_checks=lambda _: WEIGHTS
)
def test_estimators_pass_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("learner", "problem"), [(TCNCAClassifier, None),
                                                  (TCNCARegressor, "regression")])  # fmt: skip
def test_what_is_kept_answers_the_same_whoever_is_asked_beside(learner, problem, tmp_path):
    task = SeriesTask.small(problem)
    made = task.fit(learner(**SMALL))
    X, _ = task.part("test")
    made.save(tmp_path)
    again = learner.load(tmp_path)
    assert np.array_equal(again.predict(X), made.predict(X))
    assert np.array_equal(made.predict(X)[3:4], made.predict(X[3:4]))
    assert (
        "receptive field: " in made.notes_[0] and "multiply-adds for 24 moments" in made.notes_[0]
    )
    longer = [np.ones((2, 200)), np.ones((2, 7))]  # no length is too long
    assert made.predict(longer).shape == (2,)


def test_every_form_fits_series():
    X, y = small_series(count=12)
    for given in (
        {"operator": "ema", "averages": 2}, {"operator": "none"}, {"attention": False},
        {"form": "simple"}, {"direction": "two-way"}, {"direction": "causal", "pooling": "last"},
        {"norm": "batch"}, {"norm": "scale", "norm_first": False}, {"activation": "laplace"},
        {"activation": "relu2", "bias": "simple"}, {"reach": 9, "chunk": 4},
        {"dilation_factor": 2, "depth": 2, "convs_per_block": 2}, {"dropout": 0.2},
        {"z_dim": 6, "v_dim": 5, "ffn_dim": 7}, {"scaling": "series"},
    ):  # fmt: skip
        made = TCNCAClassifier(**SMALL, validation=0.0, **given).fit(X, y)
        assert made.predict_proba(X).shape == (12, 3)


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        ({"kernel_size": 4}, KnobError, "must be odd .* got 4"),
        ({"reach": 9, "depth": 2}, KnobError, "give it, or both of these"),
        ({"depth": 2}, KnobError, "go together"),
        ({"norm": "batch", "direction": "causal"}, ModelError, "over all moments, later ones too"),
        ({"z_dim": 5}, ModelError, "even z_dim, got 5"),
    ],
)
def test_knobs_that_contradict_each_other_are_told(given, error, sentence):
    X, y = small_series(count=12)
    with pytest.raises(error, match=sentence):
        TCNCAClassifier(**SMALL, **given).fit(X, y)


def test_chunks_that_do_not_meet_are_told():
    X, y = small_series(count=12)
    made = TCNCAClassifier(**SMALL, chunk=8, reach=3).fit(X, y)
    assert any("does not reach past the chunk of 8" in note for note in made.notes_)
    made = TCNCAClassifier(**SMALL, chunk=64, reach=3).fit(X, y)  # a chunk holds every series
    assert not any("does not reach" in note for note in made.notes_)


def test_rates_and_scales_do_not_decay():
    made = TCNCAClassifier(**SMALL, operator="ema").fit(*small_series(count=12))
    spared = {
        name.rpartition(".")[2] for name, one in made.network_.named_parameters()
        if not decays(name, one)
    }  # fmt: skip
    assert {"delta", "alpha", "beta", "gamma", "omega", "scale", "shift", "bias"} <= spared
    matrices = [one for name, one in made.network_.named_parameters() if decays(name, one)]
    assert matrices and all(one.ndim > 1 for one in matrices)


def test_texts_of_bytes_or_tokens_have_a_class(tmp_path):
    task = LabelsTask.small()
    made = task.fit(TCNCATextClassifier(**SMALL, vocabulary=257, length=64))
    texts, _ = task.part("test")
    made.save(tmp_path)
    again = TCNCATextClassifier.load(tmp_path)
    assert np.array_equal(again.predict_proba(texts), made.predict_proba(texts))
    assert made.network_.embedding.vocabulary == 257


@pytest.fixture(scope="module")
def language():
    return TextTask.small().fit(TCNCALanguageLearner(**SMALL, chunk=8))


def test_a_language_model_goes_on_with_a_text_and_is_kept(language, tmp_path):
    task = TextTask.small()
    said = language.generate(["the red box"], max_new_tokens=5)
    assert len(said) == 1 and isinstance(said[0], str)
    language.save(tmp_path)
    again = TCNCALanguageLearner.load(tmp_path)
    assert again.generate(["the red box"], max_new_tokens=5) == said
    assert task.judge(again, "test").scores == task.judge(language, "test").scores
    ids = torch.tensor([language.tokenizer_("the red box is beside")["input_ids"]])
    whole = language.model_(ids).logits
    stepped, _ = language.model_.step(ids, language.model_.start())
    assert torch.allclose(stepped, whole, atol=1e-5)


def test_a_longer_fit_learns():
    X, y = small_series(count=48)
    made = TCNCAClassifier(width=12, blocks=1, max_epochs=25, lr=0.01, threads=1).fit(X, y)
    assert (made.predict(X) == y).mean() > 0.8
