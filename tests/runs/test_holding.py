"""What a refusal leaves of a run's folder, and of those beside it."""

import shutil
from pathlib import Path

import pytest

from stackwise.errors import DataError, RunError
from stackwise.files import read_json, write_json
from stackwise.runs import opened
from stackwise.runs.record import model_bytes

DATA = Path(__file__).parents[1] / "data"


def test_a_refusal_before_anything_was_learned_leaves_nothing_but_the_folders_above(tmp_path):
    with pytest.raises(DataError), opened(tmp_path / "a" / "b", {"kind": "fit"}, resume=False):
        raise DataError("no rows")
    assert [path.name for path in tmp_path.rglob("*")] == ["a"]


def test_what_was_learned_stays_whatever_is_refused_later(tmp_path):
    with pytest.raises(DataError), opened(tmp_path / "a", {"kind": "fit"}, resume=False):
        (tmp_path / "a" / "model.json").write_text("{}")
        raise DataError("a cell of the test part cannot be read")
    assert (tmp_path / "a" / "model.json").exists()
    with opened(tmp_path / "a", {"kind": "fit"}, resume=True) as held:
        assert held.finished is False


def test_a_refusal_takes_nothing_along_that_another_command_wrote_beside_it(tmp_path):
    other = tmp_path / "runs" / "b"
    with pytest.raises(DataError), opened(tmp_path / "runs" / "a", {"kind": "fit"}, resume=False):
        other.mkdir()
        (other / "run.json").write_text("{}")
        raise DataError("no rows")
    assert (other / "run.json").exists()
    assert not (tmp_path / "runs" / "a").exists()


def test_a_kill_while_the_request_is_written_resumes(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".request-x1.part.json").write_text('{"ki')
    with opened(tmp_path / "a", {"kind": "fit"}, resume=True):
        assert [path.name for path in (tmp_path / "a").iterdir() if path.suffix == ".json"] == [
            "request.json"
        ]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "letter.txt").write_text("mine")
    with pytest.raises(RunError, match="holds no run"), opened(tmp_path / "b", {}, resume=True):
        pass
    assert (tmp_path / "b" / "letter.txt").exists()


def test_a_refusal_takes_back_what_was_said_and_leaves_a_folder_that_was_there(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(DataError), opened(tmp_path / "mine", {"kind": "fit"}, resume=False) as held:
        held.say("run.json", {"status": "running"})
        (tmp_path / "mine" / "runs").mkdir()
        raise DataError("no rows")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_a_run_that_learned_and_then_stopped_says_so(tmp_path):
    for error, status in ((DataError("bad cell"), "failed"), (KeyboardInterrupt(), "interrupted")):
        out = tmp_path / status
        with pytest.raises(type(error)), opened(out, {}, resume=False) as held:
            held.say("run.json", {"status": "running"})
            (out / "metrics.jsonl").write_text("{}\n")
            raise error
        assert read_json(out / "run.json")["status"] == status


def test_a_command_that_is_refused_as_another_one_leaves_the_run_as_it_was(tmp_path):
    with pytest.raises(KeyboardInterrupt), opened(tmp_path, {"seed": 0}, resume=False) as held:
        held.say("run.json", {"status": "running"})
        raise KeyboardInterrupt
    write_json(tmp_path / "run.json", {"status": "running"})  # as a kill leaves it
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RunError, match="seed was 0"), opened(tmp_path, {"seed": 1}, resume=True):
        pass
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_parts_are_swept_wherever_they_lie_but_for_those_of_other_runs(tmp_path):
    out = tmp_path / "study"
    with opened(out, {}, resume=False):
        pass
    (out / "fold-0").mkdir()
    (out / "runs" / "other").mkdir(parents=True)
    (out / "runs" / "other" / ".lock").touch()
    (out / ".model-x1.part").mkdir()
    for place in (out, out / "fold-0", out / "runs" / "other", out / ".model-x1.part"):
        (place / ".model-x2.part.safetensors").touch()
    with opened(out, {}, resume=True):
        left = {path.relative_to(out) for path in out.rglob("*part*")}
    assert left == {Path("runs/other/.model-x2.part.safetensors")}


def test_a_finished_run_that_was_killed_before_its_checkpoint_was_removed_drops_it(tmp_path):
    out = shutil.copytree(DATA / "run-format-1", tmp_path / "run")
    (out / "checkpoint").mkdir()
    (out / "checkpoint" / "0.safetensors").touch()
    with opened(out, read_json(out / "request.json"), resume=True) as held:
        assert held.finished
    assert not (out / "checkpoint").exists()


def test_the_bytes_of_a_model_are_those_of_whole_files_wherever_the_folder_lies(tmp_path):
    out = tmp_path / "checkpoint" / "run"
    (out / "checkpoint").mkdir(parents=True)
    (out / "model.safetensors").write_bytes(b"x" * 10)
    for name in (".model-x1.part.safetensors", "checkpoint/0.safetensors"):
        (out / name).write_bytes(b"x")
    assert model_bytes(out) == 10
