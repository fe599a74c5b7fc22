"""Commands read their data options off the task that the data is: words are read twice."""

import inspect
import json
from pathlib import Path

import pandas as pd
import pytest

from stackwise.catalog import cards, tasks
from stackwise.cli.data_options import every_option, first_pass
from stackwise.errors import DataError, KnobError, UnknownName
from stackwise.studies import one_kind, read_sources
from stackwise.tasks import choose_task, open_task
from stackwise.tasks.table.task import TableTask


@pytest.fixture
def call(monkeypatch, command, tmp_path):
    """Call a command beside a small table and a text; gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    rows = {"day": [1, 2, 3, 4, 5] * 12, "b": list("xyz") * 20, "y": range(60)}
    pd.DataFrame(rows).to_csv("t.csv", index=False)
    Path("corpus.txt").write_text("a red box is beside a blue one. " * 60)
    Path("chats.jsonl").write_text('{"prompt": "say a", "response": "a"}\n' * 9)
    Path("asked.jsonl").write_text('{"question": "x?", "choices": ["a", "b"], "answer": "a"}\n' * 9)
    Path("either.jsonl").write_text('{"question": "x?", "answer": "a"}\n' * 9)
    return command


def test_the_value_of_an_option_is_no_source():
    words = ["a.csv", "--max-rows", "64", "--target=y", "--keep-columns", "b.csv", "--", "-odd"]
    arguments, given = first_pass(words, every_option())
    assert arguments == ["a.csv", "b.csv", "-odd"]
    assert given == {"--max-rows": ["64"], "--target": ["y"], "--keep-columns": [""]}


@pytest.mark.parametrize(
    ("source", "options", "expected"),
    [
        ("t.csv", [], "table"), ("corpus.txt", [], "text"), ("chats.jsonl", [], "instructions"),
        ("asked.jsonl", [], "choices"), ("wine", [], "table"), ("semanlink", [], "text"),
        ("chats.jsonl", ["target"], "table"), ("t.csv", ["length"], "text"),
    ],
)  # fmt: skip
def test_a_source_is_known_by_its_marks_and_by_the_options_given(call, source, options, expected):
    assert choose_task(source, options).name == expected


def test_what_two_tasks_know_alike_is_asked_for(call):
    with pytest.raises(DataError, match="may be choices or instructions"):
        choose_task("either.jsonl")
    assert choose_task("either.jsonl", asked="choices").name == "choices"
    with pytest.raises(DataError, match="no file, folder or data set 'wined'"):
        choose_task("wined")
    with pytest.raises(UnknownName, match="there is no task 'tables'"):
        choose_task("t.csv", asked="tables")
    with pytest.raises(UnknownName, match="tabm serves table, not text"):
        choose_task("t.csv", asked="text", among=["table"], who="tabm")
    with pytest.raises(KnobError, match="no task has an option"):
        choose_task("t.csv", ["colour"])


def test_help_behind_a_source_shows_what_that_data_may_be_asked(call):
    for words, shown, hidden in (
        (("fit", "tabm", "t.csv", "-h"), "--max-rows", "--length"),
        (("fit", "decoder", "corpus.txt", "--help"), "--length", "--max-rows"),
        (("compare", "chats.jsonl", "-h"), "--written", "--target"),
    ):
        code, out, _ = call(*words)
        assert code == 0 and shown in out and hidden not in out
    code, out, _ = call("fit", "-h")
    assert code == 0 and "Name the data before -h" in out


def test_help_shows_first_what_is_needed_then_the_data_and_last_how_it_runs(call):
    _, out, _ = call("compare", "t.csv", "--help")
    titles = [line for line in out.splitlines() if line.endswith(":") and line[0] != " "]
    assert titles == [
        "Arguments:", "Options:", "Options of this data (table):", "Further ways to fit:",
        "How it runs:",
    ]  # fmt: skip
    parts = dict(zip(titles, out.split("\n\n")[-len(titles) :], strict=True))
    assert "--seeds" in parts["Options:"] and "--time-limit" in parts["How it runs:"]
    assert "--target" in parts["Options of this data (table):"]
    assert "For example: stackwise compare sales.csv:price" in out


def test_short_help_fits_a_screen_and_names_what_is_needed_less_often(call):
    _, out, _ = call("compare", "t.csv", "-h")
    lines = out.rstrip().splitlines()
    assert len(lines) <= 45
    assert any(line.startswith("  --target <str>") for line in lines)
    assert "Further ways to fit: --tune --class-weight --bag --stack --refit" in lines
    assert "How it runs: --on --resume" in out and lines[-1] == "--help explains these, too."
    whole = call("compare", "t.csv", "--help")[1]
    assert all(f"  {word} " in whole for word in ("--tune", "--resume", "--debug"))


def test_options_stand_before_and_behind_a_source_and_with_still_works(call):
    for words in (
        ("--target", "y", "t.csv", "--max-rows=40"),
        ("t.csv", "--with", "target=y", "--with", "max_rows=40"),
        ("t.csv:y", "--max-rows", "40"),
    ):
        code, out, err = call("compare", *words, "--method", "linear", "--dry-run", "--json")
        assert code == 0, err
        found = json.loads(out)["data"]
        assert (found["target"], found["options"]["max_rows"]) == ("y", 40)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("fit", "tabm", "t.csv", "--length", "8"),
            "--length is an option of a text; this data is a table",
        ),
        (
            ("fit", "decoder", "corpus.txt", "--target", "y"),
            "--target is an option of images or labels or series or a table",
        ),
        (
            ("fit", "tabm", "t.csv", "--with", "length=8"),
            "length is an option of a text; this data is a table",
        ),
        (
            ("fit", "tabm", "t.csv", "--target", "y", "--with", "target=b"),
            "--target and --with target= say the same; give one of them",
        ),
        (("fit", "tabm", "t.csv", "--colour", "8"), "No such option: --colour"),
        (("fit", "tabm", "t.csv", "--target", "y", "--max-rows", "many"), "max_rows must be int"),
        (("compare", "t.csv:y", "corpus.txt"), "'corpus' is a text, the first a table"),
        (("compare", "corpus.txt:y"), "has a header and no rows"),
        (
            ("apply", "gradual-pruning", "nowhere", "--max-rows", "3"),
            "--max-rows is an option of anomalies or a detection or images or labels or series or "
            "a table or tags, and no such data is read here",
        ),
    ],
)
def test_an_option_of_other_data_is_refused_in_one_sentence(call, words, says):
    code, _, err = call(*words)
    assert code == 2 and says in err and err.count("\n") == 1


def test_bare_stackwise_prints_its_help_and_version_is_a_line(call):
    code, out, _ = call()
    assert code == 0 and "Usage" in out and "generate" in out
    assert call("--version")[1].startswith("stackwise ")


def test_several_sources_are_one_task_and_its_role_takes_the_value(call):
    Path("u.csv").write_text(Path("t.csv").read_text())
    sources = read_sources(["t.csv:y", "u.csv:day"], None, {})
    assert [(item.source, item.target) for item in sources] == [("t.csv", "y"), ("u.csv", "day")]
    kind = one_kind(sources, None)
    assert (kind.name, kind.role) == ("table", "target")
    with pytest.raises(KnobError, match="of one task"):
        one_kind(read_sources(["t.csv", "corpus.txt"], None, {}), None)


def test_an_option_under_its_older_name_is_read(call):
    task = open_task("table", "t.csv", {"target": "y", "seed": "3"})
    assert task.options["split_seed"] == 3
    with pytest.raises(KnobError, match="a table has no option 'colour'"):
        open_task("table", "t.csv", {"colour": 1})
    with pytest.raises(UnknownName, match="no task 'paintings'"):
        open_task("paintings", "t.csv", {})


def test_a_number_or_several_are_given_by_commas_or_by_repeating():
    for given, size in ((["8"], (8, 8)), (["8,12"], (8, 12)), (["8", "12"], (8, 12))):
        task = open_task("images", "digits", {"image_size": given, "max_rows": "60"})
        assert task.shape[1:] == size
    with pytest.raises(DataError, match="a side, or height and width"):
        open_task("images", "digits", {"image_size": ["8", "9", "10"]})


def test_the_index_says_what_load_takes():
    for of in tasks().values():
        taken = inspect.signature(of.load().load).parameters
        assert list(of.options) == [name for name in taken if name != "source"]
    assert {name for of in cards().values() for name in of.tasks} <= set(tasks())


def test_a_column_is_what_the_learner_read_it_as(call):
    words = ("fit", "masknet", "t.csv", "--target", "y", "--set", "categorical=day", "--preset",
             "quick", "--set", "max_epochs=1", "--out", "r")  # fmt: skip
    code, _, err = call(*words)
    assert code == 0, err
    columns = {
        item["column"]: item["kind"] for item in json.loads(Path("r/columns.json").read_text())
    }
    assert columns == {"y": "target", "day": "category", "b": "category"}
    assert {c["column"]: c["kind"] for c in TableTask.load("t.csv", target="y").columns}["day"] == (
        "number"
    )


def test_an_option_that_nobody_has_is_told_before_its_value_is_taken_for_data(command):
    code, _, err = command("compare", "wine", "--methods", "tabm", "--out", "out")
    assert code == 2 and err == "Error: no such option --methods. Did you mean '--method'?\n"
