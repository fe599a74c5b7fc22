"""Files are replaced whole, and damaged ones are named."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stackwise.errors import RunError
from stackwise.files import read_json, read_tensors, replacing, write_json, write_tensors


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
