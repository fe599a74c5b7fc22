"""What commands say on a narrow terminal, where they write, and what they advise."""

import json
import tomllib
from pathlib import Path

import pytest

from stackwise import optional
from stackwise.catalog import cards
from stackwise.conformance import small_language_model

ROOT = Path(__file__).parents[1]


@pytest.fixture
def call(monkeypatch, command, tmp_path):
    """Call a command in `tmp_path`, 80 columns wide; gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return command


def test_list_breaks_no_word_and_shows_evidence_baselines_and_what_verified_means(call):
    out = call("list")[1]
    assert max(map(len, out.splitlines())) <= 80
    for slug, of in cards(baselines=False).items():
        if of.package == "stackwise":
            lines = out.split(f"  {slug}\n")[1]
            assert " ".join(lines.split()).startswith(of.title)
    claims = json.loads((ROOT / "results" / "evidence" / "tabm.json").read_text())["claims"]
    holds = sum(claim["verdict"] == "holds" for claim in claims)
    assert f"evidence: holds {holds}, " in " ".join(out.split("  tabm\n")[1].split())
    assert "gradient-boosting" in out and "verified: a test holds it" in out
    found = {item["slug"]: item for item in json.loads(call("list", "--json")[1])}
    assert found["tabm"]["evidence"]["holds"] == holds


def test_data_breaks_no_word(call):
    out = call("data")[1]
    assert max(map(len, out.splitlines())) <= 100  # a command to copy is not broken
    assert "  diamonds: 53,940 x 9, regression\n" in out


def test_doctor_knows_every_extra_of_a_user_and_advises(call, monkeypatch):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"]) - {"bench", "dev", "docs"}
    assert set(optional.EXTRAS.values()) == extras == set(optional.SERVES)
    monkeypatch.setitem(optional.EXTRAS, "no_such_module", "ray")
    document = json.loads(call("doctor", "--json")[1])
    state = next(value for name, value in document.items() if name.startswith("ray"))
    assert "not here (no_such_module): pip install 'stackwise[ray]'" in state
    assert any("--threads" in advice for advice in document["advice"])  # tests compute with one
    assert "Advice: " in call("doctor")[1]


def test_report_writes_a_page_into_the_folder_that_is_named(call):
    Path("t.csv").write_text("a,y\n" + "".join(f"{i},{2 * i}\n" for i in range(60)))
    assert call("fit", "linear", "t.csv", "--target", "y", "--out", "r")[0] == 0
    assert call("report", "r", "--out", "pages")[0] == 0
    assert call("report", "r", "--out", "one.html")[0] == 0
    assert Path("pages/report.html").is_file() and Path("one.html").is_file()
    assert ".html" in call("report", "-h")[1]


def test_a_file_that_the_system_refuses_is_told_without_a_number(command):
    name = 300 * "x"
    code, _, said = command("report", name)
    assert code == 2 and said.startswith(f"Error: {name}")
    assert said.endswith("cannot be used: File name too long\n") and "Errno" not in said


def test_apply_says_where_the_model_is(call):
    code, out, err = call("apply", "gstack", small_language_model(), "--out", "bigger")
    assert code == 0, err
    assert "The model is in bigger/model" in out and Path("bigger/model/config.json").is_file()


def test_a_folder_of_other_settings_says_which_without_a_dictionary(call):
    Path("t.csv").write_text("a,y\n" + "".join(f"{i},{2 * i}\n" for i in range(60)))
    words = (
        "compare",
        "t.csv",
        "--target",
        "y",
        "--method",
        "linear",
        "--seeds",
        "1",
        "--out",
        "c",
    )
    assert call(*words)[0] == 0
    code, _, err = call(*words, "--set", "linear.folds=2", "--preset", "quick", "--resume")
    assert code == 2 and "{" not in err
    assert (
        "linear.folds was not given and is 2" in err and "preset was not given and is quick" in err
    )


def test_the_columns_to_choose_from_are_all_named(call):
    names = [f"c{i}" for i in range(30)] + ["price"]
    rows = "\n".join(",".join(str(i + j) for j in range(31)) for i in range(30))
    Path("wide.csv").write_text(",".join(names) + "\n" + rows)
    code, _, err = call("fit", "linear", "wide.csv")
    assert code == 2 and "--target" in err and "price" in err


def test_class_weights_are_an_option_and_refused_where_there_are_no_classes(call):
    rows = "".join(f"{i * 37 % 50},{'no' if i % 10 else 'yes'}\n" for i in range(100))
    Path("c.csv").write_text("a,y\n" + rows)
    words = ("fit", "linear", "c.csv", "--target", "y", "--out", "w", "--class-weight")
    assert call(*words, '{"yes": 9}')[0] == 0
    assert json.loads(Path("w/run.json").read_text())["knobs"]["class_weight"] == {"yes": 9}
    code, _, err = call(*words[:5], "--out", "v", "--class-weight", '{"maybe": 2}')
    assert code == 2 and "'maybe', which is no class" in err
    Path("n.csv").write_text("a,y\n" + "".join(f"{i * 37 % 50},{i * 1.5}\n" for i in range(60)))
    code, _, err = call("compare", "n.csv", "--target", "y", "--class-weight", "balanced")
    assert code == 2 and "class_weight" in err


@pytest.mark.parametrize("slug", ["lightgbm", "xgboost"])
def test_boosters_say_how_many_trees_there_are(slug, tmp_path):
    from stackwise.catalog import card
    from stackwise.tasks import small_task
    from stackwise.training.session import session

    events = []
    task = small_task("table")
    learner = (
        card(slug).entry("learner", task.problem, task="table").load()(max_trees=5, patience=None)
    )
    with session(on_event=events.append):
        task.fit(learner)
    assert [e["steps"] for e in events] == [5] * len(events) and events[-1]["step"] == 5
