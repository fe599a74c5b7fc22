"""Scores of moments, events and ranges; thresholds."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.metrics import f1_score as sklearn_f1

from stackwise.tasks.anomalies import metrics
from stackwise.tasks.anomalies.detectors.thresholds import pot, threshold_of

RNG = np.random.default_rng(0)
LABELS = np.repeat(RNG.random(60) < 0.3, 5)
SCORES = RNG.normal(size=300) + LABELS
FLAGS = SCORES > 1


def bits(text: str) -> np.ndarray:
    return np.array([one == "1" for one in text])


def test_moments_are_scored_as_scikit_learn_does():
    assert metrics.average_precision(LABELS, SCORES) == pytest.approx(
        average_precision_score(LABELS, SCORES)
    )
    assert metrics.f1_score(LABELS, FLAGS) == pytest.approx(sklearn_f1(LABELS, FLAGS))
    best = max(sklearn_f1(LABELS, c <= SCORES) for c in SCORES)
    assert metrics.best_f1(LABELS, SCORES) == pytest.approx(best)
    assert metrics.best_f1(LABELS, np.ones(300)) == pytest.approx(sklearn_f1(LABELS, LABELS >= 0))


def test_a_moment_without_a_score_comes_last():
    scores = SCORES.copy()
    scores[:50] = np.nan
    least = np.where(np.isnan(scores), np.nanmin(scores), scores)
    assert metrics.average_precision(LABELS, scores) == metrics.average_precision(LABELS, least)


def test_events_and_ranges():
    labels, flags = bits("0011110000110"), bits("0001100010000")
    assert metrics.event_f1(labels, flags) == pytest.approx(0.5)  # 1 of 2 found, 1 of 2 right
    # covered: 2/4 and 0; right: 1 and 0
    assert metrics.range_f1(labels, flags) == pytest.approx(2 * 0.25 * 0.5 / 0.75)
    split = bits("0010110000110")
    assert metrics.range_f1(labels, split) < metrics.range_f1(labels, labels) == 1.0


def test_point_adjust_lowers_no_recall_and_leaves_other_moments_alone():
    made = metrics.point_adjust(FLAGS, LABELS)
    assert (made[FLAGS]).all()
    np.testing.assert_array_equal(made[~LABELS], FLAGS[~LABELS])
    np.testing.assert_array_equal(metrics.point_adjust(made, LABELS), made)
    for start, stop in metrics.runs_of(LABELS):
        assert made[start:stop].all() == FLAGS[start:stop].any()


def test_an_adjusted_score_stands_beside_a_random_one():
    scores = metrics.scores_of(LABELS, SCORES, FLAGS)
    assert next(iter(scores)) == "average_precision"
    assert scores["adjusted_f1_of_random"] > 1.5 * metrics.f1_score(
        LABELS, RNG.permutation(FLAGS)
    )  # fmt: skip
    nothing = metrics.scores_of(np.zeros(5, bool), np.arange(5.0), np.zeros(5, bool))
    assert np.isnan(nothing["average_precision"]) and len(nothing) == 1


@pytest.mark.parametrize("seed", range(5))
def test_peaks_over_threshold_find_the_quantile_of_exponential_noise(seed):
    scores = np.random.default_rng(seed).exponential(size=20_000)
    assert pot(scores, level=0.02, risk=1e-3) == pytest.approx(-np.log(1e-3), rel=0.1)


def test_thresholds():
    scores = np.arange(1000.0)
    assert threshold_of(scores, "quantile", level=0.02, risk=0.01) == pytest.approx(989.01)
    assert threshold_of(scores, 7, level=0.02, risk=0.01) == 7.0
    few = np.arange(20.0)
    assert pot(few) == pytest.approx(np.quantile(few, 0.999))
    assert np.isfinite(pot(np.ones(1000)))
