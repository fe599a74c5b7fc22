"""A table becomes a task, or one sentence says why not."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

from stackwise.errors import DataError
from stackwise.learning.metrics import Metric
from stackwise.tasks.table.reading.target_column import read_target
from stackwise.tasks.table.task import TableTask

ROWS = 60
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "x": RNG.normal(size=ROWS),
        "colour": RNG.choice(["red", "blue"], ROWS),
        "shop": RNG.integers(0, 9, ROWS),
        "day": pd.date_range("2024-01-01", periods=ROWS),
        "price": RNG.normal(size=ROWS),
    }
)
DIABETES = load_diabetes(as_frame=True).frame
IRIS = load_iris(as_frame=True).frame
CANCER = load_breast_cancer(as_frame=True).frame


@pytest.mark.parametrize(
    ("frame", "problem", "metric"),
    [(DIABETES, "regression", "rmse"), (IRIS, "multiclass", "log_loss"),
     (CANCER, "binary", "log_loss")],
)  # fmt: skip
def test_real_tables_are_understood(frame: pd.DataFrame, problem: str, metric: str) -> None:
    task = TableTask.load(frame, target="target")
    assert task.problem == problem
    assert task.metric.name == metric
    rows = [len(task.part(part)[1]) for part in ("train", "validation", "test")]  # type: ignore[arg-type]
    assert sum(rows) == len(frame)
    assert rows[1] == pytest.approx(0.2 * len(frame), abs=2)
    assert rows[2] == pytest.approx(0.2 * len(frame), abs=2)
    X, y = task.part("train")
    assert "target" not in X.columns
    assert len(X) == len(y)
    np.testing.assert_array_equal(frame["target"].loc[X.index], y)


@pytest.mark.parametrize(
    ("content", "problem", "kind"),
    [
        (RNG.normal(size=ROWS), "regression", "f"),
        ([f"${v:,.2f}" for v in RNG.uniform(1, 9999, ROWS)], "regression", "f"),
        (np.arange(ROWS), "regression", "f"),
        (np.arange(ROWS) % 3, "multiclass", "i"),
        ((np.arange(ROWS) % 3).astype(float), "multiclass", "i"),
        (np.arange(ROWS) % 2, "binary", "i"),
        ([True, False] * (ROWS // 2), "binary", "b"),
        (["yes", "no"] * (ROWS // 2), "binary", "U"),
        (pd.Categorical(["a", "b", "c"] * (ROWS // 3)), "multiclass", "U"),
        ([*["True", "False"] * (ROWS // 2 - 1), None, "True"], "binary", "U"),
        ([*[True, False] * (ROWS // 2 - 1), None, True], "binary", "b"),
    ],
)
def test_the_problem_is_read_off_the_target(content: object, problem: str, kind: str) -> None:
    read = read_target(pd.Series(content))
    assert read.problem == problem
    assert read.y.dtype.kind == kind


def test_the_problem_may_be_said() -> None:
    grade = pd.Series(np.arange(ROWS) % 3)
    assert read_target(grade, "regression").problem == "regression"
    assert read_target(grade, "classification").problem == "multiclass"
    with pytest.raises(DataError, match="3 classes; binary means two"):
        read_target(grade, "binary")
    with pytest.raises(DataError, match="no problem 'regresion'.*'regression'"):
        read_target(grade, "regresion")


def test_rows_without_a_target_are_left_out_counted_and_keep_their_numbers() -> None:
    task = TableTask.load(FRAME.assign(price=FRAME.price.where(FRAME.index >= 7)), target="price")
    assert task.notes[0] == "7 rows have no target 'price' and were left out"
    used = [row for part in ("train", "validation", "test") for row in task.part(part)[0].index]  # type: ignore[arg-type]
    assert sorted(used) == list(range(7, ROWS))


BAD_TARGETS = {
    "missing everywhere": ([None] * ROWS, "missing in every row"),
    "all nan": ([np.nan] * ROWS, "missing in every row"),
    "infinite": ([np.inf, *range(ROWS - 1)], "infinite in 1 rows"),
    "infinite as text": (["-inf", *map(str, range(ROWS - 1))], "infinite in 1 rows"),
    "constant": ([2.5] * ROWS, "always 2.5|one class"),
    "one class": (["yes"] * ROWS, "one class, yes"),
    "few": ([1.0, 2.0, 3.0, *[None] * (ROWS - 3)], "leaves 3 usable rows; learning takes at least"),
    "one row": ([1.0, *[None] * (ROWS - 1)], "leaves 1 usable row;"),
    "names": ([f"n{i}" for i in range(ROWS)], "too many to be classes"),
    "dates": (FRAME.day, "holds dates"),
}


@pytest.mark.parametrize("case", BAD_TARGETS)
def test_a_target_that_teaches_nothing_is_refused(case: str) -> None:
    content, says = BAD_TARGETS[case]
    with pytest.raises(DataError, match=says):
        TableTask.load(FRAME.assign(price=content), target="price")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target": "Price"}, "no column 'Price'.*'price'"),
        ({}, r"say which column to predict \(--target\); there is x, colour"),
        ({"drop": ["colr"]}, "no column 'colr'.*'colour'"),
        ({"drop": ["price"]}, "'price' is the target"),
        ({"group": "shop", "time": "day"}, "by one column: give one of --group and --time"),
        ({"drop": ["x", "colour", "shop", "day"]}, "no column is left to learn 'price' from"),
        ({"test": 0}, "--test 0 is no share"),
        ({"validation": 1.0}, "--validation 1.0 is no share"),
        ({"max_rows": 3}, "--max-rows 3 is too few"),
        ({"metric": "accuracy"}, "no metric 'accuracy' for regression"),
        ({"problem": "binary"}, "too many to be classes"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], says: str) -> None:
    target = {} if not options else {"target": "price"}
    with pytest.raises(DataError, match=says):
        TableTask.load(FRAME, **target | options)  # type: ignore[arg-type]


def test_a_table_of_dropped_columns_says_why() -> None:
    frame = pd.DataFrame({"id": range(ROWS), "same": 1, "none": None, "price": FRAME.price})
    with pytest.raises(DataError, match="no column is left.*'same' always 1"):
        TableTask.load(frame, target="price")


def test_dropped_group_and_split_columns_are_no_features_and_are_listed() -> None:
    task = TableTask.load(FRAME, target="price", drop=["day"], group="shop")
    X, _ = task.part("test")
    assert list(X.columns) == ["x", "colour"]
    done = {item["column"]: item["done"] for item in task.columns}
    assert done["price"] == "regression"
    assert done["day"] == "dropped: as asked"
    assert done["shop"] == "dropped: groups the rows"


def test_splitting_by_time_keeps_the_latest_for_the_test() -> None:
    task = TableTask.load(FRAME, target="price", time="day")
    assert task.part("test")[0].index.tolist() == list(range(48, 60))
    assert task.part("train")[0].index.tolist() == list(range(36))


def test_validation_and_test_may_be_files(tmp_path: Path) -> None:
    FRAME.iloc[:20].to_csv(tmp_path / "v.csv", index=False)
    FRAME.iloc[20:30].to_parquet(tmp_path / "t.parquet")
    task = TableTask.load(
        FRAME.iloc[30:], target="price", validation=str(tmp_path / "v.csv"),
        test=tmp_path / "t.parquet",
    )  # fmt: skip
    assert task.describe()["rows"] == {"train": 30, "validation": 20, "test": 10}
    np.testing.assert_allclose(task.part("test")[1], FRAME.price[20:30])
    FRAME.drop(columns="x").to_csv(tmp_path / "v.csv", index=False)
    with pytest.raises(DataError, match="validation table lacks the column 'x'"):
        TableTask.load(FRAME, target="price", validation=str(tmp_path / "v.csv"))


def test_test_rows_change_nothing_but_the_test_part() -> None:
    one = TableTask.load(FRAME, target="price", time="day")
    wild = FRAME.copy()
    wild.loc[48:, ["x", "colour"]] = [[np.inf, "purple"]] * 12
    two = TableTask.load(wild, target="price", time="day")
    assert one.columns == two.columns
    assert one.notes == two.notes
    pd.testing.assert_frame_equal(one.part("train")[0], two.part("train")[0])


def test_max_rows_thins_training_alone() -> None:
    task = TableTask.load(FRAME, target="price", max_rows=12)
    assert task.describe()["rows"] == {"train": 12, "validation": 12, "test": 12}
    assert any("training uses 12 of its 36 rows" in note for note in task.notes)


def test_heavy_imbalance_is_said_and_a_lone_row_is_trained_on() -> None:
    label = np.array(["common"] * 56 + ["odd"] * 3 + ["lone"])
    task = TableTask.load(FRAME.assign(label=label), target="label")
    assert any("fewer than 3 rows" in note and "lone" in note for note in task.notes)
    assert "lone" in task.part("train")[1]
    frame = pd.DataFrame({"x": RNG.normal(size=1000), "y": [0] * 990 + [1] * 10})
    task = TableTask.load(frame, target="y")
    assert any("10 of 1,000 rows" in note for note in task.notes)
    assert [int(task.part(part)[1].sum()) for part in ("train", "validation", "test")] == [6, 2, 2]  # type: ignore[arg-type]


def test_the_data_hash_tells_rows_split_and_options_apart() -> None:
    base = TableTask.load(FRAME, target="price").data_hash
    assert TableTask.load(FRAME.copy(), target="price").data_hash == base
    changed = FRAME.copy()
    changed.loc[5, "x"] += 1e-9
    assert TableTask.load(changed, target="price").data_hash != base
    assert TableTask.load(FRAME.iloc[::-1], target="price").data_hash != base
    assert TableTask.load(FRAME, target="price", split_seed=1).data_hash != base
    assert TableTask.load(FRAME, target="price", metric="mae").data_hash != base


def test_the_description_is_json_and_its_options_load_the_same_task(tmp_path: Path) -> None:
    import json

    FRAME.to_csv(tmp_path / "shop.csv", index=False)
    task = TableTask.load(str(tmp_path / "shop.csv"), target="price", group="shop", drop=["day"])
    described = json.loads(json.dumps(task.describe()))
    assert described["name"] == "shop"
    assert described["options"] == {"group": "shop", "drop": ["day"]}
    again = TableTask.load(str(tmp_path / "shop.csv"), target="price", **described["options"])
    assert again.data_hash == task.data_hash


def test_an_own_metric_decides() -> None:
    own = Metric("worst", "min", function=lambda y, guess: float(abs(y - guess).max()))
    task = TableTask.load(FRAME, target="price", metric=own)
    _, y = task.part("test")
    assert task.metrics[:4] == ("worst", "rmse", "mae", "r2")
    assert task.score(y, np.zeros_like(y))["worst"] == abs(y).max()


def test_batches_hold_the_part_and_the_loss_is_the_mean_over_members() -> None:
    task = TableTask.load(IRIS, target="target")
    batches = list(task.batches("validation", batch_size=8).epoch(0))
    assert [len(batch["target"]) for batch in batches] == [8, 8, 8, 6]
    together = torch.cat([batch["target"] for batch in batches])
    np.testing.assert_array_equal(together.sort().values, np.sort(task.part("validation")[1]))
    members = torch.randn(8, 5, 3)

    class Fixed(torch.nn.Module):
        def forward(self, numeric: torch.Tensor, categorical: torch.Tensor) -> torch.Tensor:
            return members

    cross_entropy = torch.nn.functional.cross_entropy
    target = batches[0]["target"]
    expected = torch.stack([cross_entropy(members[:, i], target) for i in range(5)]).mean()
    torch.testing.assert_close(task.loss(Fixed(), batches[0]), expected)


def test_a_class_of_the_test_file_that_training_lacks_is_said_and_scored_as_wrong() -> None:
    train = FRAME.assign(label=["a", "b"] * (ROWS // 2))
    test = FRAME.assign(label=["a", "b", "c"] * (ROWS // 3))
    task = TableTask.load(train, target="label", test=test)
    assert any("test part has classes without training rows: c" in note for note in task.notes)
    _, y = task.part("test")
    half = np.full((len(y), 2), 0.5)
    assert task.score(y, np.array(["a"] * len(y)), half)["accuracy"] == pytest.approx(1 / 3)


def _counted(rows: int = 200) -> pd.DataFrame:
    """A target that follows the row's number, which looks like an identifier."""
    generator = np.random.default_rng(1)
    step = np.arange(rows)
    return pd.DataFrame(
        {
            "step": step,
            "x": generator.normal(size=rows),
            "price": 0.1 * step + generator.random(rows),
        }
    )


def test_a_column_that_counts_the_rows_is_kept_where_it_is_named() -> None:
    by_itself = TableTask.load(_counted(), target="price", split_seed=0)
    kept = TableTask.load(_counted(), target="price", keep="step", split_seed=0)
    kinds = [{c["column"]: c["kind"] for c in task.columns}["step"] for task in (by_itself, kept)]
    assert kinds == ["identifier", "number"]
    assert kept.describe()["options"] == {"keep": ["step"]}
    assert "keep" not in by_itself.describe()["options"]
    assert kept.data_hash != by_itself.data_hash
    assert kept.contract.input_names == ["step", "x"]


def test_a_text_of_its_own_in_each_row_is_kept_where_it_is_named() -> None:
    frame = FRAME.assign(code=[f"c{i}" for i in range(ROWS)])
    task = TableTask.load(frame, target="price", keep=["code"])
    assert {c["column"]: c["kind"] for c in task.columns}["code"] == "category"


@pytest.mark.parametrize("slug", ["mlp", "gradient-boosting", "linear"])
def test_a_kept_column_is_learned_from_saved_and_read_again(slug: str, tmp_path: Path) -> None:
    from stackwise import load, runs

    task = TableTask.load(_counted(), target="price", keep=["step"])
    budget = {"mlp": {"max_epochs": 60}, "gradient-boosting": {"max_trees": 60}, "linear": {}}
    run = runs.fit_run(slug, task, out=tmp_path / "run", knobs=budget[slug])
    assert run.record["scores"]["test"]["r2"] > 0.8  # without the column there is nothing to learn
    learner = load(tmp_path / "run")
    assert learner.contract_.input_names == ["step", "x"]
    again = TableTask.load(_counted(), target="price", **run.record["data"]["options"])
    assert again.data_hash == task.data_hash
    np.testing.assert_array_equal(
        learner.predict(again.part("test")[0]), run.predictions["prediction"]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": ["stp"]}, "no column 'stp'.*'step'"),
        ({"keep": ["step"], "drop": ["step"]}, "'step' cannot be kept"),
        ({"keep": ["price"]}, "'price' cannot be kept"),
    ],
)
def test_a_column_that_cannot_be_kept_is_named(options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TableTask.load(_counted(), target="price", **options)


def test_a_pretrained_model_is_refused_as_reader_of_rows():
    from types import SimpleNamespace

    model = SimpleNamespace(config=SimpleNamespace(model_type="llama"))
    with pytest.raises(DataError, match="not rows of a table"):
        TableTask.small().batches("train", model=model)
