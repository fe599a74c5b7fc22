"""The command line: what it prints, writes, refuses, and how it goes on after a kill."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stackwise import cli, load
from stackwise.catalog import cards
from stackwise.studies import Study

QUICK = ["--set", "k=2", "--set", "width=16", "--set", "max_epochs=3"]


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Call a command in `tmp_path` and give back (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["stackwise", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    yield call
    assert handlers == {n: signal.getsignal(n) for n in handlers}


@pytest.fixture
def table(sales, tmp_path) -> Path:
    path = tmp_path / "sales.csv"
    sales.to_csv(path, index=False)
    return path


def test_list_is_json_with_the_promised_fields(run):
    code, out, _ = run("list", "--json")
    found = {item["slug"]: item for item in json.loads(out)}
    assert code == 0
    assert {"tabm", "gradual-pruning", "depth-efficiency"} <= set(found)
    assert {"slug", "verb", "kinds", "tasks", "verified"} <= set(found["tabm"])
    assert found["tabm"]["kinds"] == ["learner"]
    assert found["tabm"]["verified"] is True
    assert "mlp" not in found


def test_list_takes_a_verb_and_a_task(run):
    found = [item["slug"] for item in json.loads(run("list", "--verb", "shrink", "--json")[1])]
    assert "gradual-pruning" in found and "tabm" not in found
    assert "tabm" in run("list", "--task", "table")[1]


def test_show_prints_knobs_with_their_ranges(run):
    code, out, _ = run("show", "tabm")
    assert code == 0
    assert "int, at least 1" in out
    document = json.loads(run("show", "tabm", "--json")[1])
    assert {"slug", "entries", "presets"} <= set(document)


def test_new_rows_are_read_as_the_first_were_and_noted_without_lines_of_source(run, tmp_path):
    rows = "".join(f"{v % 7},{'Köln' if v % 3 else 'Hof'},{v % 2}\n" for v in range(60))
    (tmp_path / "old.csv").write_text("größe,ort,y\n" + rows, encoding="latin-1")
    new = ("größe,ort,y\n" + rows).replace("Hof", "Ulm")
    (tmp_path / "new.csv").write_text(new, encoding="latin-1")
    words = ("old.csv", "--target", "y", "--encoding", "latin-1", "--out", "a")
    assert run("fit", "linear", *words)[0] == 0
    code, _, err = run("predict", "a", "new.csv", "-o", "p.csv")
    assert code == 0
    assert len(pd.read_csv(tmp_path / "p.csv")) == 60
    assert ".py" not in err


def test_fit_predict_report_and_load_from_one_table(run, table, sales, tmp_path):
    code, out, err = run("fit", "tabm", str(table), "--target", "price", *QUICK, "--out", "runs/a")
    assert code == 0, err
    assert "Next: stackwise predict runs/a" in out
    code, _, err = run("predict", "runs/a", str(table), "-o", "predictions.csv")
    assert code == 0, err
    predictions = pd.read_csv("predictions.csv")
    assert len(predictions) == len(sales)
    fitted = load("runs/a")
    features = sales.drop(columns="price")
    assert np.allclose(predictions["prediction"], fitted.predict(features))
    assert run("report", "runs/a", "--out", "page.html")[0] == 0
    assert "rmse" in Path("page.html").read_text()
    listed = json.loads(run("runs", ".", "--json")[1])
    assert [(item["slug"], item["status"]) for item in listed] == [("tabm", "finished")]


def test_a_pruned_run_is_a_run_again(run, table):
    assert run("fit", "tabm", str(table), "--target", "price", *QUICK, "--out", "runs/a")[0] == 0
    code, _, err = run(
        "apply", "gradual-pruning", "runs/a", "--data", str(table), "--set", "sparsity=0.8",
        "--set", "epochs=8", "--set", "every=1", "--out", "runs/b",
    )  # fmt: skip
    assert code == 0, err
    record = json.loads(Path("runs/b/run.json").read_text())
    assert record["model"]["hash"] and record["scores"]["test"]["rmse"] > 0
    assert run("predict", "runs/b", str(table), "-o", "p.csv")[0] == 0


def test_compare_takes_every_method_that_serves_the_table(run, table):
    code, out, _ = run("compare", str(table), "--target", "price", "--dry-run", "--json")
    serving = {
        slug for slug, of in cards().items()
        if any(e.kind == "learner" and e.problem in (None, "regression") and "table" in e.tasks
               for e in of.entries)
        and of.too_many(200) is None and of.lacking is None
    }  # fmt: skip
    assert code == 0 and set(json.loads(out)["methods"]) == serving
    assert serving >= {"tabm", "hopular", "mlp", "gradient-boosting", "linear"}


def test_compare_ends_with_a_page_and_a_winner_that_loads(run, table):
    methods = {"tabm", "mlp", "gradient-boosting", "linear"}
    code, out, err = run(
        "compare", str(table), "--target", "price", "--seeds", "2", "--preset", "quick",
        "--set", "tabm.k=2", "--set", "tabm.width=16", "--set", "tabm.max_epochs=2",
        "--set", "mlp.max_epochs=2", "--out", "cmp", "--json",
        *(word for slug in methods for word in ("--method", slug)),
    )  # fmt: skip
    assert code == 0, err
    document = json.loads(out)
    ranked = methods | {"tabm (piecewise)"}
    assert {row["method"] for row in document["ranking"]} == ranked
    assert "is the one to keep" in document["verdict"]
    assert all(row["low"] <= row["mean"] <= row["high"] for row in document["ranking"])
    assert not document["failures"]
    study = Study(Path("cmp"))
    assert len(study.runs) == 2 * len(ranked)
    assert hasattr(study.load(), "predict")
    assert run("predict", "cmp", str(table), "-o", "p.csv")[0] == 0
    assert len(pd.read_csv("p.csv")) == 300
    assert {item["column"] for item in study.record["importance"]} >= {"size", "kind"}
    page = Path("cmp/report.html").read_text()
    assert "is the one to keep" in page
    assert "http://" not in page.split("<script>")[0]


def test_several_tables_end_with_ranks_and_a_winner_for_each(run, table):
    code, out, err = run(
        "compare", f"{table}:price", "wine", "--method", "linear", "--method", "lightgbm",
        "--seeds", "1", "--preset", "quick", "--out", "bench",
    )  # fmt: skip
    assert code == 0, err
    assert "mean rank" in out and "bench/report.html" in out
    code, out, err = run("predict", "bench/wine", "wine", "-o", "p.csv")
    assert code == 0, err
    assert len(pd.read_csv("p.csv")) == 178


def test_predict_reads_the_record_of_a_run_once_for_the_words_the_model_and_the_rows(
    run, table, monkeypatch
):
    run("fit", "linear", str(table), "--target", "price", "--out", "r")
    read, reads = Path.read_text, []

    def watched(path, *given, **named):
        reads.append(path.name)
        return read(path, *given, **named)

    monkeypatch.setattr(Path, "read_text", watched)
    assert run("predict", "r", str(table), "-o", "p.csv")[0] == 0
    assert reads.count("run.json") <= 3


def test_a_bagged_fit_predicts_like_any_run(run, table):
    words = ("fit", "mlp", str(table), "--target", "price", "--preset", "quick", "--bag", "2")
    code, _, err = run(*words, "--out", "r")
    assert code == 0, err
    assert run("predict", "r", str(table), "-o", "p.csv")[0] == 0
    assert len(pd.read_csv("p.csv")) == 300
    assert run(*words, "--out", "r", "--resume")[0] == 0
    assert run("report", "r", "--out", "r.html")[0] == 0
    code, _, err = run("apply", "gradual-pruning", "r", "--data", str(table), "--out", "q")
    assert code == 2 and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fit", "tabmm", "sales.csv", "--target", "price"], "Did you mean 'tabm'"),
        (["fit", "tabm", "sales.csv", "--target", "prize"], "Did you mean 'price'"),
        (["fit", "tabm", "sales.csv", "--target", "price", "--set", "kk=3"], "'k'"),
        (["fit", "tabm", "sales.csv", "--target", "price", "--set", "k=0"], "at least 1"),
        (["fit", "tabm", "sales.csv", "--target", "price", "--set", "k"], "knob=value"),
        (["fit", "tabm", "sales.csv", "--target", "price", "--preset", "fast"], "preset"),
        (["fit", "tabm", "absent.csv", "--target", "price"], "absent.csv"),
        (["fit", "gradual-pruning", "sales.csv", "--target", "price"], "not a learner"),
        (["compare", "sales.csv", "--target", "price", "--set", "nope=8"], "no method of this"),
        (["compare", "sales.csv", "--target", "price", "--method", "tabn"], "tabm"),
        (["compare", "sales.csv", "--target", "price", "--seeds", "0"], "at least one seed"),
        (["compare", "sales.csv:prize", "wine"], "Did you mean 'price'"),
        (["compare", "absent.toml"], "no list of tables"),
        (["compare", "wine", "wine"], "two tables are called 'wine'"),
        (["compare", "sales.csv:price", "--tune", "0"], "--tune"),
        (["compare", "sales.csv:price", "--bag", "9999"], "cannot be parted into 9999 folds"),
        (["compare", "sales.csv:price", "--on", "dask"], "not on 'dask'"),
        (["fit", "mlp", "sales.csv", "--target", "price", "--bag", "1"], "--bag"),
        (["predict", "nowhere", "sales.csv"], "nowhere is not a stackwise run"),
        (["apply", "gradual-pruning", "nowhere"], "no model 'nowhere'"),
        (["probe", "depth-efficiency", "nowhere"], "no model 'nowhere'"),
        (["report", "nowhere"], "neither a run nor a study"),
        (["show", "depth"], "There is"),
        (["list", "--verb", "shrunk"], "Did you mean 'shrink'"),
        (["evidence", "tabm", "--scale", "huge"], "smoke, cpu, gpu"),
        (["fit"], "Missing argument"),
        (["fitt"], "No such command"),
    ],
)
def test_bad_input_gets_one_sentence_and_leaves_nothing(run, table, words, says):
    before = sorted(Path().rglob("*"))
    code, out, err = run(*words)
    assert code == 2, (out, err)
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"size,price\n", "no rows"),
        (b"\x00\x01\x02\xff\xfe" * 100, ""),
        (b"a,price\n1,2\n1,2,3,4\n" * 20, ""),
        ("größe,price\n1,2\n".encode("latin-1") * 20, "encoding"),
        (b"a,price\n" + b"1,5\n2,5\n" * 20, ""),
        (b"a,price\n" + b"1,\n2,\n" * 20, ""),
        (b"a,price\n" + b"1,inf\n2,3\n" * 20, "inf"),
        (b"a,price\n1,2\n", ""),
        (b"a,a,price\n" + b"1,2,3\n2,3,4\n" * 20, ""),
        (b"always,price\n" + b"".join(b"1,%d\n" % i for i in range(40)), ""),
    ],
    ids=["empty", "header only", "binary", "ragged", "encoding", "constant target",
         "missing target", "infinite target", "one row", "same names", "no feature"],
)  # fmt: skip
def test_a_broken_table_gets_one_sentence_and_leaves_nothing(run, tmp_path, content, says):
    (tmp_path / "broken.csv").write_bytes(content)
    code, _, err = run("fit", "tabm", "broken.csv", "--target", "price", *QUICK)
    assert code == 2, err
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["broken.csv"]


def test_a_folder_in_use_is_refused_and_resume_needs_the_same_command(run, table):
    words = ["fit", "tabm", str(table), "--target", "price", *QUICK, "--out", "a"]
    assert run(*words)[0] == 0
    code, _, err = run(*words)
    assert (code, "add --resume" in err) == (2, True)
    assert run(*words, "--resume")[0] == 0
    code, _, err = run(*words, "--set", "depth=1", "--resume")
    assert (code, "depth was not given and is 1;" in err) == (2, True)
    assert "{" not in err
    assert run("predict", "a", str(table), "-o", "p.csv")[0] == 0


def test_dry_run_checks_and_writes_nothing(run, table):
    before = sorted(Path().iterdir())
    code, out, _ = run("fit", "tabm", str(table), "--target", "price", "--dry-run")
    assert code == 0
    assert "nothing was run" in out
    assert sorted(Path().iterdir()) == before


def test_every_option_of_the_task_is_on_the_command_line(run):
    import inspect

    from stackwise.tasks.table.task import TableTask

    wanted = set(inspect.signature(TableTask.load).parameters) - {"source"}
    for words in (("fit", "tabm", "wine", "-h"), ("compare", "wine", "-h")):
        shown = run(*words)[1]
        assert all(f"--{name.replace('_', '-')} " in shown for name in wanted)
    assert "--target" not in run("fit", "decoder", "semanlink", "-h")[1]


@pytest.mark.slow
def test_a_comparison_killed_at_random_moments_ends_with_the_same_numbers(table, tmp_path):
    words = [
        sys.executable, "-m", "stackwise.cli", "compare", str(table), "--target", "price",
        "--seeds", "2", "--preset", "quick", "--method", "linear", "--method", "mlp",
        "--method", "tabm", "--set", "tabm.k=2", "--set", "tabm.width=16", "--set", "mlp.width=16",
        "--threads", "1", "--resume", "--out",
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    options = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    assert subprocess.run([*words, str(tmp_path / "whole")], **options).returncode == 0
    generator = random.Random(0)
    cut = tmp_path / "cut"
    finished: set[str] = set()
    for _ in range(5):
        process = subprocess.Popen([*words, str(cut)], **options)
        deadline = time.monotonic() + 60
        while not (cut / "plan.json").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(generator.uniform(0.0, 3.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        now = {
            path.parent.name
            for path in cut.glob("runs/*/run.json")
            if json.loads(path.read_text())["status"] == "finished"
        }
        assert finished <= now
        finished = now
    assert subprocess.run([*words, str(cut)], **options).returncode == 0

    def scores(folder: Path) -> dict[str, dict]:
        return {run.folder.name: run.record["scores"] for run in Study(folder).runs}

    assert scores(cut) == scores(tmp_path / "whole")
    kept = ("method", "mean", "low", "high", "rank", "validation")
    rankings = [
        [{name: row[name] for name in kept} for row in Study(folder).record["ranking"]]
        for folder in (cut, tmp_path / "whole")
    ]
    assert rankings[0] == rankings[1]


def test_an_interrupted_comparison_stops_and_goes_on(run, table, monkeypatch):
    words = [
        "compare", str(table), "--target", "price", "--seeds", "1", "--method", "tabm",
        "--method", "linear", "--set", "tabm.k=2", "--set", "tabm.max_epochs=3", "--out", "cmp",
    ]  # fmt: skip
    from stackwise import progress

    def stop(event):
        if event["state"] == "training" and event.get("epoch") == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(progress, "live_study", lambda quiet: contextlib.nullcontext(stop))
        code, _, err = run(*words)
    assert (code, "--resume to go on" in err) == (130, True)
    assert not Path("cmp/study.json").exists()
    assert run(*words, "--resume")[0] == 0
    assert len(Study(Path("cmp")).runs) == 3  # tabm takes part twice


def test_a_kept_column_stays_kept_when_a_run_is_transformed(run, tmp_path):
    step = np.arange(200)
    noise = np.random.default_rng(0).normal(size=200)
    frame = pd.DataFrame({"step": step, "x": noise, "price": 0.1 * step + noise})
    frame.to_csv(tmp_path / "t.csv", index=False)
    fit = ("fit", "tabm", "t.csv", "--target", "price", "--out", "a", *QUICK)
    assert run(*fit, "--keep", "step")[0] == 0
    assert load(tmp_path / "a").contract_.input_names == ["step", "x"]
    code, _, error = run(
        "apply", "gradual-pruning", "a", "--data", "t.csv", "--out", "b",
        "--set", "sparsity=0.5", "--set", "epochs=4", "--set", "every=1",
    )  # fmt: skip
    assert code == 0, error
    record = json.loads((tmp_path / "b" / "run.json").read_text())
    assert record["data"]["options"] == {"keep": ["step"]}
    assert load(tmp_path / "b").contract_.input_names == ["step", "x"]
