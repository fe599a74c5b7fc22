"""Scores are those of scikit-learn, and say what they cannot score."""

import warnings

import numpy as np
import pytest
from sklearn import metrics as peer

from stackwise.errors import DataError
from stackwise.learning.metrics import Metric, metric_for, score

RNG = np.random.default_rng(0)
Y = RNG.normal(size=50)
GUESS = Y + RNG.normal(size=50)


def classes(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    names = np.array(["ash", "birch", "cedar", "elm"])[:count]
    truth = names[RNG.integers(0, count, 80)]
    probability = RNG.dirichlet(np.ones(count), 80)
    return names, truth, names[probability.argmax(1)], probability


def test_regression_scores_equal_scikit_learn() -> None:
    scores = score("regression", Y, GUESS)
    assert list(scores)[:3] == ["rmse", "mae", "r2"]
    assert scores["rmse"] == pytest.approx(peer.root_mean_squared_error(Y, GUESS))
    assert scores["mae"] == pytest.approx(peer.mean_absolute_error(Y, GUESS))
    assert scores["r2"] == pytest.approx(peer.r2_score(Y, GUESS))


def test_binary_scores_equal_scikit_learn() -> None:
    names, truth, guess, probability = classes(2)
    scores = score("binary", truth, guess, probability)
    assert next(iter(scores)) == "log_loss"
    assert scores["log_loss"] == pytest.approx(peer.log_loss(truth, probability))
    assert scores["accuracy"] == pytest.approx(peer.accuracy_score(truth, guess))
    assert scores["roc_auc"] == pytest.approx(
        peer.roc_auc_score(truth == names[1], probability[:, 1])
    )
    assert scores["brier"] == pytest.approx(
        peer.brier_score_loss(truth, probability[:, 1], pos_label=names[1])
    )


def test_multiclass_scores_equal_scikit_learn() -> None:
    names, truth, guess, probability = classes(4)
    scores = score("multiclass", truth, guess, probability)
    assert scores["log_loss"] == pytest.approx(peer.log_loss(truth, probability, labels=names))
    assert scores["balanced_accuracy"] == pytest.approx(peer.balanced_accuracy_score(truth, guess))
    assert scores["roc_auc"] == pytest.approx(
        peer.roc_auc_score(truth, probability, multi_class="ovr", labels=names)
    )


def test_a_part_that_lacks_a_class_still_has_scores() -> None:
    names, _, _, probability = classes(3)
    truth = np.repeat(names[:2], 40)
    scores = score("multiclass", truth, names[probability.argmax(1)], probability, classes=names)
    assert np.isfinite(list(scores.values())).all()


def test_a_true_class_without_a_column_counts_as_wrong() -> None:
    truth = np.array(["a", "b", "new", "new"])
    probability = np.array([[0.9, 0.1]] * 4)
    scores = score("binary", truth, np.array(["a"] * 4), probability, classes=["a", "b"])
    assert scores["log_loss"] == pytest.approx(-np.log([0.9, 0.1, 1e-15, 1e-15]).mean())


@pytest.mark.parametrize("count", [2, 4])
def test_losses_of_probabilities_equal_their_formulas_where_a_class_is_missing(count: int) -> None:
    """Of 40 rows none is of the last class; one probability is 0; rows are float32."""
    probability = RNG.dirichlet(np.ones(count), 40).astype(np.float32)
    truth = np.arange(40) % max(count - 1, 1)
    probability[0] = np.roll(np.eye(count)[truth[0]], 1)
    guess = probability.argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = score("multiclass", truth, guess, probability, "brier", classes=range(count))
    share = probability / probability.sum(1, dtype=np.float64, keepdims=True)
    chosen = np.clip(share[np.arange(40), truth], 1e-15, None)
    assert scores["log_loss"] == pytest.approx(-np.log(chosen).mean(), rel=1e-12)
    squares = np.square(probability.astype(float) - np.eye(count)[truth]).sum(1).mean() / (
        2 if count == 2 else 1
    )
    assert scores["brier"] == pytest.approx(squares, rel=1e-12)
    recalls = [(guess[truth == name] == name).mean() for name in np.unique(truth)]
    assert scores["balanced_accuracy"] == pytest.approx(np.mean(recalls), rel=1e-12)


def test_a_score_that_is_not_defined_is_nan() -> None:
    assert np.isnan(score("regression", Y[:1], GUESS[:1])["r2"])
    probability = np.array([[0.4, 0.6]] * 3)
    scores = score("binary", np.ones(3, int), np.ones(3, int), probability, classes=[0, 1])
    assert np.isnan(scores["roc_auc"])


def test_the_deciding_metric_comes_first_under_any_of_its_names() -> None:
    _, truth, guess, probability = classes(2)
    assert next(iter(score("binary", truth, guess, probability, "AUC"))) == "roc_auc"
    assert metric_for("binary", "auc").mode == "max"
    assert metric_for("regression", "mean-absolute-error").name == "mae"
    assert metric_for("regression").name == "rmse"
    assert metric_for("multiclass").name == "log_loss"


def test_an_own_metric_decides() -> None:
    own = Metric("bias", "min", function=lambda y, guess: float(abs((guess - y).mean())))
    scores = score("regression", Y, GUESS, metric=own)
    assert next(iter(scores)) == "bias"
    assert scores["bias"] == pytest.approx(abs((GUESS - Y).mean()))


def test_bad_metrics_and_predictions_are_named() -> None:
    with pytest.raises(DataError, match="no metric 'rmsee' for regression.*'rmse'"):
        metric_for("regression", "rmsee")
    with pytest.raises(DataError, match="no metric 'accuracy' for regression"):
        metric_for("regression", "accuracy")
    with pytest.raises(DataError, match="own metric as Metric"):
        metric_for("regression", peer.r2_score)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="49 predictions for 50 rows"):
        score("regression", Y, GUESS[1:])
    with pytest.raises(DataError, match="not a finite number"):
        score("regression", Y, np.where(np.arange(50) == 3, np.nan, GUESS))
    with pytest.raises(DataError, match="3 columns of probabilities for 2 classes"):
        score("binary", np.array([0, 1]), np.array([0, 1]), np.ones((2, 3)) / 3)


def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 20_000)
    truth = (rng.random(20_000) > confidence).astype(int)  # class 0 as often as is said
    sure = np.stack([confidence, 1 - confidence], 1)
    calibrated = score("binary", truth, truth, sure, classes=[0, 1])["calibration_error"]
    boast = np.stack([np.full(20_000, 0.95), np.full(20_000, 0.05)], 1)
    boasting = score("binary", truth, truth, boast, classes=[0, 1])["calibration_error"]
    assert calibrated < 0.02
    assert boasting == pytest.approx(0.95 - (truth == 0).mean(), abs=1e-9)


def test_nine_of_ten_errors_are_within_the_quantile_that_is_shown():
    truth = np.zeros(11)
    found = score("regression", truth, np.arange(11.0))
    assert found["p90_absolute_error"] == pytest.approx(9.0)
    assert found["median_absolute_error"] == pytest.approx(5.0)
