"""Kills and failures at the writes of a run and of a study; it resumes to equal numbers."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackwise import load
from stackwise.errors import DataError, RunError, StorageError
from stackwise.files import write_tensors
from stackwise.runs import Run, derive_run, fit_run
from stackwise.runs.apart import forget_copies
from stackwise.studies import compare
from stackwise.tasks import open_task

TINY = {"k": 2, "width": 8, "max_epochs": 2}


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    x = np.arange(80) * 37 % 61 / 10
    return pd.DataFrame({"x": x, "y": 3 * x + np.arange(80) % 5})


@pytest.fixture(scope="module")
def task(rows) -> Any:
    return open_task("table", rows, {"target": "y"})


@pytest.fixture(scope="module")
def late() -> Any:
    """A table with a cell in its last test row that is no number, found once all has learned."""
    x = [str(value) for value in np.arange(80) * 37 % 61 / 10]
    part = ["train"] * 40 + ["validation"] * 20 + ["test"] * 20
    frame = pd.DataFrame({"x": [*x[:-1], "abc"], "part": part, "y": np.arange(80) * 1.37})
    return open_task("table", frame, {"target": "y", "split": "part"})


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def fitted(task: Any, out: Path, **more: Any) -> Run:
    return fit_run("tabm", task, out=out, knobs=TINY, threads=1, bag=2, **more)


@contextmanager
def at_replace(number: int, then: Any) -> Iterator[None]:
    """Call `then` in place of the `number`-th rename of a file into its place, from 0."""
    real, seen = os.replace, iter(range(1 << 30))

    def replace(source: Any, target: Any) -> None:
        if next(seen) == number:
            then(target)
        real(source, target)

    os.replace = replace
    try:
        yield
    finally:
        os.replace = real


def no_room(target: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))


def test_a_bagged_run_that_is_killed_at_a_write_resumes_to_the_same(task, tmp_path):
    whole = fitted(task, tmp_path / "whole")
    for number in (0, 3, 6, 9, 12):
        out = tmp_path / str(number)
        child = os.fork()
        if not child:
            with at_replace(number, lambda target: os._exit(9)):
                fitted(task, out)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        assert any(".part" in name for name in files(out))
        again = fitted(task, out, resume=True)
        assert files(out) == files(whole.folder)
        assert again.record["scores"] == whole.record["scores"]
        assert abs(again.record["size_bytes"] - whole.record["size_bytes"]) < 100  # digits of times


def test_a_full_disk_ends_a_study_in_one_sentence_and_it_resumes(rows, tmp_path):
    def compared(out: Path) -> Any:
        return compare(rows, target="y", out=out, methods=["linear"], seeds=2, preset="quick",
                       threads=1, resume=True)  # fmt: skip

    whole = compared(tmp_path / "whole")
    for number in (1, 3, 6, 9, 13):
        out = tmp_path / str(number)
        with pytest.raises(StorageError, match="cannot be written: No space"):  # noqa: SIM117
            with at_replace(number, no_room):
                compared(out)
        again = compared(out)
        assert again.record["failures"] == {}
        assert files(out) == files(whole.folder)
        for run, other in zip(again.runs, whole.runs, strict=True):
            assert run.record["scores"] == other.record["scores"]


def test_a_disk_that_fails_before_anything_is_learned_leaves_nothing(task, tmp_path):
    for number in (0, 1, 2):
        with pytest.raises(StorageError), at_replace(number, no_room):
            fitted(task, tmp_path / "run")
        assert files(tmp_path) == set()


def test_copies_that_cannot_be_removed_are_told_of(tmp_path, monkeypatch):
    (tmp_path / "choosing" / "0").mkdir(parents=True)

    def rmdir(path: Any, **more: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(os, "rmdir", rmdir)
    with pytest.raises(StorageError, match="choosing cannot be removed: Input/output error"):
        forget_copies(tmp_path)


def test_an_error_that_a_library_tells_in_its_own_words_is_one_of_the_disk(tmp_path, monkeypatch):
    def full(*given: Any, **more: Any) -> None:
        raise RuntimeError("Error while serializing: I/O error: No space left (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(StorageError, match=r"a\.safetensors cannot be written: No space left"):
        write_tensors(tmp_path / "a.safetensors", {})
    assert files(tmp_path) == set()


@pytest.mark.parametrize("bag", [None, 2])
def test_a_test_row_that_cannot_be_read_leaves_the_model_that_was_trained(late, bag, tmp_path):
    out = tmp_path / "deep" / "run"
    with pytest.raises(DataError, match=r"'abc'.*the fitted model is kept in .*run"):
        fit_run("linear", late, out=out, threads=1, bag=bag)
    assert Run(out).record["status"] == "fitted"
    assert len(load(out).predict(pd.DataFrame({"x": ["1.5", "2.5"]}))) == 2


def test_a_transform_whose_result_cannot_be_judged_keeps_it(task, late, tmp_path):
    fit_run("tabm", task, out=tmp_path / "base", knobs=TINY, threads=1)
    base = load(tmp_path / "base")
    with pytest.raises(DataError, match="'abc'"):
        derive_run("transform", "gradual-pruning", base, data=late, out=tmp_path / "pruned",
                   knobs={"sparsity": 0.5, "epochs": 4, "every": 1}, threads=1)  # fmt: skip
    assert len(load(tmp_path / "pruned").predict(pd.DataFrame({"x": ["1.5"]}))) == 1


def test_a_comparison_whose_runs_cannot_be_judged_keeps_them(late, tmp_path):
    with pytest.raises(RunError, match="no method could be fitted: .*'abc'"):
        compare(late, out=tmp_path / "study", methods=["linear"], seeds=1, threads=1)
    run = tmp_path / "study" / "runs" / "linear-seed0"
    assert len(load(run).predict(pd.DataFrame({"x": ["1.5"]}))) == 1
