"""A table names the pictures beside it, and only those below its folder."""

import json
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from picture_files import class_folders, saved

from stackwise.errors import DataError
from stackwise.tasks.images.reading.find import find_pictures
from stackwise.tasks.images.reading.loading import load_pictures

ROWS = [
    {"file_name": "a/0.png", "label": "cat", "camera": 1},
    {"file_name": "a/1.png", "label": "dog", "camera": 2},
]


def table(folder: Path, rows: list[dict[str, object]], ending: str = "csv") -> Path:
    frame = pd.DataFrame(rows)
    path = folder / f"metadata.{ending}"
    if ending == "csv":
        frame.to_csv(path, index=False)
    elif ending == "parquet":
        frame.to_parquet(path)
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_labels_and_columns_come_from_the_table(tmp_path, ending):
    class_folders(tmp_path, {"a": 3})
    table(tmp_path, ROWS, ending)
    found = find_pictures(tmp_path)
    assert found.names == ["a/0.png", "a/1.png"]
    assert found.labels.tolist() == ["cat", "dog"]
    assert found.columns["camera"].tolist() == [1, 2]
    assert found.notes == [f"1 picture not named in metadata.{ending}, left out"]
    assert find_pictures(tmp_path, target="camera").labels.tolist() == [1, 2]


def test_a_target_that_is_missing_gets_the_nearest(tmp_path):
    class_folders(tmp_path, {"a": 2})
    table(tmp_path, ROWS)
    with pytest.raises(DataError, match="no column 'lable'. Did you mean 'label'"):
        find_pictures(tmp_path, target="lable")
    assert find_pictures(tmp_path, target="lable", labelled=False).labels is None


def test_without_a_target_and_a_label_the_columns_are_named(tmp_path):
    class_folders(tmp_path, {"a": 2})
    table(tmp_path, [{"file_name": "a/0.png", "kind": "cat", "camera": 1}])
    with pytest.raises(DataError, match="name one of its columns with target: kind, camera"):
        find_pictures(tmp_path)


def test_a_table_in_each_part(tmp_path):
    for part in ("train", "test"):
        class_folders(tmp_path / part, {"a": 2})
        table(tmp_path / part, ROWS)
    found = find_pictures(tmp_path)
    assert found.parts.tolist() == ["test"] * 2 + ["train"] * 2
    assert found.names[0] == "test/a/0.png"
    assert found.samples[3] == tmp_path / "train" / "a" / "1.png"


def test_a_flat_part_with_its_table(tmp_path):
    for part in ("train", "val"):
        saved(tmp_path / part / "0.png")
        table(tmp_path / part, [{"file_name": "0.png", "label": "cat"}])
    assert find_pictures(tmp_path).parts.tolist() == ["train", "validation"]


def test_names_that_begin_with_a_part_say_it(tmp_path):
    rows = []
    for part in ("train", "test"):
        saved(tmp_path / part / "0.png")
        rows.append({"file_name": f"{part}/0.png", "label": "cat"})
    table(tmp_path, rows)
    assert find_pictures(tmp_path).parts.tolist() == ["train", "test"]


@pytest.mark.parametrize("name", ["../secret.png", "/etc/a.png", "a/../../b.png", "..\\b.png"])
def test_a_path_that_leads_out_is_refused(tmp_path, name):
    class_folders(tmp_path / "photos", {"a": 1})
    saved(tmp_path / "secret.png")
    table(tmp_path / "photos", [{"file_name": name, "label": "cat"}])
    with pytest.raises(DataError, match="which is no file below"):
        find_pictures(tmp_path / "photos")


def test_a_missing_file_counts_as_bad_and_is_named(tmp_path):
    class_folders(tmp_path, {"a": 1})
    table(tmp_path, ROWS)
    found = find_pictures(tmp_path)
    with pytest.raises(DataError, match=r"1 picture of 2 cannot be read.*a/1\.png does not exist"):
        load_pictures(found)
    _, good, notes = load_pictures(found, bad="skip")
    assert good.tolist() == [0]
    assert any("a/1.png does not exist" in note for note in notes)


def test_a_file_named_twice_counts_once_and_never_with_two_labels(tmp_path):
    class_folders(tmp_path, {"a": 2})
    table(tmp_path, [*ROWS, ROWS[0]])
    found = find_pictures(tmp_path)
    assert len(found) == 2
    assert "1 row of a file that is named before, left out" in found.notes
    table(tmp_path, [*ROWS, ROWS[0] | {"label": "cow"}])
    with pytest.raises(DataError, match="names 'a/0.png' twice, as 'cat' and as 'cow'"):
        find_pictures(tmp_path)


def test_a_name_that_looks_like_a_number_stays_a_name(tmp_path):
    for name in ("007", "008"):
        saved(tmp_path / f"{name}.png").rename(tmp_path / name)
    (tmp_path / "metadata.csv").write_text("file_name,label\n007,cat\n008,dog\n")
    assert find_pictures(tmp_path).names == ["007", "008"]


def test_a_name_composed_in_another_way_is_found(tmp_path):
    saved(tmp_path / unicodedata.normalize("NFD", "é.png"))
    table(tmp_path, [{"file_name": "é.png", "label": "cat"}])
    pictures, *_ = load_pictures(find_pictures(tmp_path))
    assert len(pictures) == 1


def test_missing_labels_are_none(tmp_path):
    class_folders(tmp_path, {"a": 2})
    table(tmp_path, [ROWS[0], ROWS[1] | {"label": None}])
    assert find_pictures(tmp_path).labels.tolist() == ["cat", None]


def test_a_table_without_file_name_or_with_a_blank_one_is_refused(tmp_path):
    class_folders(tmp_path, {"a": 2})
    table(tmp_path, [{"path": "a/0.png", "label": "cat"}])
    with pytest.raises(DataError, match=r"no column 'file_name'.*it has path, label"):
        find_pictures(tmp_path)
    table(tmp_path, [ROWS[0], ROWS[1] | {"file_name": None}])
    with pytest.raises(DataError, match="names no file in 1 row"):
        find_pictures(tmp_path)


def test_two_tables_in_one_folder_are_refused(tmp_path):
    class_folders(tmp_path, {"a": 2})
    table(tmp_path, ROWS)
    table(tmp_path, ROWS, "jsonl")
    with pytest.raises(DataError, match=r"metadata\.csv and metadata\.jsonl; keep one"):
        find_pictures(tmp_path)
