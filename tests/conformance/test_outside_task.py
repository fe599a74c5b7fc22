"""A whole task and two methods from another package, with no file of this one edited."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from stackwise import load
from stackwise.catalog import cards, tasks
from stackwise.conformance import CHECKS, TASK_CHECKS, check, check_task

HERE = Path(__file__).parent


@pytest.fixture
def outside(tmp_path, monkeypatch, command):
    """The package, installed for this process, and a way to call commands beside a file of it."""
    place = tmp_path / "site"
    info = place / "next_numbers-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: next-numbers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[stackwise.tasks]\nnext-numbers = next_numbers.task\n"
        "[stackwise.methods]\nnext-numbers = next_numbers.methods\n"
    )
    monkeypatch.setenv("STACKWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.syspath_prepend(str(HERE))
    importlib.invalidate_caches()
    monkeypatch.chdir(tmp_path)
    first = np.random.default_rng(1).normal(size=(60, 3))
    rows = np.hstack([first, first.sum(1, keepdims=True)])
    text = "".join(",".join(f"{value:.6f}" for value in row) + "\n" for row in rows)
    Path("sums.numbers").write_text(text)
    Path("new.numbers").write_text("1,2,3\n4,5,6\n")
    return command


def test_it_is_listed_with_its_task(outside):
    assert tasks()["next-numbers"].package == "next_numbers"
    listed = {item["slug"]: item for item in json.loads(outside("list", "--json")[1])}
    assert listed["adder"]["tasks"] == ["next-numbers"]
    assert "last-number" not in listed
    code, out, _ = outside("list", "--task", "next-numbers")
    assert code == 0 and "adder" in out and "tabm" not in out


def test_it_is_fitted_resumed_predicted_and_reported(outside):
    words = ("fit", "adder", "sums.numbers", "--preset", "quick", "--shift", "1", "--out", "run")
    code, out, err = outside(*words)
    assert code == 0, err
    assert "mse" in out and "NEW -o predictions.txt" in out
    record = json.loads(Path("run/run.json").read_text())
    assert record["data"]["task"] == "next-numbers" and record["data"]["options"]["shift"] == 1.0
    assert not Path("run/columns.json").exists()
    assert outside(*words, "--resume")[0] == 0
    code, _, err = outside("predict", "run", "new.numbers", "-o", "p.txt", "--digits", "2")
    assert code == 0, err
    said = [float(line) for line in Path("p.txt").read_text().splitlines()]
    assert np.allclose(said, load("run").predict([[1, 2, 3], [4, 5, 6]]), atol=0.01)
    assert outside("report", "run", "--out", "page.html")[0] == 0
    assert "mse" in Path("page.html").read_text()


def test_its_own_options_are_shown_and_read(outside):
    _, out, _ = outside("fit", "adder", "sums.numbers", "-h")
    assert "--shift" in out and "--reverse" in out and "--target" not in out
    code, out, _ = outside("compare", "sums.numbers", "--shift", "2", "--reverse", "--dry-run",
                           "--json")  # fmt: skip
    found = json.loads(out)
    assert code == 0
    assert found["data"]["options"] == {"shift": 2.0, "reverse": True}
    assert set(found["methods"]) == {"adder", "last-number"}
    code, _, err = outside("compare", "sums.numbers", "--target", "price")
    assert code == 2 and err.count("\n") == 1


def test_methods_are_compared_on_it(outside):
    code, _, err = outside("compare", "sums.numbers", "--preset", "quick", "--seeds", "2",
                           "--set", "adder.lr=0.05", "--out", "cmp")  # fmt: skip
    assert code == 0, err
    study = json.loads(Path("cmp/study.json").read_text())
    assert {row["method"] for row in study["ranking"]} == {"adder", "last-number"}
    assert study["importance"] == [] and not study["failures"]
    assert "is the one to keep" in Path("cmp/report.html").read_text()
    assert outside("predict", "cmp", "new.numbers", "-o", "p.txt")[0] == 0
    for words, says in ((("--bag", "2"), "cannot be bagged"), (("--stack",), "cannot be stacked")):
        code, _, err = outside("compare", "sums.numbers", *words)
        assert code == 2 and says in err


def test_a_transform_trains_its_learner_on_it(outside):
    fit = ("fit", "adder", "sums.numbers", "--preset", "quick", "--out", "run")
    assert outside(*fit)[0] == 0
    code, _, err = outside(
        "apply", "gradual-pruning", "run", "--data", "sums.numbers", "--set", "sparsity=0.5",
        "--set", "epochs=4", "--set", "every=1", "--out", "pruned",
    )  # fmt: skip
    assert code == 0, err
    pruned = load("pruned")
    weight = pruned.network_.blocks[0].weight
    assert (weight == 0).float().mean() == 0.5
    scores = json.loads(Path("pruned/run.json").read_text())["scores"]
    assert scores["test"]["mse"] > 0


def test_it_is_held_to_every_check(outside):
    assert check_task("next-numbers") == list(TASK_CHECKS)
    for slug in ("adder", "last-number"):
        assert cards()[slug].package == "next_numbers"
        assert check(slug) == list(CHECKS)


def test_a_package_that_cannot_be_imported_is_left_out_and_named(outside, tmp_path, caplog):
    info = tmp_path / "site" / "torn-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torn\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[stackwise.tasks]\ntorn = torn_package.task\n[stackwise.methods]\nraising = raising\n"
    )
    (tmp_path / "site" / "raising.py").write_text("raise RuntimeError('half installed')\n")
    importlib.invalidate_caches()
    listed = {item["slug"] for item in json.loads(outside("list", "--json")[1])}
    assert {"adder", "tabm"} <= listed
    assert "torn_package.task of stackwise.tasks is left out" in caplog.text
    assert "half installed" in caplog.text
