"""What MaskNet's evidence measures with: made clicks, pairs' interactions, equal sizes."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from stackwise import MaskNetClassifier
from stackwise.evidence.masknet import equal_width, pair_effects
from stackwise.evidence.product_clicks import product_clicks
from stackwise.evidence.tuned_fits import Fit, interval


class Made:
    """A classifier whose logit is a given function of the fields' numbers."""

    def __init__(self, logit) -> None:
        self.logit = logit

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        codes = np.stack([X[name].str[1:].astype(float) for name in X], 1) / 100
        chance = 1 / (1 + np.exp(-self.logit(codes)))
        return np.stack([1 - chance, chance], 1)


def test_the_true_chances_rank_made_clicks_and_single_fields_do_not():
    world = product_clicks(20_000, seed=1)
    clicked = world.frame.click == "yes"
    assert 0.75 < roc_auc_score(clicked, world.logit) < 0.85
    for field in range(8):
        rates = clicked.groupby(world.frame[f"c{field}"]).mean()
        assert rates.std() < 0.06


def test_a_sum_of_fields_has_no_pair_effects_and_a_product_has_one():
    world = product_clicks(500)
    X = world.frame.drop(columns="click")
    added = pair_effects(Made(lambda codes: codes.sum(1)), X, world)
    assert max(added.values()) < 1e-6
    one = pair_effects(Made(lambda codes: codes[:, 2] * codes[:, 5]), X, world)
    assert max(one, key=lambda pair: one[pair]) == (2, 5)
    assert sum(value > 1e-6 for value in one.values()) == 1


def test_a_net_without_masks_gets_the_least_width_with_as_many_parameters():
    world = product_clicks(300)
    X, y = world.frame.drop(columns="click"), world.frame.click
    masked = MaskNetClassifier(width=8, max_epochs=1).fit(X, y)
    width = equal_width(Fit(masked, 0.1, 0.0, {}, np.zeros(0), np.zeros(0)))

    def size(width: int) -> int:
        plain = MaskNetClassifier(width=width, mask=False, max_epochs=1).fit(X, y)
        return sum(p.numel() for p in plain.network_.parameters())

    wanted = sum(p.numel() for p in masked.network_.parameters())
    assert size(width - 1) < wanted <= size(width)


def test_the_interval_of_a_model_against_itself_is_zero():
    generator = np.random.default_rng(0)
    truth, chance = generator.integers(0, 2, 200), generator.random(200)
    one = Fit(None, 0.1, 0.0, {}, truth, chance)
    better = Fit(None, 0.1, 0.0, {}, truth, chance + truth)
    assert interval([one], [one], 20) == [0.0, 0.0]
    low, high = interval([better], [one], 50)
    assert 0 < low < high
    assert high == pytest.approx(100 * (1 - roc_auc_score(truth, chance)), abs=15)
