"""A table is read at prediction as it was read in training."""

import json
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from sklearn.preprocessing import QuantileTransformer

from stackwise.errors import DataError
from stackwise.tasks.labelled.counted import UnseenCategories
from stackwise.tasks.table.features.contract import FeatureContract

ROWS = 200


def table(rows: int = ROWS, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    size = rng.normal(10, 3, rows)
    size[::9] = np.nan
    frame = pd.DataFrame(
        {
            "size": size,
            "price": [f"${v:,.2f}" for v in rng.uniform(1, 9000, rows)],
            "colour": rng.choice(["red", "green", "blue"], rows),
            "shape": np.where(rng.random(rows) < 0.2, None, rng.choice(["round", "flat"], rows)),
            "new": rng.choice(["yes", "no"], rows),
            "sold": pd.Timestamp("2021-03-01") + pd.to_timedelta(rng.integers(0, 9000, rows), "h"),
            "note": [f"a note on item {i}" for i in rng.integers(0, 9999, rows)],
        }
    )
    frame.loc[3, "sold"] = pd.NaT
    return frame


def reloaded(contract: FeatureContract) -> FeatureContract:
    record, tensors = contract.to_json()
    return FeatureContract.from_json(json.loads(json.dumps(record)), load(save(tensors)))


def same(one: object, two: object) -> None:
    np.testing.assert_array_equal(one.numeric, two.numeric)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(one.categorical, two.categorical)  # type: ignore[attr-defined]


def test_shapes_types_and_names_agree() -> None:
    contract = FeatureContract().fit(table())
    arrays = contract.transform(table())
    assert arrays.numeric.dtype == np.float32
    assert arrays.categorical.dtype == np.int64
    assert arrays.numeric.shape == (ROWS, contract.n_numeric) == (ROWS, len(contract.numeric_names))
    assert arrays.categorical.shape == (ROWS, len(contract.cardinalities))
    assert np.isfinite(arrays.numeric).all()
    assert contract.categorical_names == [
        "colour", "shape", "new", "size is missing", "sold is missing",
    ]  # fmt: skip
    assert contract.cardinalities == [3, 3, 2, 2, 2]
    assert (arrays.categorical < contract.cardinalities).all()


def test_numbers_become_the_quantiles_that_scikit_learn_gives() -> None:
    known = np.random.default_rng(1).lognormal(size=(3000, 1))
    ours = FeatureContract().fit(known, seed=7).transform(known).numeric
    noise = np.random.default_rng(7).normal(0, 1e-5, 3000)
    theirs = QuantileTransformer(n_quantiles=100, output_distribution="normal", subsample=None)
    theirs.fit(known + noise[:, None])
    np.testing.assert_allclose(ours, theirs.transform(known), rtol=1e-6)


def test_small_units_lose_nothing_to_the_noise() -> None:
    known = np.random.default_rng(1).normal(size=(500, 1))
    large = FeatureContract().fit(known).transform(known).numeric
    small = FeatureContract().fit(known * 1e-9).transform(known * 1e-9).numeric
    np.testing.assert_allclose(small, large, atol=1e-3)


def test_standard_scaling_uses_training_mean_and_population_deviation() -> None:
    known = np.random.default_rng(1).normal(5, 3, size=(50, 2))
    contract = FeatureContract().fit(known, numeric="standard")
    new = np.array([[1.0, 2.0]])
    expected = (new - known.mean(0)) / known.std(0)
    np.testing.assert_allclose(contract.transform(new).numeric, expected, rtol=1e-6)


def test_a_missing_number_is_zero_and_a_category_says_so() -> None:
    contract = FeatureContract().fit(table())
    arrays = contract.transform(table())
    missing = table()["size"].isna().to_numpy()
    at = contract.numeric_names.index("size")
    flag = arrays.categorical[:, contract.categorical_names.index("size is missing")]
    assert (arrays.numeric[missing, at] == 0).all()
    assert (flag == missing).all()
    assert "a category says where" in contract.report()[0]["done"]


def test_missing_numbers_can_be_kept_for_learners_that_take_them() -> None:
    contract = FeatureContract().fit(table(), numeric=None, keep_missing=True)
    arrays = contract.transform(table())
    at = contract.numeric_names.index("size")
    np.testing.assert_allclose(arrays.numeric[:, at], table()["size"].astype(np.float32))
    assert not any("missing" in name for name in contract.categorical_names)


def test_infinity_counts_as_missing() -> None:
    frame = table().assign(size=np.where(np.arange(ROWS) == 5, -np.inf, np.arange(ROWS) * 1.5))
    contract = FeatureContract().fit(frame)
    arrays = contract.transform(frame)
    assert "1 infinite" in contract.report()[0]["done"]
    assert arrays.numeric[5, 0] == 0
    assert arrays.categorical[5, contract.categorical_names.index("size is missing")] == 1


def test_missing_has_its_own_code_only_where_training_had_it() -> None:
    contract = FeatureContract().fit(table())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codes = contract.transform(table().assign(shape=None, colour=None)).categorical[0]
    assert codes[contract.categorical_names.index("shape")] == 2  # flat, round, missing
    assert codes[contract.categorical_names.index("colour")] == 3  # its cardinality: unseen


def test_unseen_categories_get_the_code_past_the_last_and_one_warning_counts_them() -> None:
    contract = FeatureContract().fit(table())
    new = table()
    new.loc[:9, "colour"] = "purple"
    new.loc[:4, "shape"] = "cubic"
    with pytest.warns(UnseenCategories) as caught:
        arrays = contract.transform(new)
    assert len(caught) == 1
    assert caught[0].message.counts == {"colour": 10, "shape": 5}  # type: ignore[union-attr]
    assert "'colour' in 10 rows (such as 'purple')" in str(caught[0].message)
    assert (arrays.categorical[:10, 0] == 3).all()
    assert (arrays.categorical[:5, 1] == 3).all()


def test_a_level_is_the_same_as_text_and_as_number() -> None:
    frame = pd.DataFrame({"grade": [1, 2, 3] * 20, "x": np.arange(60) % 7})
    contract = FeatureContract().fit(frame, categorical=["grade"])
    plain = contract.transform(frame).categorical
    for other in (frame.grade.astype(float), frame.grade.astype(str), frame.grade.astype(float)
                  .astype(str), frame.grade.astype("Int64")):  # fmt: skip
        np.testing.assert_array_equal(
            contract.transform(frame.assign(grade=other)).categorical, plain
        )


def test_yes_true_and_one_are_one_truth() -> None:
    contract = FeatureContract().fit(pd.DataFrame({"b": ["yes", "no"] * 30}))
    for truth, lie in (("YES", "NO"), (True, False), (1, 0), (1.0, 0.0), ("t", "f")):
        codes = contract.transform(pd.DataFrame({"b": [truth, lie]})).categorical
        assert codes.tolist() == [[1], [0]]


def test_dates_become_the_day_and_places_on_their_cycles() -> None:
    contract = FeatureContract().fit(table())
    names = contract.numeric_names
    frame = table()
    frame["sold"] = pd.date_range("2021-01-04 06:00", periods=ROWS, freq="7D")  # Monday mornings
    numeric = contract.transform(frame).numeric
    for wave in ("sine", "cosine"):
        for part in ("day of the week", "time of day"):
            values = numeric[:, names.index(f"sold {part} {wave}")]
            np.testing.assert_allclose(values, values[0], atol=1e-5)
    np.testing.assert_allclose(numeric[:, names.index("sold time of day sine")], 1, atol=1e-5)
    year = numeric[:, names.index("sold day of the year cosine")]
    np.testing.assert_allclose(year[0], 1, atol=0.01)
    assert (np.diff(numeric[:30, names.index("sold")]) >= 0).all()


def test_a_date_reads_the_same_as_text_and_as_time_stamp() -> None:
    stamps = pd.date_range("2021-01-01", periods=60).to_series(index=range(60))
    contract = FeatureContract().fit(pd.DataFrame({"d": stamps.dt.strftime("%d.%m.%Y")}))
    same(
        contract.transform(pd.DataFrame({"d": stamps})),
        contract.transform(pd.DataFrame({"d": stamps.dt.strftime("%d.%m.%Y")})),
    )


def test_text_becomes_word_counts_of_unit_length_that_ignore_word_order() -> None:
    frame = pd.DataFrame({"t": [f"word{i} some common words" for i in range(50)]})
    contract = FeatureContract().fit(frame)
    new = pd.DataFrame({"t": ["red house here", "here red house", None]})
    numeric = contract.transform(new).numeric
    np.testing.assert_allclose(np.linalg.norm(numeric, axis=1), [1, 1, 0], atol=1e-6)
    np.testing.assert_array_equal(numeric[0], numeric[1])


def test_the_order_of_columns_and_further_columns_do_not_matter() -> None:
    contract = FeatureContract().fit(table())
    shuffled = table()[list(table().columns[::-1])].assign(more=1)
    same(contract.transform(table()), contract.transform(shuffled))


def test_polars_and_pandas_give_the_same_arrays() -> None:
    contract = FeatureContract().fit(table())
    same(contract.transform(table()), contract.transform(pl.from_pandas(table())))


def test_a_prediction_row_does_not_depend_on_its_neighbours() -> None:
    contract = FeatureContract().fit(table())
    whole = contract.transform(table())
    for row in (0, 3, 77):
        alone = contract.transform(table().iloc[[row]])
        np.testing.assert_array_equal(alone.numeric[0], whole.numeric[row])
        np.testing.assert_array_equal(alone.categorical[0], whole.categorical[row])


def test_missing_columns_are_named() -> None:
    contract = FeatureContract().fit(table())
    with pytest.raises(DataError, match="lacks the column 'size' of training.*'Size'"):
        contract.transform(table().rename(columns={"size": "Size"}))
    with pytest.raises(DataError, match="lacks the columns 'size', 'note'"):
        contract.transform(table().drop(columns=["size", "note"]))
    with pytest.raises(DataError, match="3 columns; training had 7"):
        contract.transform(np.zeros((2, 3)))


def test_dropped_columns_may_be_absent() -> None:
    frame = table().assign(constant=1, empty=None)
    contract = FeatureContract().fit(frame)
    same(contract.transform(frame), contract.transform(table()))


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("size", "huge", "'size' held numbers in training and now holds 'huge'"),
        ("price", "cheap", "'price' held numbers"),
        ("size", pd.Timestamp("2020-01-01"), "'size' held numbers in training and now holds dates"),
        ("sold", 3.5, "'sold' held dates in training and now holds numbers"),
        ("sold", "soon", "'sold' held dates in training and now holds 'soon'"),
    ],
)
def test_a_column_that_holds_something_else_is_named(column: str, value: object, says: str) -> None:
    contract = FeatureContract().fit(table())
    with pytest.raises(DataError, match=says):
        contract.transform(table().assign(**{column: value}))


def test_nothing_left_to_learn_from_says_what_was_dropped() -> None:
    with pytest.raises(DataError, match="'a' always 1; 'b' every value is missing"):
        FeatureContract().fit(pd.DataFrame({"a": [1] * 20, "b": [None] * 20}))


def test_what_is_learned_depends_on_the_training_rows_alone() -> None:
    contract = FeatureContract().fit(table())
    before = contract.transform(table())
    wild = table().assign(size=1e30)
    after = contract.transform(wild)
    assert np.isfinite(after.numeric).all()
    same(contract.transform(table()), before)


def test_huge_numbers_stay_finite_in_every_scaling() -> None:
    known = np.random.default_rng(0).normal(size=(40, 1))
    for numeric, unit in (("quantile", 1), ("quantile", 1e-200), ("standard", 1), (None, 1)):
        contract = FeatureContract().fit(unit * known, numeric=numeric)  # type: ignore[arg-type]
        assert np.isfinite(contract.transform(np.array([[1e300], [-1e300]])).numeric).all()


def test_the_saved_contract_is_plain_data() -> None:
    record, tensors = FeatureContract().fit(table()).to_json()
    json.dumps(record, allow_nan=False)
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())


def test_a_contract_of_a_newer_format_is_refused() -> None:
    record, tensors = FeatureContract().fit(table()).to_json()
    with pytest.raises(DataError, match="newer stackwise"):
        FeatureContract.from_json(record | {"format": 99}, tensors)


COLUMNS = {
    "number": st.one_of(st.none(), st.floats(allow_nan=False, width=32)),
    "whole": st.one_of(st.none(), st.integers(-(2**60), 2**60)),
    "word": st.one_of(st.none(), st.sampled_from(["a", "b", "ü", " c", "1", "yes"])),
    "truth": st.one_of(st.none(), st.booleans()),
    "money": st.one_of(st.none(), st.integers(-9999, 9999).map(lambda v: f"${v:,}")),
    "day": st.one_of(st.none(), st.dates().map(str)),
    "free": st.one_of(st.none(), st.text(max_size=12)),
}


@given(
    rows=st.lists(st.fixed_dictionaries(COLUMNS), min_size=10, max_size=30),
    order=st.permutations(list(COLUMNS)),
    numeric=st.sampled_from(["quantile", "standard", None]),
)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_contract_reads_any_table_the_same_after_json_and_in_any_column_order(
    rows: list[dict[str, object]], order: list[str], numeric: str
) -> None:
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).assign(known=np.arange(len(rows)) % 3)
    contract = FeatureContract().fit(frame, numeric=numeric)  # type: ignore[arg-type]
    arrays = contract.transform(frame)
    assert np.isfinite(arrays.numeric).all()
    assert (arrays.categorical <= contract.cardinalities).all()
    assert not arrays.unseen
    same(reloaded(contract).transform(frame[[*order, "known"]]), arrays)
    assert reloaded(contract).report() == contract.report()
