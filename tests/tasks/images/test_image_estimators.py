"""Estimators on pictures keep scikit-learn's contract."""

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from stackwise.errors import DataError
from stackwise.tasks.images.baselines.linear import LinearPixelsClassifier
from stackwise.tasks.images.baselines.residual_cnn import ResidualCNNClassifier
from stackwise.tasks.images.baselines.row_lstm import RowLSTMClassifier
from stackwise.tasks.images.small import small_pictures

WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": "weights change which rows are held out",
}
QUICK = {"max_epochs": 30, "batch_size": 32, "threads": 1}


@parametrize_with_checks(
    [
        ResidualCNNClassifier(width=4, lr=0.01, **QUICK),
        RowLSTMClassifier(width=16, lr=0.02, augment="none", **QUICK),
        LinearPixelsClassifier(penalty=0.01),
    ],
    expected_failed_checks=lambda _: WEIGHTS,
)
def test_estimators_pass_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def fitted(**knobs) -> ResidualCNNClassifier:
    X, y = small_pictures(30)
    return ResidualCNNClassifier(width=4, **QUICK | {"max_epochs": 1}, **knobs).fit(X, y)


def test_pictures_come_in_every_order_of_axes():
    X, y = small_pictures(30)
    found = [
        ResidualCNNClassifier(width=4, **QUICK | {"max_epochs": 1}).fit(of, y).predict_proba(of)
        for of in (X, X[..., None], X[:, None])
    ]
    assert all(np.array_equal(found[0], other) for other in found)


def test_pictures_of_another_size_are_refused():
    with pytest.raises(DataError, match="pictures of 9 x 12 with 1 channel.*fitted on.*12 x 12"):
        fitted().predict(small_pictures(2)[0][:, :9])


def test_floats_are_refused_where_bytes_were_learned():
    with pytest.raises(DataError, match="X holds floats and training held bytes"):
        fitted().predict(small_pictures(2)[0] / 255)


def test_rows_of_numbers_take_the_shape_that_is_said():
    X, y = small_pictures(30)
    flat = ResidualCNNClassifier(width=4, image_shape=(12, 12), **QUICK | {"max_epochs": 1})
    flat.fit(X.reshape(30, -1), y)
    assert flat.image_shape_ == (1, 12, 12)
    with pytest.raises(DataError, match="has 143 pixels, X has 144"):
        ResidualCNNClassifier(image_shape=(11, 13)).fit(X.reshape(30, -1), y)


def test_small_pictures_are_enlarged_and_it_is_said():
    X, y = small_pictures(30)
    made = ResidualCNNClassifier(width=4, **QUICK | {"max_epochs": 1}).fit(X[:, 3:5], y)
    assert made.network_size_ == (4, 12)
    assert any("enlarged to 4 x 12" in note for note in made.notes_)


def test_a_picture_that_is_left_over_goes_with_the_others():
    X, y = small_pictures(33)
    made = ResidualCNNClassifier(width=4, validation=0, **QUICK | {"max_epochs": 1})
    assert len(made.fit(X[:, :4, :4], y).history_) == 1  # its last map has one place: no deviation


def test_predictions_of_a_picture_do_not_depend_on_the_others():
    X, _ = small_pictures(70)
    made = fitted()
    assert np.array_equal(made.predict_proba(X)[11:12], made.predict_proba(X[11:12]))
