"""Records keep what their file says: no cell is guessed at, no value is made text."""

import json

import numpy as np
import pandas as pd
import pytest

from stackwise.errors import DataError
from stackwise.tasks.language.content import text_of
from stackwise.tasks.language.encoding import plain_text
from stackwise.tasks.language.records import plain_value, records_of

CELLS = ["12.50", "007", "True", "1e5", "2024-01-02", "None", "NA", "null", "nan", " a ", "1,5"]
"""Texts that a reader of tables takes for something else."""


def values(source, field="a"):
    return [row[field] for _, row in records_of(source)]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet", "t.jsonl", "t.json", "t.feather"])
def test_a_text_is_the_same_text_in_every_kind_of_file(tmp_path, name):
    frame = pd.DataFrame({"q": ["?"] * len(CELLS), "a": CELLS})
    path = tmp_path / name
    write = {
        ".csv": lambda: frame.to_csv(path, index=False),
        ".tsv": lambda: frame.to_csv(path, index=False, sep="\t"),
        ".parquet": lambda: frame.to_parquet(path),
        ".feather": lambda: frame.to_feather(path),
        ".jsonl": lambda: frame.to_json(path, orient="records", lines=True),
        ".json": lambda: frame.to_json(path, orient="records"),
    }
    write[path.suffix]()
    assert values(path) == CELLS
    assert values(frame) == CELLS


def test_lists_and_structs_of_parquet_are_lists_and_dictionaries(tmp_path):
    turns = [{"role": "user", "content": "q"}]
    pd.DataFrame({"a": [turns], "b": [["x", "y"]]}).to_parquet(tmp_path / "t.parquet")
    ((place, row),) = records_of(tmp_path / "t.parquet")
    assert row == {"a": turns, "b": ["x", "y"]} and place.startswith("row 1 of")
    kept = plain_value({"a": np.array(["x"]), "b": np.int64(3), "c": pd.NA, "d": float("nan")})
    assert kept == {"a": ["x"], "b": 3, "c": None, "d": None}


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_a_line_of_json_ends_with_a_line_feed_alone(tmp_path, sign):
    text = json.dumps({"a": f"one{sign}two"}, ensure_ascii=False)
    (tmp_path / "t.jsonl").write_bytes(f"{text}\r\n\r\n{text}".encode())
    assert values(tmp_path / "t.jsonl") == [f"one{sign}two"] * 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding_and_is_no_text(tmp_path, encoding):
    (tmp_path / "t.jsonl").write_text('{"a": "é"}\n{"a": "ü"}\n', encoding=encoding)
    (tmp_path / "t.csv").write_text("a\né\nü\n", encoding=encoding)
    (tmp_path / "t.json").write_text('[{"a": "é"}, {"a": "ü"}]', encoding=encoding)
    (tmp_path / "t.txt").write_text("é\nü", encoding=encoding)
    for name in ("t.jsonl", "t.csv", "t.json"):
        assert values(tmp_path / name) == ["é", "ü"]
    assert plain_text(tmp_path / "t.txt") == "é\nü"


def test_cells_are_read_whole(tmp_path):
    long = "word " * 40_000
    (tmp_path / "t.csv").write_bytes(f'q;a\r\n"x;y";"two\n""lines"""\r\n\r\nz;{long}\r\n'.encode())
    assert values(tmp_path / "t.csv") == ['two\n"lines"', long]
    assert values(tmp_path / "t.csv", "q") == ["x;y", "z"]


def test_json_lines_are_read_from_a_file_that_is_called_json(tmp_path):
    (tmp_path / "t.json").write_text('{"a": "1"}\n{"a": "2"}\n')
    assert values(tmp_path / "t.json") == ["1", "2"]


def test_a_folder_that_datasets_saved_is_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    part = datasets.Dataset.from_dict({"a": ["007", "None"]})
    part.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": part}).save_to_disk(tmp_path / "named")
    datasets.DatasetDict({"train": part, "test": part}).save_to_disk(tmp_path / "two")
    assert values(tmp_path / "one") == values(tmp_path / "named") == values(part) == ["007", "None"]
    with pytest.raises(DataError, match="holds the parts train, test; name the folder of one"):
        values(tmp_path / "two")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"a": "x"}\n{"a": "\xe9"}', "line 2 of .*a.jsonl is not UTF-8"),
        ("a.csv", b"a\nx\n\xe9\n", "line 3 of .*a.csv is not UTF-8"),
        ("a.jsonl", b'{"a": 1}\n{"a": ', "line 2 of .*a.jsonl is no JSON"),
        ("a.json", b"[{]", "line 1 of .*a.json is no JSON"),
        ("a.json", b'{"a": [1]}', "holds an object at its top"),
        ("a.json", b"3", "holds one value at its top"),
        ("a.jsonl", b"", "a.jsonl is empty"),
        ("a.json", b" \n", "a.json is empty"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "line 3 of .*a.csv has 3 cells where its header has 2"),
        ("a.csv", b"a,a\n1,2\n", "the column name 'a' twice"),
        ("a.csv", b'a,b\n1,"2\n', "cannot be parsed"),
        ("a.parquet", b"PAR1 and no more", "no readable parquet file"),
        ("a.feather", b"nothing of the kind", "no readable arrow file"),
    ],
)
def test_a_broken_file_is_one_sentence_with_its_line(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as told:
        list(records_of(tmp_path / name))
    assert "\n" not in str(told.value)


def test_a_text_file_with_zero_bytes_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes("one\ntwo".encode("utf-16-le"))
    with pytest.raises(DataError, match="line 1 holds a zero byte"):
        plain_text(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\x0cc\r\n" + b"x" * 300_000)
    assert plain_text(tmp_path / "a.txt") == "a\nb\x0cc\n" + "x" * 300_000


def test_parts_of_text_are_text():
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "b", "image": None}]
    assert text_of(parts, "it") == "a b"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "it is missing"), (float("nan"), "it is missing"), (12.5, "the number 12.5"),
        (7, "the number 7"), (True, "the truth value True"), ({"a": 1}, "an object"),
        (["a"], "a list with the text .'a'. in it"), (b"a", "bytes"),
        ([{"type": "image_url", "image_url": "x"}], "a part of type 'image_url'"),
        ([{"text": "x"}], "a part without a type"),
        ([{"type": "text", "text": None}], "the text of a part of it is missing"),
        ("\ud800", "half a character"),
    ],
)  # fmt: skip
def test_what_is_no_text_is_refused_by_name(value, words):
    with pytest.raises(DataError, match=words):
        text_of(value, "it")
