"""Choosing between methods: by rows that stopped nothing, and the cheaper of those that tie."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stackwise.report.verdict import of_study
from stackwise.studies import compare
from stackwise.studies.choice import chosen, standard_errors
from stackwise.tasks.labelled.ensembles.bagged import Bagged
from stackwise.tasks.table.task import TableTask

TINY = {"max_epochs": 2, "width": 8, "n_blocks": 1}


class Watching:
    """A learner that remembers which rows it learned from and which stopped it."""

    def __init__(self):
        self.notes_ = []

    def fit(self, X, y, *, validation=None):
        self.learned_ = set(X.index)
        self.stopped_ = set() if validation is None else set(validation[0].index)
        self.mean_ = float(np.mean(y))
        return self

    def predict(self, X):
        return np.full(len(X), self.mean_)


@pytest.fixture
def frame():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 2))
    return pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": x[:, 0] + generator.normal(size=300)})


def test_rows_that_stop_a_copy_are_not_those_that_judge_it(frame):
    task = TableTask.load(frame, target="y")
    folds = task.folds(5)
    rows = np.array([*task.part("train")[0].index, *task.part("validation")[0].index])
    made = Bagged(Watching()).fit(task, folds)
    for fold, copy in enumerate(made.members.values()):
        judged = set(rows[folds == fold])
        assert copy.stopped_ and not judged & (copy.stopped_ | copy.learned_)
        assert not copy.stopped_ & copy.learned_


def test_a_small_table_chooses_by_all_rows_out_of_fold_the_same_for_all_and_the_ensemble(
    frame, tmp_path
):
    study = compare(frame, target="y", out=tmp_path / "s", methods=["linear", "lightgbm"], seeds=1,
                    stack=True, threads=1, knobs={"lightgbm": {"max_trees": 5}})  # fmt: skip
    rows = {run.folder.name: list(run.predictions_on("validation")["row"]) for run in study.runs}
    assert len(rows) == 4  # LightGBM takes part twice, and the ensemble
    assert all(found == rows["linear-seed0"] for found in rows.values())
    assert len(rows["linear-seed0"]) == 240
    record = study.runs[0].record
    assert record["chosen_by"] == "cross-validation over 5 folds"
    assert record["seconds"]["choosing"] > 0
    assert not (study.folder / "runs" / "linear-seed0" / "choosing").exists()


def test_a_large_table_parts_the_rows_that_stop_from_those_that_choose(frame, tmp_path):
    many = pd.concat([frame] * 9, ignore_index=True)
    task = TableTask.load(many, target="y")
    assert task.choosing_folds is None
    stops, chooses = (set(part.part("validation")[0].index) for part in task.parted())
    assert not stops & chooses
    assert stops | chooses == set(task.part("validation")[0].index)
    study = compare(task, out=tmp_path / "s", methods=["lightgbm"], seeds=1, threads=1,
                    knobs={"lightgbm": {"max_trees": 3}})  # fmt: skip
    assert set(study.winner.predictions_on("validation")["row"]) == chooses


def test_rows_of_a_time_or_of_a_named_part_are_never_mixed_into_folds(frame):
    frame["t"] = np.random.default_rng(2).permutation(len(frame))
    by_time = TableTask.load(frame, target="y", time="t")
    assert by_time.choosing_folds is None
    stops, chooses = (part.part("validation")[0]["t"] for part in by_time.parted())
    assert stops.max() < chooses.min()
    own = TableTask.load(frame.drop(columns="t"), target="y", validation=frame.head(60))
    assert own.choosing_folds is None
    assert TableTask.load(frame, target="y").choosing_folds == 5


class Answers:
    """A finished run that answers `answer`; `seconds` is what its fit took."""

    def __init__(self, slug, y, answer, seconds):
        self.folder = Path(slug)
        self.record = {"slug": slug, "seed": 0}
        self.table = pd.DataFrame({"row": np.arange(len(y)), "target": y, "prediction": answer})
        self.row = {"method": slug, "slug": slug, "fit_seconds": seconds,
                    "predict_ms": 0.0,
                    "validation": float(np.sqrt(np.mean((answer - y) ** 2)))}  # fmt: skip

    def predictions_on(self, part):
        return self.table


def choose(frame, *runs):
    task = TableTask.load(frame, target="y")
    return chosen(pd.DataFrame([run.row for run in runs]), runs, task)


def test_the_cheaper_is_kept_where_validation_does_not_tell_it_from_the_best(frame):
    y = frame["y"].to_numpy()
    luck = np.random.default_rng(1).normal(size=(2, len(y)))
    dear = Answers("dear", y, y + luck[0], 60.0)
    cheap = Answers("cheap", y, y + 1.001 * luck[0][::-1], 2.0)  # as far off, on other rows
    worse = Answers("worse", y, y + 2 * luck[0], 1.0)
    choice = choose(frame, dear, cheap, worse)
    assert (choice.method, choice.best) == ("cheap", "dear")
    assert choice.difference <= choice.error
    apart = choose(frame, dear, worse)
    assert apart.method == "dear"


def test_methods_of_about_the_same_cost_are_chosen_by_their_score_alone(frame):
    y = frame["y"].to_numpy()
    luck = np.random.default_rng(1).normal(size=(2, len(y)))
    good = Answers("good", y, y + luck[0], 0.9)
    other = Answers("other", y, y + luck[0] + 0.05 * luck[1], 0.01)
    assert choose(frame, good, other).method == "good"


def test_the_standard_error_is_that_of_differences_of_the_same_rows(frame):
    frame["y"] = np.where(frame["a"] > 0, "yes", "no")
    task = TableTask.load(frame, target="y")
    hard = np.random.default_rng(3).uniform(0.01, 0.9, size=len(frame))  # the same for both
    true = [np.clip(1 - hard + change, 0.01, 0.99) for change in (0.0, 0.02)]
    runs = []
    for name, right in zip(("dear", "cheap"), true, strict=True):
        run = Answers(name, np.zeros(len(frame)), 0.0, 1.0)
        yes = np.where(frame["y"] == "yes", right, 1 - right)
        run.table = pd.DataFrame({"row": np.arange(len(frame)), "target": frame["y"],
                                  "probability_no": 1 - yes, "probability_yes": yes})  # fmt: skip
        runs.append(run)
    apart = np.log(true[1]) - np.log(true[0])
    found = standard_errors(runs, task, "dear", ["cheap"])["cheap"]
    assert found == pytest.approx(apart.std() / np.sqrt(len(frame)), rel=0.25)
    assert found < 0.2 * np.log(true[0]).std() / np.sqrt(len(frame))  # unpaired it is far larger


def test_a_method_little_cheaper_or_beaten_by_one_as_cheap_displaces_none(frame):
    y = frame["y"].to_numpy()
    luck = np.random.default_rng(1).normal(size=(2, len(y)))
    dear = Answers("dear", y, y + luck[0], 6.0)
    near = Answers("near", y, y + 1.001 * luck[0][::-1], 2.5)
    assert choose(frame, dear, near).method == "dear"
    near.row |= {"fit_seconds": 1.0, "predict_ms": 1500.0}
    assert choose(frame, dear, near).method == "dear"  # what it saves in fitting it costs later
    near.row["predict_ms"] = 0.0
    assert choose(frame, dear, near).method == "near"
    steady = Answers("steady", y, y + 1.0001 * luck[0], 0.5)  # surely worse, but by next to nothing
    steady.row["validation"] = (dear.row["validation"] + near.row["validation"]) / 2
    assert choose(frame, dear, near, steady).method != "near"


def of(kept, chance, of_rival=None):
    rows = [("skan", 0.027, chance), ("mlp", 0.055, of_rival), ("linear", 0.06, 0.6)]
    ranking = [
        {"method": name, "slug": name, "mean": mean, "low": mean - 0.01, "high": mean + 0.01,
         "winner_better": better, "seeds": 2}
        for name, mean, better in rows
    ]  # fmt: skip
    record = {"metric": {"name": "log_loss", "mode": "min"}, "ranking": ranking,
              "winner": {"method": kept, "slug": kept}}  # fmt: skip
    return of_study(record, {"seeds": [0, 1]})


def test_the_headline_says_in_plain_words_that_test_rows_contradict_the_choice():
    assert "The test rows contradict this choice: skan does better there" in of("mlp", 0.02)
    assert "97 %" in of("mlp", 0.03)
    unsure = of("mlp", 0.3)
    assert "contradict" not in unsure and "no sure difference" in unsure
    assert "contradict" not in of("skan", None) and "do better there" not in of("skan", None)


def test_the_headline_says_how_sure_test_rows_are_that_contradict_the_choice():
    assert of("mlp", 0.02) == (
        "mlp is the one to keep: test log_loss 0.055. The test rows contradict this choice: skan "
        "does better there (log_loss 0.027, in 98 % of draws of them and of the seeds). The "
        "validation rows, which chose, said otherwise: look at both methods on rows of your own "
        "before you decide."
    )
    assert of("mlp", 0.3) == (
        "mlp is the one to keep: test log_loss 0.055. On the test rows skan does better there "
        "(log_loss 0.027, in 70 % of draws of them and of the seeds), which is no sure difference: "
        "the choice is that of the validation rows."
    )
    assert of("mlp", None) == (
        "mlp is the one to keep: test log_loss 0.055. On the test rows skan does better there "
        "(log_loss 0.027)."
    )
    assert of("skan", None, 0.6).endswith(
        "50.9 % better than mlp (0.055), and better in 60 % of draws of the test rows and seeds. "
        "That is no sure difference: other test rows or seeds could turn the order."
    )


def test_beside_a_rival_at_nothing_the_headline_says_a_difference_and_no_share():
    rows = [("skan", 0.0621, 1.0), ("linear", 0.0, 0.9)]
    ranking = [
        {"method": name, "slug": name, "mean": mean, "low": mean, "high": mean, "seeds": 2,
         "winner_better": better}
        for name, mean, better in rows
    ]  # fmt: skip
    record = {"metric": {"name": "ap", "mode": "max"}, "ranking": ranking,
              "winner": {"method": "skan", "slug": "skan"}}  # fmt: skip
    assert "test ap 0.0621, 0.0621 better than linear (0)" in of_study(record, {"seeds": [0, 1]})


def test_the_headline_says_why_where_no_baseline_was_compared():
    rows = [("tabm", 0.03), ("masknet", 0.06)]
    ranking = [
        {"method": name, "slug": name, "mean": mean, "low": mean, "high": mean, "seeds": 2,
         "winner_better": 0.01}
        for name, mean in rows
    ]  # fmt: skip
    winner = {"method": "masknet", "slug": "masknet", "best_in_validation": "tabm",
              "difference": 0.001, "standard_error": 0.01}  # fmt: skip
    record = {
        "metric": {"name": "log_loss", "mode": "min"}, "ranking": ranking, "winner": winner
    }  # fmt: skip
    said = of_study(record, {"seeds": [0, 1]})
    assert "In validation tabm is better by 0.001, within one standard error (0.01)" in said
    assert "The test rows contradict this choice: tabm does better there" in said
