"""Tables come in from every kind of source; each broken file gets one sentence."""

import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from stackwise.errors import DataError
from stackwise.tasks.labelled.values import level
from stackwise.tasks.table.source import as_frame, read_chunks, read_table

FRAME = pd.DataFrame(
    {"size": [1.5, 2.5, None], "count": [1, 2, 3], "colour": ["red", None, "blue"]}
)


def write(folder: Path, name: str) -> Path:
    path = folder / name
    if name.endswith((".csv", ".csv.gz")):
        FRAME.to_csv(path, index=False)
    elif name.endswith(".tsv"):
        FRAME.to_csv(path, index=False, sep="\t")
    elif name.endswith(".parquet"):
        FRAME.to_parquet(path)
    elif name.endswith(".arrow"):
        FRAME.to_feather(path, compression="uncompressed")
    else:
        FRAME.to_json(path, orient="records", lines=name.endswith("l"))
    return path


NAMES = ["a.csv", "a.csv.gz", "a.tsv", "a.parquet", "a.arrow", "a.jsonl", "a.json"]


@pytest.mark.parametrize("name", NAMES)
def test_every_format_holds_the_same_table(tmp_path: Path, name: str) -> None:
    read = read_table(write(tmp_path, name))
    pd.testing.assert_frame_equal(read, FRAME, check_dtype=False)


@pytest.mark.parametrize("name", NAMES)
def test_pieces_put_together_are_the_table(tmp_path: Path, name: str) -> None:
    pieces = list(read_chunks(write(tmp_path, name), rows=2))
    together = pd.concat(pieces, ignore_index=True)
    assert together["count"].tolist() == [1, 2, 3]
    assert together["colour"].fillna("").tolist() == ["red", "", "blue"]
    if not name.endswith(".json"):
        assert max(len(piece) for piece in pieces) == 2


def test_an_arrow_stream_is_read_like_an_arrow_file(tmp_path: Path) -> None:
    import pyarrow as pa

    table = pa.Table.from_pandas(FRAME)
    with pa.ipc.new_stream(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    assert read_table(tmp_path / "a.arrow")["count"].tolist() == [1, 2, 3]


def test_polars_frames_lazy_ones_too_and_arrays_come_in() -> None:
    assert as_frame(pl.from_pandas(FRAME))["count"].tolist() == [1, 2, 3]
    assert as_frame(pl.from_pandas(FRAME).lazy())["colour"].tolist()[0] == "red"
    assert list(as_frame(np.zeros((2, 3))).columns) == ["x0", "x1", "x2"]
    with pytest.raises(DataError, match="two dimensions"):
        as_frame(np.zeros(3))
    with pytest.raises(DataError, match="dict is no table"):
        as_frame({"a": 1})


@pytest.mark.parametrize("sep", [";", "\t", "|"])
def test_what_parts_the_columns_is_found_in_the_header(tmp_path: Path, sep: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'"a, b"{sep}c\n1{sep}2\n')
    assert list(read_table(path).columns) == ["a, b", "c"]


def test_encoding_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("größe,b\n1,é\n", encoding="latin-1")
    assert read_table(path, encoding="latin-1").columns[0] == "größe"
    path.write_text("größe,b\n1,é\n", encoding="utf-8-sig")
    assert read_table(path).columns[0] == "größe"
    path.write_text("größe,b\n1,é\n", encoding="utf-16")
    assert read_table(path, encoding="utf-16").columns[0] == "größe"


@pytest.mark.parametrize("named", ["utf-8", "utf-16-le", "utf-16-be", "utf-16", "latin-1"])
def test_a_byte_order_mark_is_believed_before_the_named_encoding(
    tmp_path: Path, named: str
) -> None:
    path = tmp_path / "a.csv"
    written = named if named.startswith("utf-16-") else "utf-16" if "16" in named else "utf-8"
    path.write_bytes(("\ufeff" * (written != "utf-16") + "größe,b\n1,é\n").encode(written))
    for encoding in (named, None):
        read = read_table(path, encoding=encoding)
        assert list(read.columns) == ["größe", "b"]
        assert read["b"].tolist() == ["é"]


ROWS_KEPT = {
    "blank lines": ("a,b\n\n1,x\n\n2,y\n\n", ["1", "2"]),
    "a blank line in one column": ("a\n1\n\n2\n", ["1", None, "2"]),
    "no line end at the end": ("a,b\n1,x\n2,y", ["1", "2"]),
    "other line ends": ("a,b\r\n1,x\r\n2,y\r\n", ["1", "2"]),
    "a separator at the end of each row": ("a,b\n1,x,\n2,y,\n", ["1", "2"]),
    "a separator at the end of each line": ("a,b,\n1,x,\n2,y,\n", ["1", "2"]),
    "what looks like a comment": ("a,b\n#1,x\n2,y\n", ["#1", "2"]),
    "a quoted line end": ('a,b\n1,"x\n\nz"\n2,y\n', ["1", "2"]),
    "zeros before": ("a,b\n007,x\n012,y\n", ["007", "012"]),
}


@pytest.mark.parametrize("case", ROWS_KEPT)
def test_each_row_comes_in_once_and_in_order(tmp_path: Path, case: str) -> None:
    content, expected = ROWS_KEPT[case]
    path = tmp_path / "a.csv"
    path.write_bytes(content.encode())
    pieces = [piece["a"] for piece in read_chunks(path, rows=1)]
    for read in (read_table(path)["a"], pd.concat(pieces)):
        assert [None if pd.isna(cell) else level(cell) for cell in read] == expected


def test_names_and_numbers_of_json_lines_stay_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"1600000000": 9007199254740993, "date": "2020-01-01", "s": "a\u2028b"}\n'
        '{"1600000000": null, "date": "x"}\n',
        encoding="utf-8",
    )
    read = read_table(path)
    assert list(read.columns) == ["1600000000", "date", "s"]
    assert read["1600000000"][0] == 9007199254740993
    assert read["date"].tolist() == ["2020-01-01", "x"]
    assert read["s"][0] == "a\u2028b"
    path.write_text('{"a": 1, "a": 2}\n')
    with pytest.raises(DataError, match="'a' stands twice"):
        read_table(path)


def test_a_named_index_is_a_column_and_an_unnamed_one_is_none(tmp_path: Path) -> None:
    frame = FRAME.assign(day=pd.date_range("2020-01-01", periods=3))
    frame.set_index(["day", "colour"]).to_parquet(tmp_path / "a.parquet")
    frame.set_axis([5, 3, 4]).to_parquet(tmp_path / "b.parquet")
    assert set(read_table(tmp_path / "a.parquet").columns) == set(frame.columns)
    assert set(read_table(frame.set_index("day")).columns) == set(frame.columns)
    assert list(read_table(tmp_path / "b.parquet").columns) == list(frame.columns)
    with pytest.raises(DataError, match="'day' is the name of a column and of the index"):
        read_table(frame.set_index("day", drop=False))


@pytest.mark.parametrize("note", [b"{", b"[]", b'{"index_columns": 3}', b'{"columns": ["a", 1]}'])
def test_a_damaged_note_beside_a_table_changes_nothing(tmp_path: Path, note: bytes) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(FRAME).replace_schema_metadata({b"pandas": note})
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_file(
        file, table.schema
    ) as writer:  # fmt: skip
        writer.write_table(table)
    for name in ("a.parquet", "a.arrow"):
        pd.testing.assert_frame_equal(read_table(tmp_path / name), FRAME, check_dtype=False)


def test_a_parquet_file_damaged_anywhere_gets_one_sentence_or_the_same_table(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, "a.parquet")
    whole = path.read_bytes()
    for place in range(4, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read_table(path)
        except DataError as error:
            assert "\n" not in str(error)


def test_a_cell_may_hold_a_line_break(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('a,b\n"one\ntwo",1\nthree,2\n')
    assert read_table(path)["a"].tolist() == ["one\ntwo", "three"]


def test_columns_read_as_text_keep_their_zeros(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("zip,n\n007,1\n012,2\n")
    (piece,) = read_chunks(path, as_text=("zip",))
    assert piece["zip"].tolist() == ["007", "012"]


def test_a_datasets_folder_is_read_and_names_its_parts(tmp_path: Path) -> None:
    import datasets

    whole = datasets.Dataset.from_pandas(FRAME, preserve_index=False)
    whole.save_to_disk(tmp_path / "one")
    assert read_table(tmp_path / "one")["count"].tolist() == [1, 2, 3]
    datasets.DatasetDict(train=whole, test=whole).save_to_disk(tmp_path / "two")
    both = read_table(tmp_path / "two")
    assert both[both.attrs["split"]].tolist() == ["train"] * 3 + ["test"] * 3


def test_a_folder_of_csv_parts_is_read(tmp_path: Path) -> None:
    for name in ("train", "test"):
        FRAME.to_csv(tmp_path / f"{name}.csv", index=False)
    assert len(read_table(tmp_path)) == 6


LATIN = "a,b\n1,é\n2,ü\n".encode("latin-1")
BROKEN = {
    "empty": (b"", "is empty"),
    "blank": (b"\n \n", "is empty"),
    "header only": (b"a,b\n", "has a header and no rows"),
    "a header without a line end": (b"a,b", "has a header and no rows"),
    "binary junk": (bytes(range(256)) * 20, "binary data"),
    "a pickle": (pickle.dumps({"a": [1] * 99}), "binary data"),
    "a short row": (b"a,b,c\n1,2,3\n4,5\n", "2 cells in row 3 where its first row has 3"),
    "a long row": (b"a,b\n1,2\n3,4,5\n", "3 cells in row 3 where its first row has 2"),
    "every row long": (b"a,b\n1,2,3\n4,5,6\n", "3 cells in row 2"),
    "wrong encoding": (LATIN, "is not in UTF-8; say its encoding"),
    "a name twice": (b"a,b,a\n1,2,3\n", "'a' twice"),
    "an open quote": (b'a,b\n1,"2\n3,4\n', "cannot be parsed"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_csv_gets_one_sentence(tmp_path: Path, case: str) -> None:
    content, says = BROKEN[case]
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    for read in (read_table, lambda p: list(read_chunks(p))):
        with pytest.raises(DataError, match=says) as raised:
            read(path)
        assert "\n" not in str(raised.value)
        assert str(path) in str(raised.value)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl", "a.csv.gz"])
def test_junk_under_any_ending_gets_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for junk in (
        b"this is not it\n" * 50,
        os.urandom(2000),
        write(tmp_path, name).read_bytes()[:40],
    ):
        path.write_bytes(junk)
        with pytest.raises(DataError) as raised:
            read_table(path)
        assert "\n" not in str(raised.value)


def test_the_wrong_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(LATIN)
    with pytest.raises(DataError, match="not in the encoding ascii"):
        read_table(path, encoding="ascii")
    with pytest.raises(DataError, match="no text encoding 'klingon'"):
        read_table(path, encoding="klingon")


def test_a_folder_an_unknown_ending_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="folder without tables"):
        read_table(tmp_path)
    (tmp_path / "a.doc").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no known ending"):
        read_table(tmp_path / "a.doc")
    assert len(read_table(tmp_path / "a.doc", sep=",")) == 1
    with pytest.raises(DataError, match="does not exist"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(DataError, match="sep is one character"):
        read_table(tmp_path / "a.doc", sep=",,")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")
    path.chmod(0)
    for folder in (tmp_path, *tmp_path.parents):
        if os.getuid() == 0 and folder != Path("/") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # root reads everything: become nobody
        said = "nothing was raised"
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            read_table(path)
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 1000).decode() == f"DataError: {path} cannot be read: Permission denied"
