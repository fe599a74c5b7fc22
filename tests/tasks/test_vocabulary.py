"""Which values of a category get a code: lists, counts, hashes, ids and cells of several values."""

import json

import numpy as np
import pandas as pd
import pytest

from stackwise.errors import DataError
from stackwise.tasks.labelled.counted import UnseenCategories
from stackwise.tasks.table.estimators.export import code_table
from stackwise.tasks.table.features.contract import FeatureContract, TableArrays
from stackwise.tasks.table.reading.vocabulary import Vocabulary, buckets, parted


def table(rows: int = 900, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "user_id": generator.integers(0, 700, rows),
            "word": [f"w{n}" for n in generator.zipf(1.7, rows)],
            "colour": generator.choice(["red", "green", None], rows),
            "price": generator.integers(0, 500, rows),
        }
    )


def fitted(frame: pd.DataFrame, **options) -> FeatureContract:
    return FeatureContract().fit(frame, vocabulary=Vocabulary(**options))


def codes(contract: FeatureContract, frame: pd.DataFrame, name: str) -> np.ndarray:
    arrays: TableArrays = contract.transform(frame)
    return arrays.categorical[:, contract.categorical_names.index(name)]


def test_without_a_vocabulary_nothing_changes():
    frame = table()
    plain, given = FeatureContract().fit(frame), fitted(frame)
    assert plain.to_json()[0] == given.to_json()[0]
    assert plain.numeric_names == ["user_id", "price"]


def test_ids_that_return_are_categories_and_other_numbers_are_not():
    contract = fitted(table(), ids=True, max_levels=10_000)
    assert contract.numeric_names == ["price"]
    assert len(np.unique(codes(contract, table(), "user_id"))) == table().user_id.nunique()
    named = table().assign(user_id=np.random.default_rng(0).permutation(900))
    assert fitted(named, ids=True).columns[0].kind == "identifier"


def test_a_value_below_the_count_shares_the_code_of_the_rare_ones():
    frame = table()
    counts = frame.word.value_counts()
    contract = fitted(frame, min_count=3)
    found = codes(contract, frame, "word")
    rare = frame.word.map(counts).to_numpy() < 3
    assert len(np.unique(found[rare])) == 1
    assert not np.isin(found[~rare], found[rare]).any()
    new = frame.assign(word="never seen")
    assert set(codes(contract, new, "word")) == set(found[rare])


def test_the_hash_is_the_same_on_every_machine():
    assert buckets(["a", "b", "Ω"], 1000).tolist() == [928, 668, 323]
    assert buckets(["a"] * 3, 7).tolist() == [buckets(["a"], 7)[0]] * 3


def test_hashed_values_fall_into_the_buckets_that_training_filled():
    frame = table()
    contract = fitted(frame, hash_buckets=50, ids=True)
    places = dict(zip(contract.categorical_names, contract.cardinalities, strict=True))
    assert places["user_id"] <= 50
    assert places["colour"] == 3  # few values keep their list, and a code for missing
    found = codes(contract, frame, "user_id")
    assert found.max() < places["user_id"]
    assert (
        found == codes(contract, frame.assign(user_id=frame.user_id.astype(str)), "user_id")
    ).all()
    record, tensors = contract.to_json()
    again = FeatureContract.from_json(json.loads(json.dumps(record)), tensors)
    assert np.array_equal(codes(again, frame, "user_id"), found)
    assert "share 50 codes by hash" in contract.report()[0]["done"]


def test_a_bucket_without_training_rows_is_unseen():
    frame = pd.DataFrame({"id": [f"v{i}" for i in range(60)] * 3, "x": np.arange(180.0)})
    contract = fitted(frame, hash_buckets=59)
    filled = set(contract.columns[0].detail["filled"])
    assert len(filled) < 59
    empty = next(f"n{i}" for i in range(999) if int(buckets([f"n{i}"], 59)[0]) not in filled)
    full = next(f"n{i}" for i in range(999) if int(buckets([f"n{i}"], 59)[0]) in filled)
    with pytest.warns(UnseenCategories, match="'id' in 1 rows"):
        found = codes(contract, pd.DataFrame({"id": [empty, full], "x": 0.0}), "id")
    assert found[0] == contract.cardinalities[0]
    assert found[1] < contract.cardinalities[0]


def test_cells_of_several_values_become_one_code_each():
    frame = pd.DataFrame(
        {"genres": ["Drama", "Comedy Drama", "War  Drama War", None], "x": [1.0, 2.0, 3.0, 4.0]}
    )
    contract = fitted(frame, separators={"genres": " "})
    assert contract.categorical_names == ["genres 1", "genres 2"]
    assert contract.cardinalities == [3, 3]
    assert contract.slots == [2]
    assert contract.transform(frame).categorical.tolist() == [[1, 3], [0, 1], [2, 1], [3, 3]]
    new = pd.DataFrame({"genres": ["Noir War", "Drama War Comedy"], "x": 0.0})
    with pytest.warns(UnseenCategories, match="'genres' in 1 rows .such as 'Noir'"):
        assert contract.transform(new).categorical.tolist() == [[3, 2], [1, 2]]
    assert "up to 2 in a row" in contract.report()[0]["done"]
    again = FeatureContract.from_json(*contract.to_json())
    assert again.slots == [2]


def test_rare_values_within_a_cell_are_pooled():
    frame = pd.DataFrame({"tags": ["a b", "a c", "a d", "a"], "x": [1.0, 2.0, 3.0, 4.0]})
    contract = fitted(frame, separators={"tags": " "}, min_count=2)
    assert contract.transform(frame).categorical.tolist() == [[0, 1], [0, 1], [0, 1], [0, 2]]


def test_parted_values_are_stripped_and_each_there_once():
    assert parted(" a| b |a||", "|") == ["a", "b"]


def test_the_export_says_how_a_hash_is_computed():
    contract = fitted(table(), hash_buckets=50, ids=True)
    described = code_table(contract.columns[0], contract.cardinalities[0])
    assert "modulo 50" in described["bucket"]
    bucket = int(buckets([str(table().user_id[0])], 50)[0])
    assert described["codes"][str(bucket)] == codes(contract, table(), "user_id")[0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"min_count": 0}, "min_count must be at least 1, got 0"),
        ({"max_levels": 0}, "max_levels must be at least 1, got 0"),
        ({"hash_buckets": 1}, "hash_buckets must be at least 2 or None, got 1"),
        ({"separators": {"word": ""}}, "'word' are parted by ''"),
        ({"separators": {"wort": " "}}, "no column 'wort'. Did you mean 'word'"),
    ],
)
def test_bad_options_are_refused(options: dict, sentence: str):
    with pytest.raises(DataError, match=sentence):
        fitted(table(), **options)
