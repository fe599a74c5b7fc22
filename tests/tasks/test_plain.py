"""Each column has the form of its content; numbers and labels are read as they were meant."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stackwise.errors import DataError
from stackwise.tasks.table.reading.further import read_as
from stackwise.tasks.table.reading.plain import plain
from stackwise.tasks.table.reading.target_column import read_target
from stackwise.tasks.table.source import read_table
from stackwise.tasks.table.task import TableTask

RNG = np.random.default_rng(0)
ROWS = 200
X = pd.DataFrame({"a": RNG.normal(size=ROWS).round(4), "c": RNG.choice(list("xyz"), ROWS)})


@pytest.mark.parametrize(
    ("texts", "dtype", "first"),
    [
        (["12", "7"], "int64", 12), (["12", None], "float64", 12.0),
        (["1.5", "NA"], "float64", 1.5),
        ([str(2**63), "1"], "uint64", 2**63), ([str(2**60 + 1), None], "Int64", 2**60 + 1),
        ([str(-(2**60) - 1), "-"], "Int64", -(2**60) - 1), ([str(2**64), "1"], "str", str(2**64)),
        (["007", "12"], "str", "007"), (["True", "False"], "bool", True),
        (["0x10", "1"], "str", "0x10"), (["1_000", "2"], "str", "1_000"),
        ([" 7 ", "8"], "int64", 7),
    ],
)  # fmt: skip
def test_texts_become_what_a_program_wrote(texts: list[str], dtype: str, first: object) -> None:
    found, _ = plain(pd.Series(texts, dtype="str"))
    assert str(found.dtype) == dtype
    assert found[0] == first


def test_words_for_nothing_among_numbers_are_missing_counted_and_said(tmp_path: Path) -> None:
    X.assign(n=np.where(np.arange(ROWS) % 5, np.arange(ROWS) % 37, "NA").astype(object),
             y=X.a).to_csv(tmp_path / "t.csv", index=False)  # fmt: skip
    task = TableTask.load(tmp_path / "t.csv", target="y")
    assert task.part("train")[0]["n"].dtype == np.float64
    assert "taken as missing: 'NA' in 'n'" in task.notes


@pytest.mark.parametrize("word", ["None", "NA", "null", "-", "n/a"])
def test_a_class_named_like_nothing_stays_a_class(word: str, tmp_path: Path) -> None:
    frame = X.assign(y=np.where(X.a > 0, word, "some"))
    frame.to_csv(tmp_path / "t.csv", index=False)
    for source in (frame, tmp_path / "t.csv"):
        task = TableTask.load(source, target="y")
        assert task.classes is not None and set(task.classes) == {word, "some"}
        assert any(f"{word!r} is a class" in note for note in task.notes)


def decimals(folder: Path, texts: list[str], sep: str = ";", **others: object) -> pd.DataFrame:
    X.assign(y=texts, **others).to_csv(folder / "t.csv", sep=sep, index=False)
    return read_table(folder / "t.csv")


def test_a_comma_after_zero_begins_a_fraction(tmp_path: Path) -> None:
    texts = [f"{v:.3f}".replace(".", ",") for v in RNG.uniform(0, 1, ROWS)]
    decimals(tmp_path, texts)
    assert TableTask.load(tmp_path / "t.csv", target="y").part("train")[1].max() < 1


def test_what_a_column_leaves_open_the_table_decides_and_it_is_said(tmp_path: Path) -> None:
    texts = [f"{v:.3f}".replace(".", ",") for v in RNG.uniform(1, 9, ROWS)]
    sure = [f"{v:.1f}".replace(".", ",") for v in RNG.uniform(1, 9, ROWS)]
    for others, sep, largest in (({"z": sure}, ",", 9), ({}, ";", 9), ({}, ",", 9000)):
        decimals(tmp_path, texts, sep, **others)
        task = TableTask.load(tmp_path / "t.csv", target="y")
        assert largest / 2 < task.part("train")[1].max() < largest
        assert any("leaves open" in note for note in task.notes) == (largest == 9)


def test_points_part_thousands_where_the_table_has_decimal_commas(tmp_path: Path) -> None:
    frame = pd.DataFrame({"p": ["1.234", "12.500", "2.000"] * 20, "q": ["1,5", "0,25", "7,1"] * 20})
    frame["y"] = np.arange(60) % 9
    frame.to_csv(tmp_path / "t.csv", sep=";", index=False)
    task = TableTask.load(tmp_path / "t.csv", target="y", problem="regression")
    (column,) = [column for column in task._found if column.name == "p"]
    assert (column.kind, column.detail["decimal"]) == ("number", ",")


def test_a_second_file_is_read_by_the_format_of_the_first(tmp_path: Path) -> None:
    values = RNG.uniform(1, 9, ROWS).round(3)
    texts = [f"{v:g}".replace(".", ",") for v in values]
    decimals(tmp_path, texts, z=texts[::-1], day="13/02/2020")
    later = [f"{v:.3f}".replace(".", ",") for v in values]
    (tmp_path / "t.csv").rename(tmp_path / "train.csv")
    decimals(tmp_path, later, z=later[::-1], day="03/02/2020")
    task = TableTask.load(tmp_path / "train.csv", target="y", test=str(tmp_path / "t.csv"))
    assert task.part("test")[1].max() < 9
    name = task.contract.numeric_names.index("z")
    spread = [task.contract.transform(task.part(part)[0]).numeric[:, name].std()
              for part in ("train", "test")]  # fmt: skip
    assert spread[1] == pytest.approx(spread[0], rel=0.2)


MATCHED = {
    "truth as letters": ([True, False], ["T", "F"], [True, False]),
    "truth as numbers": ([True, False], [1, 0], [True, False]),
    "numbers as text": ([1, 2], ["1", "2.0"], [1, 2]),
    "numbers as floats": ([1, 2], [1.0, 2.0], [1, 2]),
    "text as numbers": (["1", "2", "x"], [1, 2, 1], ["1", "2", "1"]),
    "yes as truth": (["yes", "no"], [True, False], ["yes", "no"]),
    "long": ([2**60 + 1, 2**60], [str(2**60 + 1), str(2**60)], [2**60 + 1, 2**60]),
    "a longer label": (["1", "2"], ["10", "1"], ["10", "1"]),
    "a third letter": (["N", "Y"], ["F", "Y"], ["F", "Y"]),
}


@pytest.mark.parametrize("case", MATCHED)
def test_labels_of_a_second_file_are_matched_by_value(case: str) -> None:
    first, second, expected = MATCHED[case]
    like = read_target(pd.Series(first * 20, name="y"), "classification")
    if case == "a longer label":
        like.y = np.array(first * 20)
    read = read_as(pd.Series(second, name="y"), like)
    assert read.y.tolist() == expected


@pytest.mark.parametrize(
    ("first", "second"),
    [([True, False], ["T", "maybe"]), ([1, 2], ["1", "two"]), (["a", "b"], ["c", "d"])],
)
def test_a_label_that_cannot_be_a_class_is_refused(first: list, second: list) -> None:
    like = read_target(pd.Series(first * 20, name="y"), "classification")
    with pytest.raises(DataError, match="'y' is '.*no class of the first table"):
        read_as(pd.Series(second, name="y"), like)


def test_two_fractions_are_numbers_and_as_classes_known_by_their_spelling() -> None:
    content = pd.Series([0.5, 1.5] * 30, name="y")
    assert read_target(content).problem == "regression"
    asked = read_target(content, "classification")
    assert (asked.problem, sorted(set(asked.y))) == ("binary", ["0.5", "1.5"])


@pytest.mark.parametrize("cell", [[1, 2], {"a": 1}])
def test_a_target_of_several_values_in_a_cell_is_refused(cell: object) -> None:
    with pytest.raises(DataError, match="several values in a cell"):
        read_target(pd.Series([cell] * 30, name="y"))


def test_labels_and_names_beyond_64_bits_stay_apart(tmp_path: Path) -> None:
    X.assign(
        y=[str(2**70 + row % 2) for row in range(ROWS)],
        z=[str(2**80 + row % 3) for row in range(ROWS)],
    ).to_csv(tmp_path / "t.csv", index=False)
    task = TableTask.load(tmp_path / "t.csv", target="y")
    assert task.classes is not None and task.classes.tolist() == [str(2**70), str(2**70 + 1)]
    assert {c["column"]: c["done"] for c in task.columns}["z"] == "3 categories"
