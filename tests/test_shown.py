"""Text out of data is shown escaped and cut, wherever a person reads it."""

import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from stackwise import spreadsheets
from stackwise.catalog import card
from stackwise.cli import main, printing
from stackwise.errors import DataError
from stackwise.figures import svg
from stackwise.findings import Findings
from stackwise.shown import cut, sentence, shown
from stackwise.tasks.table.predictions import read_predictions, write_predictions

WILD = "\x1b[2J\x1b[31mred\r\0\u202e\u2066\x07"
FORMULAS = ["=1+1", "+1", "-x", "@x", "\t=1", "\r=1", "'=1+1", "''+1", "plain", "-1.5", "o'x"]


def test_control_characters_and_marks_of_direction_are_escaped():
    assert shown("a\x1b[31m\n\tb\u202e") == r"a\x1b[31m\n\tb\u202e"
    assert shown("a\n\tb\x9b", lines=True) == "a\n\tb\\x9b"
    assert shown("naïve 漢字 👩‍🔬") == "naïve 漢字 👩‍🔬"
    assert cut("abcdef", 3) == "abc... (6 characters)"


def test_an_error_quotes_a_long_cell_in_part_and_stays_one_line():
    said = str(DataError(f"column {'c' * 500!r} holds {WILD * 300!r}, and {'x y' * 99!r}\n is it"))
    assert len(said) < 600 and said.isprintable() and "(500 characters)'" in said
    assert said.endswith("is it")
    plain = "the run's folder and its users' files are 'here' and " + "there " * 40
    assert sentence(plain) == plain
    assert len(sentence("'" * 1_000_000)) < 2100


def test_no_table_or_line_of_a_command_moves_the_cursor(capsys):
    printing._table(("name", WILD), [(WILD, "[red]x[/red] :smile:"), (1, "y" * 5000)])
    printing._print(WILD)
    out = capsys.readouterr().out
    folded = "".join(out.split())
    assert not set(out) & set("\x1b\r\0\u202e\u2066\x07")
    assert "[red]x[/red] :smile:" in out and "(5,000characters)" in folded


def test_a_refused_file_with_a_wild_column_is_one_clean_sentence(tmp_path, monkeypatch, capsys):
    table = tmp_path / "wild.csv"
    pd.DataFrame({WILD.replace("\0", "") + "z" * 9000: ["a"] * 9, "b": range(9)}).to_csv(
        table, index=False
    )
    words = ["fit", "linear", str(table), "--target", "absent", "--out", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", ["stackwise", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith("Error: ")
    assert "\x1b" not in said and "\u202e" not in said and len(said) < 2500


@pytest.mark.parametrize("label", ["<!--<script>", "$x_$", r"$\frac{$", WILD, "a$b$c", "]]>&"])
def test_a_chart_is_drawn_whatever_its_labels_hold(label):
    figure = Figure()
    axes = figure.add_subplot()
    axes.bar([0, 1], [1, 2], label=label)
    axes.set_title(label)
    axes.set_xticks([0, 1], [label, "b"])
    axes.legend()
    drawn = svg(figure, "a chart", name="c")
    assert not set(drawn) & set("\x1b\0\r\u202e")
    assert "<!--" not in drawn
    assert drawn.count("</text>") > 5


def test_texts_that_a_spreadsheet_would_run_are_written_as_texts_and_read_back():
    table = pd.DataFrame({"label": FORMULAS, "=n": range(len(FORMULAS))})
    made = spreadsheets.written(table)
    assert made["label"].tolist() == [
        "'=1+1", "'+1", "'-x", "'@x", "'\t=1", "'\r=1", "''=1+1", "'''+1", "plain", "-1.5", "o'x",
    ]  # fmt: skip
    assert list(made.columns) == ["label", "'=n"]
    pd.testing.assert_frame_equal(spreadsheets.read(made), table)


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "jsonl"])
def test_predicted_labels_run_in_no_spreadsheet(tmp_path, ending):
    labels = ["=1+1", "+1", "-x", "@x"]
    frame = pd.DataFrame({"a": np.repeat(list("pqrs"), 20), "=b": ["=SUM(A1)", "y"] * 40})
    target = np.array(labels)[np.arange(80) // 20]
    made = card("linear").entry("learner", "classification", task="table").load()
    fitted = made(penalty=1.0).fit(frame, target)
    safe, raw = tmp_path / f"safe.{ending}", tmp_path / f"raw.{ending}"
    write_predictions(safe, fitted, frame, keep_columns=True)
    write_predictions(raw, fitted, frame, keep_columns=True, raw=True)
    again = read_predictions(safe)
    assert again["prediction"].tolist() == fitted.predict(frame).tolist()
    assert again["=b"].tolist() == frame["=b"].tolist()
    assert sorted(set(again["prediction"])) == sorted(labels)
    pd.testing.assert_frame_equal(again, read_predictions(raw, raw=True))
    if ending in ("csv", "tsv"):
        cells = [cell for line in safe.read_text().splitlines() for cell in line.split("\t")]
        assert not any(c.lstrip('"').startswith(("=", "+", "@")) for c in cells)
        assert "=SUM(A1)" in raw.read_text() and "'=SUM(A1)" not in raw.read_text()


def test_findings_with_formulas_come_back_equal(tmp_path):
    table = pd.DataFrame({"x": [1.5, -2.0], "=y": ["@a", "b"]}, index=["=r", "+s"])
    Findings({"t": table}).save(tmp_path)
    assert "\n'=r," in (tmp_path / "t.csv").read_text()
    pd.testing.assert_frame_equal(Findings.load(tmp_path).tables["t"], table)
