"""Files are replaced whole, and damaged ones are named."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from stackwise.errors import RunError
from stackwise.files import (
    is_part,
    read_json,
    read_lines,
    read_tensors,
    replacing,
    whole_folder,
    write_json,
    write_tensors,
)


def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(RuntimeError), replacing(path) as beside:
        beside.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"old": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]


def test_json_holds_numpy_values_and_no_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"n": np.int64(3), "x": float("nan"), "a": np.arange(2), "p": tmp_path})
    text = path.read_text()
    assert json.loads(text) == {"n": 3, "x": None, "a": [0, 1], "p": str(tmp_path)}


def test_tensors_come_back_bit_for_bit_and_shared_storage_is_allowed(tmp_path: Path) -> None:
    base = torch.randn(4, 3)
    write_tensors(tmp_path / "t.safetensors", {"a": base, "b": base[:2], "t": base.T})
    back = read_tensors(tmp_path / "t.safetensors")
    assert torch.equal(back["a"], base)
    assert torch.equal(back["b"], base[:2])
    assert torch.equal(back["t"], base.T)


@pytest.mark.parametrize("content", [b"", b"{", b"\x80\x04\x95pickle", b"\x00" * 64])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    for name, read in (("m.safetensors", read_tensors), ("m.json", read_json)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RunError, match=name):
            read(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"run\.json does not exist"):
        read_json(tmp_path / "run.json")


def test_json_lines_end_at_a_line_feed_alone(tmp_path: Path) -> None:
    lines = [{"note": "one\u2028two\x85three"}, {"note": "four"}]
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text + '\n{"cut o', encoding="utf-8")
    assert read_lines(tmp_path / "metrics.jsonl") == lines


def test_a_part_that_a_kill_left_is_known_by_its_name(tmp_path):
    with replacing(tmp_path / "run.json") as beside:
        assert is_part(beside)
    assert not is_part(tmp_path / "run.json")


def test_the_files_of_a_folder_are_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    flushed = []
    real = os.fsync

    def fsync(handle):
        flushed.append((os.fstat(handle).st_ino, (tmp_path / "model").exists()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with whole_folder(tmp_path / "model") as beside:
        (beside / "within").mkdir()
        (beside / "config.json").write_text("{}")
        (beside / "within" / "weights").write_text("1")
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert len(files) == 2
    assert flushed == [*flushed[:2], (tmp_path.stat().st_ino, True)]
    assert set(flushed[:2]) == {(path.stat().st_ino, False) for path in files}
