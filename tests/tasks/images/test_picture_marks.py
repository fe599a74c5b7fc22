"""Pictures are known by marks alone, and no other task takes them."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from picture_files import class_folders, colours, saved, touched

from stackwise.catalog import tasks
from stackwise.tasks.images.marks import recognises
from stackwise.tasks.table.marks import recognises as is_table


def test_named_sets_and_arrays_are_sure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recognises("mnist-5k") == recognises("digits") == 1.0
    assert recognises("diamonds") == recognises("no such thing") == 0.0
    for shape in ((5, 8, 8), (5, 8, 8, 3)):
        array = np.zeros(shape, np.uint8)
        assert recognises(array) == recognises((array, [0] * 5)) == 1.0
        assert is_table(array) == 0.0
    for table in (np.zeros((5, 8)), pd.DataFrame({"a": [1]})):
        assert recognises(table) == 0.0
        assert is_table(table) == 1.0


def test_a_folder_a_class_is_known_with_and_without_parts(tmp_path):
    class_folders(tmp_path / "plain", {"cats": 1, "dogs": 1})
    class_folders(tmp_path / "parts" / "train", {"cats": 1})
    assert recognises(tmp_path / "plain") == recognises(str(tmp_path / "parts")) == 0.85


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_pictures_beside_metadata_are_known_before_any_other_task(tmp_path, name):
    saved(tmp_path / "a.PNG")
    touched(tmp_path / name, b"file_name,label\n")
    assert recognises(tmp_path) == 0.9
    assert all(of.recognises(tmp_path) < 0.9 for of in tasks().values() if of.name != "images")


def test_a_flat_folder_is_known_hardly(tmp_path):
    saved(tmp_path / "a.png")
    assert recognises(tmp_path) == 0.3
    touched(tmp_path / "b.csv")
    assert is_table(tmp_path) > recognises(tmp_path)


def test_files_are_known_by_their_endings(tmp_path):
    assert recognises("a.npz") == recognises("a.JPG") == 0.9
    assert recognises("a.csv") == recognises("a.txt") == 0.0
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "a.parquet")
    assert recognises(tmp_path / "a.parquet") == 0.0
    assert recognises(tmp_path) == 0.0
    np.save(tmp_path / "X.npy", colours()[None])
    assert recognises(tmp_path) == 0.9
    assert recognises([tmp_path / "a.png", "b.jpg"]) == 0.9


def test_neither_pillow_nor_torch_is_imported_to_know_pictures(tmp_path):
    class_folders(tmp_path, {"cats": 1})
    code = (
        "import sys; from stackwise.tasks.images.marks import recognises; "
        f"assert recognises({str(tmp_path)!r}) == 0.85; "
        "print([name for name in ('PIL', 'torch', 'pandas', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
