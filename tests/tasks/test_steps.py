"""Few rows take more passes: presets allow a floor of steps, unless the user gives the budget."""

import pytest

from stackwise.build.skan import SKANRegressor
from stackwise.catalog import card, cards
from stackwise.learning.network import NetworkLearner
from stackwise.runs.request import chosen_knobs
from stackwise.tasks.table.baselines import MLPRegressor
from stackwise.tasks.table.task import TableTask


@pytest.fixture(scope="module")
def task():
    return TableTask.small()


def knobs(slug, preset, **given):
    of = card(slug)
    return chosen_knobs(of, of.entry("learner", "regression", task="table"), preset, given)


def test_max_epochs_grows_to_the_steps_that_are_allowed_at_least(task):
    learner = MLPRegressor(max_epochs=2, min_steps=7, patience=None, batch_size=32, threads=1)
    task.fit(learner)
    assert len(learner.history_) == 3  # 72 rows are 3 steps an epoch
    assert learner.history_[-1]["step"] == 9
    learner = MLPRegressor(max_epochs=4, min_steps=7, patience=None, batch_size=32, threads=1)
    assert len(task.fit(learner).history_) == 4


def test_patience_ends_it_as_before(task):
    learner = MLPRegressor(max_epochs=1, min_steps=10_000, patience=1, lr=0.1, threads=1)
    task.fit(learner)
    assert len(learner.history_) < 100


def test_phases_share_the_steps(task):
    learner = SKANRegressor(max_epochs=2, min_steps=20, hidden=[2], threads=1, patience=None)
    task.fit(learner)
    assert len(learner.history_) == 20  # one step an epoch: 8, 6 and 6


@pytest.mark.parametrize("preset", ["quick", "standard", "best", None])
def test_every_preset_of_a_network_on_tables_has_the_floor_unless_the_budget_is_given(preset):
    assert knobs("tabm", preset)["min_steps"] == 1500
    assert "min_steps" not in knobs("tabm", preset, max_epochs=2)
    assert knobs("tabm", preset, max_epochs=2, min_steps=9)["min_steps"] == 9


def test_the_floor_is_of_those_that_have_such_a_knob():
    for of in cards().values():
        for entry in of.entries:
            assert set(entry.floor) <= set(entry.knobs)
            if entry.kind == "learner" and "table" in entry.tasks and of.lacking is None:
                network = issubclass(entry.load(), NetworkLearner)
                by_epochs = entry.budget == "max_epochs"  # others leave it to those they fit
                assert ("min_steps" in entry.knobs) == (network and by_epochs)
