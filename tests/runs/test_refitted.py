"""A run fitted again on all rows: which knobs change, and which a learner does not have."""

import pytest

from stackwise.catalog import card
from stackwise.runs import fit_run, load, refit_run
from stackwise.tasks.table.task import TableTask


@pytest.fixture(scope="module")
def task():
    return TableTask.small("regression")


@pytest.mark.parametrize(
    ("slug", "knobs"),
    [("linear", {}), ("gradient-boosting", {"max_trees": 20}), ("lightgbm", {"max_trees": 20}),
     ("hopular", {"max_epochs": 2, "batch_size": 64})],
)  # fmt: skip
def test_a_learner_without_a_floor_is_fitted_again_for_as_long_as_its_kept_state_took(
    slug, knobs, task, tmp_path
):
    assert not card(slug).entry("learner", "regression", task="table").floor
    run = fit_run(slug, task, out=tmp_path / "run", preset="quick", knobs=knobs, threads=1)
    again = refit_run(run, task, out=tmp_path / "again")
    before, after = run.record["knobs"], again.record["knobs"]
    changed = {name for name in after if name not in before or before[name] != after[name]}
    assert changed <= {"validation", "min_steps", "max_trees", "max_epochs"}
    assert ("min_steps" in after) == (slug == "hopular") and after.get("min_steps", 0) == 0
    took = load(run.folder).learned_for()
    budget = card(slug).entry("learner", "regression", task="table").budget
    assert after.get(budget) == (before.get(budget) if took is None else took)
    assert again.record["data"]["rows"]["validation"] == 0
