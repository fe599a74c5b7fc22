import numpy as np
import pandas as pd
import pytest

from stackwise.studies.difference import chances_better
from stackwise.tasks.table.task import TableTask


class Answers:
    """A finished run that predicted what it was given."""

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


def test_a_method_that_is_better_in_every_row_is_better_on_every_draw(task):
    y = task.part("test")[1]
    found = chances_better([Answers("good", 0, y + 0.1), Answers("bad", 0, y + 0.5)], task, "good")
    assert found == {"bad": 1.0}


def test_equal_methods_tie(task):
    y = task.part("test")[1]
    runs = [Answers("one", 0, y + 0.1), Answers("other", 0, y + 0.1)]
    assert chances_better(runs, task, "one") == {"other": 0.5}


def test_two_methods_of_like_error_are_not_told_apart(task):
    y, rng = task.part("test")[1], np.random.default_rng(1)
    runs = [Answers(name, 0, y + rng.normal(size=len(y))) for name in ("one", "other")]
    assert 0.02 < chances_better(runs, task, "one")["other"] < 0.98


def test_a_score_that_should_be_large_turns_the_order_round():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=300), "y": ["a", "b"] * 150})
    task = TableTask.load(frame, target="y", metric="accuracy")
    y = task.part("test")[1]
    runs = [Answers("right", 0, y), Answers("wrong", 0, np.full(len(y), "a"))]
    assert chances_better(runs, task, "right") == {"wrong": 1.0}
    assert chances_better(runs, task, "wrong") == {"right": 0.0}
