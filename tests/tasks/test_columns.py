"""What a column holds is found, and said."""

import numpy as np
import pandas as pd
import pytest

from stackwise.errors import DataError
from stackwise.tasks.labelled import numerals
from stackwise.tasks.table.reading.columns import Column
from stackwise.tasks.table.reading.inference import infer_columns

ROWS = 120
RNG = np.random.default_rng(0)


def kind(content: object, name: str = "column") -> Column:
    (found,) = infer_columns(pd.DataFrame({name: content}))
    return found


def tiled(*parts: object) -> list[object]:
    return [parts[i % len(parts)] for i in range(ROWS)]


CASES = {
    "floats": (RNG.normal(size=ROWS), "number"),
    "integers": (RNG.integers(0, 50, ROWS), "number"),
    "nullable integers": (pd.array([1, 2, None, 4] * 30, dtype="Int64"), "number"),
    "thousands": (tiled("1,200", "35,000.5", "7", "1,000,000"), "number"),
    "currency": (tiled("$1,200.50", "$3", "-$4", "($5.5)"), "number"),
    "percent": (tiled("1%", "2.5 %", "3%", "99%"), "number"),
    "decimal comma": (tiled("1.234,5", "2,5", "3,0"), "number"),
    "text of numbers with gaps": (tiled("1", "n/a", "2.5", "?", "3"), "number"),
    "durations": (pd.to_timedelta(RNG.integers(0, 9, ROWS), "h"), "number"),
    "words": (tiled("red", "green", "blue"), "category"),
    "codes with zeros": (tiled("007", "012", "099"), "category"),
    "two whole numbers": (tiled(3, 7), "category"),
    "one word with gaps": (tiled("red", None), "category"),
    "pandas categories": (pd.Categorical(tiled("a", "b")), "category"),
    "pandas categories of numbers": (pd.Categorical(tiled(3, 1, 2)), "category"),
    "truth values": (tiled(True, False), "boolean"),
    "truth values with gaps": (tiled(True, False, None), "boolean"),
    "yes and no": (tiled("Yes", "no"), "boolean"),
    "zero and one": (tiled(0, 1), "boolean"),
    "time stamps": (pd.date_range("2020-01-01", periods=ROWS, freq="7h"), "date"),
    "time stamps of a zone": (pd.date_range("2020-01-01", periods=ROWS, tz="Asia/Tokyo"), "date"),
    "iso dates": (pd.date_range("2020-01-01", periods=ROWS).strftime("%Y-%m-%d"), "date"),
    "german dates": (pd.date_range("2020-01-01", periods=ROWS).strftime("%d.%m.%Y"), "date"),
    "american dates": (pd.date_range("2020-01-01", periods=ROWS).strftime("%m/%d/%Y"), "date"),
    "spoken dates": (pd.date_range("2020-01-01", periods=ROWS).strftime("%b %d, %Y"), "date"),
    "sentences": ([f"the {i} quick brown foxes" for i in range(ROWS)], "text"),
    "name tags": ([f"user_{i:04}" for i in range(ROWS)], "identifier"),
    "row numbers": (np.arange(ROWS), "identifier"),
    "nothing": ([None] * ROWS, "empty"),
    "nothing but infinities": ([np.inf] * ROWS, "empty"),
    "blanks": (tiled("", " ", "n/a"), "empty"),
    "one number": ([3.5] * ROWS, "constant"),
    "one word": (["red"] * ROWS, "constant"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_kind_of_a_column_is_found(case: str) -> None:
    content, expected = CASES[case]
    assert kind(content).kind == expected


def test_shuffled_whole_numbers_are_an_identifier_only_by_name() -> None:
    shuffled = RNG.permutation(10 * ROWS)[:ROWS]
    assert kind(shuffled, "customer_id").kind == "identifier"
    assert kind(shuffled, "PassengerId").kind == "identifier"
    assert kind(shuffled, "unnamed 0").kind == "identifier"
    assert kind(shuffled, "distance").kind == "number"
    assert kind(shuffled, "paid").kind == "number"


def test_years_that_rise_are_numbers_and_no_row_numbers() -> None:
    assert kind(np.arange(1900, 1900 + ROWS), "year").kind == "number"


def test_a_column_equal_to_an_earlier_one_is_left_out_whatever_its_type() -> None:
    number = RNG.integers(0, 50, ROWS)
    word = np.array(tiled("a", "b", "c"))
    frame = pd.DataFrame(
        {"n": number, "w": word, "n again": number.astype(float), "w again": word, "v": word[::-1]}
    )
    found = {column.name: column for column in infer_columns(frame)}
    assert [name for name, column in found.items() if column.kind == "duplicate"] == [
        "n again", "w again",
    ]  # fmt: skip
    assert found["n again"].report()["done"] == "dropped: equal to 'n'"


def test_what_was_counted_is_said() -> None:
    said = kind([1.5, np.inf, None, *RNG.normal(size=50)]).report()["done"]
    assert said == "used as a number; 1 missing; 1 infinite, treated as missing"
    said = kind(["$1,000", "$2", "unknown", *["$3", "$4.5"] * 30]).report()["done"]
    assert "without $, thousands separators" in said
    assert "1 unreadable, treated as missing" in said


def test_rare_levels_of_a_wide_category_become_one() -> None:
    content = [f"k{i % 700}" for i in range(1400)]
    column = kind(content)
    assert column.kind == "category"
    assert len(column.detail["levels"]) == 512
    assert "188 rare ones become one more" in column.report()["done"]


def test_a_column_survives_json() -> None:
    import json

    for content, _ in CASES.values():
        column = kind(content)
        assert Column.from_dict(json.loads(json.dumps(column.as_dict()))) == column


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(DataError, match="'a' appears twice"):
        infer_columns(pd.DataFrame([[1, 2]], columns=["a", "a"]))


@pytest.mark.parametrize(
    ("text", "decimal", "expected"),
    [
        ("1,234.50", ".", 1234.5), ("12", ".", 12.0), ("(3.5)", ".", -3.5), ("-4 €", ".", -4.0),
        ("$-4", ".", -4.0), ("£1,000,000", ".", 1e6), ("7 %", ".", 7.0), ("1e-3", ".", 0.001),
        ("1.234,5", ",", 1234.5), ("2,5", ",", 2.5), ("1 234,5", ",", 1234.5), ("inf", ".", np.inf),
        ("-Infinity", ".", -np.inf), (".5", ".", 0.5), ("1'000", ".", 1000.0),
        ("1,23", ".", np.nan), ("(3", ".", np.nan), ("3)", ".", np.nan), ("12 apples", ".", np.nan),
        ("", ".", np.nan), ("1-2", ".", np.nan), ("USD 5", ".", 5.0),
    ],
)  # fmt: skip
def test_numbers_are_read_as_people_write_them(text: str, decimal: str, expected: float) -> None:
    np.testing.assert_equal(numerals.number(text, decimal), expected)


def test_dates_that_could_be_read_both_ways_are_said_to_be() -> None:
    column = kind(tiled("01/02/2020", "03/04/2020", "05/06/2020"))
    assert "could be the other way round" in column.report()["done"]
    sure = kind(tiled("01/02/2020", "23/04/2020"))
    assert "other way" not in sure.report()["done"]
    assert sure.detail["format"] == "%d/%m/%Y"
