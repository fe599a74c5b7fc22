"""One table, from every kind of file and frame: the same columns, classes and predictions."""

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from stackwise.tasks.table.baselines import MLPClassifier, MLPRegressor
from stackwise.tasks.table.task import TableTask

ROWS = 170
RNG = np.random.default_rng(0)
LARGE = 2**60


def gaps(content: object, word: object = None) -> list[object]:
    return [word if row % 17 == 0 else cell for row, cell in enumerate(content)]  # type: ignore[arg-type]


TABLE = pd.DataFrame(
    {
        "count": RNG.integers(0, 50, ROWS),
        "amount": RNG.normal(size=ROWS).round(4),
        "amount with gaps": gaps(RNG.normal(size=ROWS).round(3), np.nan),
        "count with gaps": pd.array(gaps(RNG.integers(0, 90, ROWS).tolist()), dtype="Int64"),
        "long": -(LARGE + RNG.integers(0, 25, ROWS)),
        "long with gaps": pd.array(gaps((LARGE + RNG.integers(0, 9, ROWS)).tolist()), "Int64"),
        "longest": np.uint64(2**63) + RNG.integers(0, 30, ROWS).astype(np.uint64),
        "truth": RNG.random(ROWS) < 0.5,
        "truth with gaps": pd.array(gaps((RNG.random(ROWS) < 0.5).tolist()), "boolean"),
        "yes or no": RNG.choice(["yes", "no"], ROWS),
        "smokes": RNG.choice(["N", "F", "Y"], ROWS),
        "colour": gaps(RNG.choice(["red", "green", "None", "NA"], ROWS)),
        "code": RNG.choice(["007", "012", "100"], ROWS),
        "day": pd.date_range("2020-01-01", periods=ROWS),
        "moment": pd.date_range("2020-01-01", periods=ROWS, freq="7h", tz="Europe/Berlin"),
        "said": [f"the {row} quick foxes jump {row % 7}" for row in range(ROWS)],
        "share": [f"{v:.3f}".replace(".", ",") for v in RNG.uniform(0, 3, ROWS)],
        "price": [f"${v:,.2f}" for v in RNG.uniform(0, 9000, ROWS)],
        "door": RNG.choice([3, 7], ROWS),
        "1600000000": RNG.normal(size=ROWS).round(5),
        "nothing": [None] * ROWS,
    }
)
HIGH = TABLE["amount"] + TABLE["count"] / 25 > 1
TARGETS = {
    "words for nothing": np.where(HIGH, "None", "NA"),
    "long labels": np.where(HIGH, LARGE + 1, LARGE),
    "truth values": HIGH.to_numpy(),
    "numbers": (3 * TABLE["amount"] + TABLE["count"]).round(3).to_numpy(),
    "two fractions": np.where(HIGH, 1.5, 0.5),
}
INDEXED = ["day", "colour"]


def sources(folder: Path, frame: pd.DataFrame) -> dict[str, object]:
    """The same table in every form; in some, two columns are the index."""
    frame.to_csv(folder / "t.csv", index=False)
    frame.to_csv(folder / "t.tsv", index=False, sep="\t")
    frame.to_csv(folder / "utf16.csv", index=False, sep=";", encoding="utf-16")
    frame.to_parquet(folder / "t.parquet")
    frame.set_index(INDEXED).to_parquet(folder / "indexed.parquet")
    frame.to_feather(folder / "t.arrow")
    frame.to_json(folder / "t.jsonl", orient="records", lines=True, date_format="iso")
    found: dict[str, object] = {path.name: path for path in sorted(folder.iterdir())}
    return found | {
        "pandas": frame,
        "indexed": frame.set_index(INDEXED),
        "objects": frame.astype(object),
        "polars": pl.from_pandas(frame),
        "arrow": pa.Table.from_pandas(frame),
    }


@pytest.mark.parametrize("target", TARGETS)
def test_a_table_is_the_same_from_every_file_and_frame(target: str, tmp_path: Path) -> None:
    wide = target in ("words for nothing", "numbers")
    frame = (TABLE if wide else TABLE[["amount", "count", *INDEXED]]).assign(y=TARGETS[target])
    expected = None
    learner = None
    for name, source in sources(tmp_path, frame).items():
        task = TableTask.load(source, target="y")
        kinds = {column["column"]: column["kind"] for column in task.columns}
        classes = None if task.classes is None else task.classes.tolist()
        if learner is None:
            kind = MLPRegressor if classes is None else MLPClassifier
            learner = task.fit(kind(max_epochs=1, width=8))
            expected = kinds, classes, learner.predict(task.part("test")[0])
        predicted = learner.predict(task.part("test")[0])
        assert (kinds, classes) == expected[:2], name  # type: ignore[index]
        if classes is None:
            np.testing.assert_allclose(predicted, expected[2], rtol=1e-6, err_msg=name)  # type: ignore[index]
        else:
            assert predicted.tolist() == expected[2].tolist(), name  # type: ignore[index]


def test_what_each_column_holds_is_as_meant() -> None:
    task = TableTask.load(TABLE.assign(y=TARGETS["numbers"]), target="y")
    kinds = {column["column"]: column["kind"] for column in task.columns}
    by_kind = {kind: {n for n, k in kinds.items() if k == kind} for kind in set(kinds.values())}
    assert by_kind["category"] == {
        "long", "long with gaps", "longest", "smokes", "colour", "code", "door",
    }  # fmt: skip
    assert by_kind["boolean"] == {"truth", "truth with gaps", "yes or no"}
    assert by_kind["date"] == {"day", "moment"}
    assert by_kind["text"] == {"said"}
    assert by_kind["empty"] == {"nothing"}


def test_a_declared_category_of_numbers_keeps_labels_and_kind(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": RNG.normal(size=60), "grade": pd.Categorical([1, 2, 3] * 20)})
    frame["y"] = pd.Categorical(np.where(frame.x > 0, 2, 1))
    frame.to_parquet(tmp_path / "t.parquet")
    for source in (frame, tmp_path / "t.parquet"):
        task = TableTask.load(source, target="y")
        assert task.classes is not None and task.classes.tolist() == [1, 2]
        assert {c["column"]: c["kind"] for c in task.columns}["grade"] == "category"
