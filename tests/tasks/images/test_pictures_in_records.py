"""Pictures in the rows of parquet files and of what `datasets` saved."""

import numpy as np
import pandas as pd
import pytest
from picture_files import class_folders, colours, packed, saved, touched

from stackwise.errors import DataError
from stackwise.tasks.images.marks import recognises
from stackwise.tasks.images.reading.find import find_pictures
from stackwise.tasks.images.reading.loading import load_pictures
from stackwise.tasks.images.reading.records import find_in_datasets

datasets = pytest.importorskip("datasets")


@pytest.fixture
def rows():
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "camera": datasets.Value("string"),
            "boxes": [datasets.Value("int32")],
        }
    )
    content = {
        "image": [{"bytes": packed(colours(seed)), "path": f"{seed}.png"} for seed in range(4)],
        "label": [0, 1, 1, None],
        "camera": list("abab"),
        "boxes": [[1], [], [2, 3], [4]],
    }
    return datasets.Dataset.from_dict(content, features=features)


def holds_the_rows(found):
    assert found.names == [f"{seed}.png" for seed in range(4)]
    assert found.labels.tolist() == ["cat", "dog", "dog", None]
    assert list(found.columns) == ["label", "camera"]
    pictures, good, _ = load_pictures(found)
    assert good.tolist() == [0, 1, 2, 3]
    assert np.array_equal(pictures[2], colours(2).transpose(2, 0, 1))


def test_a_parquet_file_with_a_column_of_pictures(tmp_path, rows):
    rows.to_parquet(tmp_path / "a.parquet")
    holds_the_rows(find_pictures(tmp_path / "a.parquet"))
    assert recognises(tmp_path / "a.parquet") == recognises(tmp_path) == 0.9
    found = find_pictures(tmp_path / "a.parquet", target="camera")
    assert found.labels.tolist() == list("abab")


def test_a_folder_of_parquet_files_named_after_parts(tmp_path, rows):
    rows.to_parquet(tmp_path / "train-00000-of-00001.parquet")
    rows.to_parquet(tmp_path / "test-00000-of-00001.parquet")
    found = find_pictures(tmp_path)
    assert found.parts.tolist() == ["test"] * 4 + ["train"] * 4
    assert found.names[0] == "test/0.png"
    (tmp_path / "test-00000-of-00001.parquet").rename(tmp_path / "more.parquet")
    with pytest.raises(DataError, match="name each after its part, such as train.parquet"):
        find_pictures(tmp_path)


def test_plain_bytes_are_pictures_too(tmp_path):
    frame = pd.DataFrame({"picture": [packed(colours(s)) for s in range(3)], "kind": list("aba")})
    frame.to_parquet(tmp_path / "a.parquet")
    found = find_pictures(tmp_path / "a.parquet", target="kind")
    assert found.labels.tolist() == list("aba") and found.names == ["0", "1", "2"]
    pd.DataFrame({"kind": list("ab")}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match="no column of pictures; it has kind"):
        find_pictures(tmp_path / "b.parquet")


def test_a_damaged_parquet_file_is_named(tmp_path, rows):
    rows.to_parquet(tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a\.parquet cannot be read: "):
        find_pictures(tmp_path / "a.parquet")


def test_a_folder_that_datasets_saved(tmp_path, rows):
    rows.save_to_disk(tmp_path / "one")
    holds_the_rows(find_pictures(tmp_path / "one"))
    parts = datasets.DatasetDict({"train": rows, "test": rows.select([1])})
    parts.save_to_disk(tmp_path / "parts")
    found = find_pictures(tmp_path / "parts")
    assert found.parts.tolist() == ["train"] * 4 + ["test"]
    assert recognises(tmp_path / "one") == recognises(tmp_path / "parts") == 0.9
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "texts")
    assert recognises(tmp_path / "texts") == 0.0


def test_the_reader_of_the_hub_reads_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for part in ("train", "test"):
        class_folders(tmp_path / "photos" / part, {"cats": 2, "dogs": 1})
    found = find_in_datasets(str(tmp_path / "photos"), None, hub=True, needed=True)
    assert sorted(found.parts) == ["test"] * 3 + ["train"] * 3
    assert set(found.labels) == {"cats", "dogs"}
    pictures, good, _ = load_pictures(found)
    assert len(pictures) == len(good) == 6


def test_a_set_that_the_hub_does_not_have_is_named(tmp_path):
    with pytest.raises(DataError, match="the data set .*gone cannot be loaded: "):
        find_in_datasets(str(tmp_path / "gone"), None, hub=True, needed=True)


def test_a_path_in_a_row_is_read_only_below_its_folder(tmp_path):
    saved(tmp_path / "set" / "in.png")
    saved(tmp_path / "out.png")
    held = [
        {"bytes": None, "path": path}
        for path in ("in.png", "../out.png", str(tmp_path / "out.png"))
    ]
    frame = pd.DataFrame({"image": held, "label": list("aab")})
    frame.to_parquet(tmp_path / "set" / "a.parquet")
    pictures, good, notes = load_pictures(find_pictures(tmp_path / "set" / "a.parquet"), bad="skip")
    assert good.tolist() == [0]
    assert any("'../out.png' in row 1 is no file below" in note for note in notes)


def test_a_blank_picture_counts_as_bad(tmp_path):
    frame = pd.DataFrame({"image": [packed(colours()), None], "label": list("ab")})
    frame.to_parquet(tmp_path / "a.parquet")
    _, good, notes = load_pictures(find_pictures(tmp_path / "a.parquet"), bad="skip")
    assert good.tolist() == [0] and any("1 is empty" in note for note in notes)


def test_other_files_are_no_source(tmp_path):
    with pytest.raises(DataError, match=r"a\.txt is no source of pictures; give a folder"):
        find_pictures(touched(tmp_path / "a.txt"))
