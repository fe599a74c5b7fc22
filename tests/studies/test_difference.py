from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stackwise.studies.difference import chances_better, drawn_scores, intervals
from stackwise.tasks.table.task import TableTask


class Answers:
    """A finished run that predicted what it was given."""

    folder = Path("given")

    def __init__(self, slug, seed, prediction):
        self.record = {"slug": slug, "seed": seed}
        self.predictions = pd.DataFrame({"prediction": prediction})

    def predictions_on(self, part):
        return self.predictions


@pytest.fixture(scope="module")
def task():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=400)})
    return TableTask.load(frame.assign(y=rng.normal(size=400)), target="y", test=0.5)


def better(runs, task, method):
    return chances_better(drawn_scores(runs, task), method, task.metric.mode)


def test_a_method_that_is_better_in_every_row_is_better_on_every_draw(task):
    y = task.part("test")[1]
    found = better([Answers("good", 0, y + 0.1), Answers("bad", 0, y + 0.5)], task, "good")
    assert found == {"bad": 1.0}


def test_equal_methods_tie(task):
    y = task.part("test")[1]
    runs = [Answers("one", 0, y + 0.1), Answers("other", 0, y + 0.1)]
    assert better(runs, task, "one") == {"other": 0.5}


def test_two_methods_of_like_error_are_not_told_apart(task):
    y, rng = task.part("test")[1], np.random.default_rng(1)
    runs = [Answers(name, 0, y + rng.normal(size=len(y))) for name in ("one", "other")]
    assert 0.02 < better(runs, task, "one")["other"] < 0.98


def test_a_score_that_should_be_large_turns_the_order_round():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=300), "y": ["a", "b"] * 150})
    task = TableTask.load(frame, target="y", metric="accuracy")
    y = task.part("test")[1]
    runs = [Answers("right", 0, y), Answers("wrong", 0, np.full(len(y), "a"))]
    assert better(runs, task, "right") == {"wrong": 1.0}
    assert better(runs, task, "wrong") == {"right": 0.0}


def test_an_interval_has_width_with_one_seed_and_with_seeds_that_are_alike(task):
    y, luck = task.part("test")[1], np.random.default_rng(1)
    answer = y + luck.normal(size=len(y))
    for seeds in (1, 3):
        runs = [Answers("linear", seed, answer) for seed in range(seeds)]
        low, high = intervals(drawn_scores(runs, task))["linear"]
        error = float(np.sqrt(np.mean((answer - y) ** 2)))
        assert low < error < high and 0.1 < high - low < 0.4  # se of a rmse: sigma / sqrt(2 n)


def test_an_interval_counts_the_luck_of_the_seeds_and_stays_in_the_range_of_the_metric(task):
    y, luck = task.part("test")[1], np.random.default_rng(1)
    alike = [Answers("m", seed, y + luck.normal(size=len(y))) for seed in range(3)]
    apart = [Answers("m", seed, y + size * luck.normal(size=len(y)))
             for seed, size in enumerate((0.01, 0.01, 9.0))]  # fmt: skip
    near, far = (intervals(drawn_scores(runs, task))["m"] for runs in (alike, apart))
    assert far[1] - far[0] > 5 * (near[1] - near[0])
    assert far[0] > 0


def test_scores_that_are_the_same_on_every_draw_have_no_interval(task):
    y = task.part("test")[1]
    assert intervals(drawn_scores([Answers("exact", 0, y)], task)) == {}
