"""Damaged and foreign files of a run or a study: one sentence names the file, and others go on."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackwise import cli, load
from stackwise.errors import RunError, StackwiseError
from stackwise.files import read_json, write_json
from stackwise.report import build
from stackwise.report.sections import section
from stackwise.runs import Run
from stackwise.studies import Study, compare

DATA = Path(__file__).parents[1] / "data"
USELESS = (b"", b'{"format": 1, "sta', b"\xff\xfe{", b"[]", b"null", b"3", b'"x"', b"{}",
           b"[" * 100_000, b'{"format": 99}', b'{"format": [1]}')  # fmt: skip
"""Contents with which no file of a run can be read."""


def twisted(path: Path, others: tuple[Any, ...] = ([], 3, None)) -> Iterator[bytes]:
    """The content with each key missing, and with each value of another kind."""
    content = json.loads(path.read_text())
    for name in content if isinstance(content, dict) else ():
        yield json.dumps({key: value for key, value in content.items() if key != name}).encode()
        for other in others:
            yield json.dumps(content | {name: other}).encode()


def told(work: Any) -> str | None:
    """What a use refuses in one sentence; None where it goes through. Other errors are faults."""
    try:
        work()
    except StackwiseError as error:
        assert "\n" not in str(error)
        return str(error)
    return None


@pytest.fixture
def run(tmp_path) -> Path:
    return Path(shutil.copytree(DATA / "run-format-1", tmp_path / "run"))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A study of one method and two seeds."""
    place = tmp_path_factory.mktemp("made")
    x = np.arange(60) * 37 % 61
    pd.DataFrame({"x": x, "y": 3 * x + np.arange(60) % 5}).to_csv(place / "a.csv", index=False)
    compared(place)
    return place


@pytest.fixture
def study(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "made"))


def compared(place: Path) -> Study:
    return compare(place / "a.csv", target="y", out=place / "study", methods=["linear"], seeds=2,
                   preset="quick", threads=1, resume=True)  # fmt: skip


@pytest.mark.parametrize("name", ["run.json", "model.json"])
def test_a_useless_file_of_a_run_is_named(run, name):
    for content in USELESS:
        (run / name).write_bytes(content)
        assert name in (told(lambda: load(run)) or "")


@pytest.mark.parametrize("name", ["run.json", "model.json", "columns.json"])
def test_no_twist_in_a_file_of_a_run_is_a_fault(run, name):
    for content in twisted(run / name):
        (run / name).write_bytes(content)
        for use in (lambda: load(run), lambda: section(run)):
            assert str(run) in (told(use) or str(run))


def test_lines_of_the_history_that_are_none_are_left_out(run):
    sound = Run(run).history
    lines = (run / "metrics.jsonl").read_bytes()
    (run / "metrics.jsonl").write_bytes(b'3\n[]\n\xff\n{"metrics": {"a": "b"}}\n' + lines + b'{"ep')
    assert Run(run).history == sound != []


def test_a_damaged_run_does_not_hide_the_others(run, monkeypatch, capsys):
    other = Path(shutil.copytree(run, run.parent / "other"))
    (other / "run.json").write_text("{}")
    monkeypatch.chdir(run.parent)

    def called(*words: str) -> str:
        monkeypatch.setattr("sys.argv", ["stackwise", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
        return capsys.readouterr().out

    for words in (["runs", "."], ["report", "run", "other"]):
        assert "Left out: other/run.json is damaged" in called(*words)
    listed = json.loads(called("runs", ".", "--json"))
    assert [item["status"] for item in listed] == ["finished", "damaged"]
    with pytest.raises(RunError, match=r"other/run\.json"):
        build([Path("other")], Path("page.html"))


@pytest.mark.parametrize("name", ["study.json", "plan.json", "request.json"])
def test_a_useless_file_of_a_study_is_named_or_made_again(study, name):
    out = study / "study"
    for content in USELESS[:5]:
        (out / name).write_bytes(content)
        if name != "request.json":
            assert name in (told(lambda: section(out)) or "")
        problem = told(lambda: compared(study))
        assert problem is None or str(out / name) in problem
        assert (problem is None) == (name != "request.json")


@pytest.mark.parametrize("name", ["study.json", "plan.json"])
def test_no_twist_in_a_file_of_a_study_is_a_fault(study, name):
    for content in twisted(study / "study" / name, others=()):
        (study / "study" / name).write_bytes(content)
        assert (
            str(study) in (told(lambda: build([study / "study"], study / "a.html")) or "")
            or (study / "a.html").exists()
        )
        (study / "a.html").unlink(missing_ok=True)


@pytest.mark.parametrize(
    "name", ["run.json", "request.json", "columns.json", "test_predictions.parquet", "model.json"]
)
def test_a_damaged_run_is_named_and_the_study_goes_on_without_it(study, name):
    out = study / "study"
    kept = Study(out).winner.folder
    (kept / name).write_bytes(b"PAR1 or what")
    if name != "model.json" and name != "request.json":
        problems: list[str] = []
        build([out], out / "report.html", problems.append)
        assert str(kept / name) in problems[0]
    again = compared(study)
    assert str(kept / name) in again.record["failures"][kept.name]
    assert again.winner.folder != kept
    build([out], out / "report.html")


def test_a_newer_study_is_refused_as_such(study):
    path = study / "study" / "study.json"
    write_json(path, read_json(path) | {"format": 99})
    with pytest.raises(RunError, match=r"study\.json was written by a newer stackwise"):
        Study(path.parent).record  # noqa: B018
