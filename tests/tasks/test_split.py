"""Parts share no row, and keep what the way of splitting promises."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackwise.errors import DataError
from stackwise.tasks.labelled.split import Parts, split_parts, thin

ROWS = 500
RNG = np.random.default_rng(0)
Y = RNG.normal(size=ROWS)
FRAME = pd.DataFrame(
    {
        "shop": RNG.integers(0, 40, ROWS),
        "day": RNG.permutation(pd.date_range("2020-01-01", periods=100).repeat(5)),
    }
)


def whole(parts: Parts, rows: int) -> None:
    together = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(together.tolist()) == list(range(rows))
    for part in (parts.train, parts.validation, parts.test):
        assert (np.diff(part) > 0).all()


@pytest.mark.parametrize("how", ["random", "stratified", "group", "time"])
def test_every_row_is_in_one_part_and_the_shares_are_those_asked(how: str) -> None:
    y = RNG.integers(0, 3, ROWS) if how == "stratified" else Y
    column = {"group": "shop", "time": "day"}.get(how)
    parts = split_parts(FRAME, y, how=how, column=column, test=0.3, validation=0.1)  # type: ignore[arg-type]
    whole(parts, ROWS)
    assert len(parts.test) == pytest.approx(0.3 * ROWS, abs=15)
    assert len(parts.validation) == pytest.approx(0.1 * ROWS, abs=15)


def test_a_seed_fixes_the_split_and_another_changes_it() -> None:
    one, again, other = (split_parts(FRAME, Y, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.test, again.test)
    assert not np.array_equal(one.test, other.test)


def test_no_group_is_in_two_parts() -> None:
    parts = split_parts(FRAME, Y, how="group", column="shop")
    found = [set(FRAME.shop[part]) for part in (parts.train, parts.validation, parts.test)]
    assert not (found[0] & found[1] or found[1] & found[2] or found[0] & found[2])


def test_each_part_is_later_than_the_one_before() -> None:
    parts = split_parts(FRAME, Y, how="time", column="day")
    day = FRAME.day
    assert day[parts.train].max() < day[parts.validation].min()
    assert day[parts.validation].max() < day[parts.test].min()


def test_time_may_be_text_or_a_number() -> None:
    stamps = split_parts(FRAME, Y, how="time", column="day")
    frame = FRAME.assign(text=FRAME.day.dt.strftime("%d.%m.%Y"), number=FRAME.day.dt.day_of_year)
    for column in ("text", "number"):
        assert np.array_equal(split_parts(frame, Y, how="time", column=column).test, stamps.test)


@given(st.lists(st.integers(0, 6), min_size=30, max_size=80), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_stratified_parts_are_whole_and_training_has_every_class(
    labels: list[int], seed: int
) -> None:
    y = np.array(labels)
    parts = split_parts(pd.DataFrame(index=range(len(y))), y, how="stratified", seed=seed)
    whole(parts, len(y))
    assert set(y[parts.train]) == set(labels)
    for name in set(labels):
        share = (y[parts.test] == name).sum() / (y == name).sum()
        assert share <= 0.2 + 1.5 / (y == name).sum()


def test_a_class_of_one_row_is_trained_on_and_one_of_two_rows_too() -> None:
    y = np.array(["common"] * 50 + ["once"] + ["twice"] * 2)
    for seed in range(5):
        parts = split_parts(pd.DataFrame(index=range(53)), y, how="stratified", seed=seed)
        assert 50 in parts.train
        assert (y[parts.train] == "twice").sum() >= 1


def test_a_given_column_is_followed() -> None:
    words = np.array(["train", "VAL", "Test", "training"] * 5)
    parts = split_parts(pd.DataFrame({"p": words}), np.arange(20), how="given", column="p")
    assert set(words[parts.train]) == {"train", "training"}
    assert set(words[parts.validation]) == {"VAL"}
    assert set(words[parts.test]) == {"Test"}


def test_a_given_column_without_validation_takes_it_from_training_and_says_so() -> None:
    words = ["train"] * 40 + ["test"] * 10
    parts = split_parts(pd.DataFrame({"p": words}), np.arange(50), how="given", column="p")
    whole(parts, 50)
    assert parts.test.tolist() == list(range(40, 50))
    assert len(parts.validation) == 8
    assert "names no validation rows" in parts.notes[0]


def test_thinning_keeps_order_and_share_and_the_whole_test_part() -> None:
    parts = split_parts(FRAME, Y)
    before = parts.test.copy()
    thin(parts, 50, seed=0)
    assert len(parts.train) == 50
    assert (np.diff(parts.train) > 0).all()
    assert np.array_equal(parts.test, before)
    assert len(parts.validation) == 100
    assert parts.notes == [
        "training uses 50 of its 300 rows, drawn at random, and validation is thinned alike"
    ]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"test": 1.5}, "share test=1.5"),
        ({"test": 0.5, "validation": 0.5}, "leave no row for training"),
        ({"how": "group", "column": "shopp"}, "no column 'shopp'.*'shop'"),
        ({"how": "group", "column": "gap"}, "missing in 1 rows"),
        ({"how": "group", "column": "two"}, "has 2 groups; splitting by it takes 3"),
        ({"how": "time", "column": "two"}, "has 2 moments"),
        ({"how": "time", "column": "word"}, "no dates or numbers to order the rows by, but 'a'"),
        ({"how": "given", "column": "word"}, "says 'a'; it may say train"),
        ({"how": "sideways"}, "split 'sideways'"),
    ],
)
def test_what_cannot_be_split_is_said(options: dict[str, object], says: str) -> None:
    frame = FRAME.assign(
        gap=[None, *range(ROWS - 1)], two=np.arange(ROWS) % 2, word=["a", "b"] * (ROWS // 2)
    )
    with pytest.raises(DataError, match=says):
        split_parts(frame, Y, **options)  # type: ignore[arg-type]


def test_too_few_rows_name_the_part_that_would_be_empty() -> None:
    with pytest.raises(DataError, match="validation part would be empty: 2 rows"):
        split_parts(FRAME.head(2), Y[:2], test=0.4, validation=0.2)
