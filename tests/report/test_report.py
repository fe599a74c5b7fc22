"""The page: complete, self-contained, and drawn by a browser without an error."""

import html
import html.parser
import inspect
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import stackwise
from stackwise import studies
from stackwise.errors import RunError
from stackwise.files import read_json, write_json
from stackwise.findings import Findings
from stackwise.report import build, charts, number_text, seconds_text, sections
from stackwise.report.far_off import to_scale
from stackwise.runs import Run
from stackwise.studies import Study
from stackwise.tasks.table.baselines import LinearRegressor
from stackwise.tasks.table.task import TableTask

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
OLD_RUN = Path(__file__).parents[1] / "data" / "run-format-1"
MEASURE = """<script>
addEventListener("load", () => {
  const clashes = [], sizes = [];
  for (const svg of document.querySelectorAll("svg.chart")) {
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map(t => [t.textContent, t.getBoundingClientRect()]);
    const scale = frame.width / svg.viewBox.baseVal.width;
    for (const text of svg.querySelectorAll("text"))
      sizes.push(scale * parseFloat(getComputedStyle(text).fontSize));
    texts.forEach(([one, a], i) => {
      if (a.left < frame.left - 3 || a.right > frame.right + 3) clashes.push(one + " outside");
      for (const [other, b] of texts.slice(i + 1))
        if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
            Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3) clashes.push(one + " / " + other);
    });
  }
  const page = document.documentElement;
  parent.postMessage(JSON.stringify({
    clashes, charts: document.querySelectorAll("svg.chart").length, smallest: Math.min(...sizes),
    width: innerWidth, sideways: page.scrollWidth - page.clientWidth}), "*");
});
</script>"""  # noqa: E501
FRAME = """<body style="margin: 0"><script>
onmessage = message => document.title = "MEASURED " + message.data;
</script><iframe src="{page}" style="width: {width}px; height: 900px; border: 0"></iframe>"""
"""A window may not be as narrow as a phone; a frame in it may."""


class Reader(html.parser.HTMLParser):
    """Collects tags, identifiers and addresses of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids += [values["id"]] if "id" in values else []
        self.addresses += [values[name] for name in ("src", "href") if name in values]
        if tag not in ("meta", "img", "br", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text())
    assert reader.open == []
    return reader


def test_the_page_is_well_formed_and_needs_no_network(study: Study):
    reader = read(study.folder / "report.html")
    assert len(reader.ids) == len(set(reader.ids)) >= 7
    assert all(address.startswith(("data:", "#")) for address in reader.addresses)


def test_the_page_says_what_a_reader_asks(study: Study):
    text = (study.folder / "report.html").read_text()
    for words in ("Ranking", "95 % interval", "Which columns the winner uses", "The same again",
                  "Can the probabilities be trusted", "How they learned", "At what size",
                  "What was done with each column", "is the one to keep"):  # fmt: skip
        assert words in text
    assert "<script" not in text
    assert "y<es" not in text


def test_a_mark_says_its_values_and_a_chart_what_it_is(study: Study):
    text = (study.folder / "report.html").read_text()
    row = study.record["ranking"][0]
    assert f"<title>{row['method']}: log_loss {number_text(row['mean'])} (" in text
    assert re.search(r"<title>mlp: says 0\.\d\d, right [01]\.\d\d \(\d+ rows\)</title>", text)
    assert text.count('role="img" aria-label="') == text.count("<svg ") >= 7
    assert ">log_loss</text>" in text


def test_a_page_of_ten_methods_and_three_seeds_is_under_a_megabyte(large_study, tmp_path: Path):
    page = build([large_study], tmp_path / "page.html")
    read(page)
    assert page.stat().st_size < 1_000_000
    text = page.read_text()
    assert "regularized-meta-learning (all runs)</text>" in text
    assert "<title>a column with a rather long name, number 0: 1 ± 0.1</title>" in text


def test_the_page_of_a_table_of_numbers_shows_its_residuals(tmp_path: Path):
    text = build([OLD_RUN], tmp_path / "page.html").read_text()
    assert "Where tabm errs" in text and "Target minus prediction" in text
    answers = pd.read_parquet(OLD_RUN / "test_predictions.parquet")
    assert len(re.findall(r"<title>predicted [-\d.]+, off by", text)) == len(answers)


def test_a_record_of_a_time_before_tasks_is_of_a_table(tmp_path: Path):
    folder = shutil.copytree(OLD_RUN, tmp_path / "run")
    record = read_json(folder / "run.json")
    del record["data"]["task"]
    write_json(folder / "run.json", record)
    assert "Where tabm errs" in build([folder], tmp_path / "page.html").read_text()


def test_a_comparison_by_itself_makes_no_page_and_the_one_on_top_does(study: Study, tmp_path: Path):
    bare = studies.compare("iris", out=tmp_path / "bare", methods=["linear"], seeds=1, threads=1)
    assert (bare.folder / "study.json").is_file()
    assert not (bare.folder / "report.html").exists()
    again = stackwise.compare(
        "iris", out=tmp_path / "bare", methods=["linear"], seeds=1, threads=1, resume=True
    )
    assert again.record == bare.record
    assert "is the one to keep" in (bare.folder / "report.html").read_text()
    shown, below = (
        inspect.signature(one).parameters for one in (stackwise.compare, studies.compare)
    )
    assert set(shown) == {*below, "refit"} and list(shown)[:2] == ["source", "target"]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(RunError, match="neither a run nor a study"):
        build([tmp_path], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_numbers_and_durations_are_readable():
    assert [number_text(v) for v in (0.123456, 12.3456, 1234.5, 123456.0, None)] == [
        "0.1235", "12.35", "1,234.5", "123,456", "–",
    ]  # fmt: skip
    assert [seconds_text(v) for v in (0.0123, 5.0, 600.0)] == ["12.3 ms", "5.0 s", "10.0 min"]


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed; the parser test ran")
@pytest.mark.parametrize("width", [390, 1400])
def test_in_a_browser_no_label_is_over_another_or_too_small(
    large_study: Path, study: Study, tmp_path: Path, width: int
):
    for name, folder in (("large", large_study), ("small", study.folder)):
        page = build([folder], tmp_path / f"{name}.html")
        drawn = page.read_text().count("<svg ")
        page.write_text(page.read_text().replace("<body>", "<body>" + MEASURE))
        found = measured(page, width)
        assert found["charts"] == drawn >= 7
        assert found["width"] == width
        assert found["clashes"] == []
        assert found["smallest"] > 10  # pixels
        assert found["sideways"] == 0


def measured(page: Path, width: int) -> dict:
    """What `MEASURE` found in a window of this width."""
    outer = page.with_name("frame.html")
    outer.write_text(FRAME.format(page=page.name, width=width))
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--hide-scrollbars", "--virtual-time-budget=8000", "--window-size=1500,1000",
            f"--user-data-dir={page.parent / 'profile'}", "--dump-dom", outer.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    title = re.search(r"<title>MEASURED (.*?)</title>", done.stdout)
    assert title is not None, done.stdout[:500]
    return json.loads(html.unescape(title[1]))


def test_a_model_that_was_transformed_without_data_has_a_page(tmp_path: Path):
    from stackwise.conformance import small_language_model
    from stackwise.runs import derive_run

    run = derive_run("transform", "gstack", small_language_model(), out=tmp_path / "bigger")
    page = build([run.folder], tmp_path / "report.html")
    assert "Grow a trained model by stacking its blocks" in page.read_text()


def test_one_bad_method_does_not_press_the_others_together():
    drawn, off = to_scale([0.30, 0.31, 0.32, 0.35, 900.0], "min")
    assert off == [False, False, False, False, True]
    assert drawn[:4] == [0.30, 0.31, 0.32, 0.35]
    assert 0.35 < drawn[4] < 0.4
    drawn, off = to_scale([0.9, 0.89, 0.88, -5.0], "max")
    assert off == [False, False, False, True]
    assert 0.8 < drawn[3] < 0.88
    assert to_scale([1.0, 2.0, 3.0], "min") == ([1.0, 2.0, 3.0], [False] * 3)
    assert to_scale([1.0], "min") == ([1.0], [False])
    assert to_scale([1.0, 1.0, 7.0], "min")[1] == [False] * 3  # no distance to measure by


def test_learning_curves_run_on_over_phases(tmp_path: Path):
    lines = [
        {"epoch": epoch, "phase": phase, "metrics": {"validation_loss": 1.0 / (epoch + place)}}
        for place, phase in enumerate(("first", "second"), 1)
        for epoch in (1, 2, 3)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_json(tmp_path / "run.json", read_json(OLD_RUN / "run.json") | {"slug": "two"})
    chart = charts.learning_curves([Run(tmp_path)])
    (curve,) = [line for line in chart.figure.axes[0].lines if len(line.get_xdata()) > 1]
    assert list(curve.get_xdata()) == [1, 2, 3, 4, 5, 6]
    (tmp_path / "metrics.jsonl").write_text(json.dumps(lines[0]) + "\n")
    assert charts.learning_curves([Run(tmp_path)]) is None  # one dot has no course


def test_findings_are_sentences_and_values_in_words():
    found = Findings(summary={"sentence": "late blocks write less", "depth": 30, "share": 0.123456,
                              "notes": ["left out lens: it has no head."], "by class": {"a": 0.5},
                              "none": [], "kept": [0, 1, 3]})  # fmt: skip
    facts = sections._facts(found)
    assert facts["sentences"] == ["Late blocks write less.", "Left out lens: it has no head."]
    assert facts["values"] == {
        "Depth": "30", "Share": "0.1235", "By class": "a: 0.5", "Kept": "0, 1, 3",
    }  # fmt: skip


def test_importance_leaves_out_columns_of_which_nothing_is_used():
    frame = pd.DataFrame({"x": range(60), "same": 1, "id": [f"r{n}" for n in range(60)]})
    frame["y"] = frame["x"] * 2.0 + frame["x"] % 3
    task = TableTask.load(frame, target="y")
    learner = task.fit(LinearRegressor())
    assert [item["column"] for item in task.importance(learner)] == ["x"]


WILD = ["<!--<script>", "$x_$", "\x1b[31mred\u202e", "]]>&amp;", "-->", "a" * 300]


@pytest.fixture(scope="module")
def wild_page(tmp_path_factory) -> Path:
    """The page of a study whose columns and classes are pieces of HTML, formulas and escapes."""
    chance = np.random.default_rng(0)
    frame = pd.DataFrame({name: chance.normal(size=120) for name in WILD})
    frame["y"] = np.where(frame[WILD[0]] > 0, "<!--<script>", "$\\frac{$")
    out = tmp_path_factory.mktemp("wild") / "out"
    made = stackwise.compare(frame, target="y", out=out, methods=["linear", "gradient-boosting"],
                             preset="quick", seeds=1, threads=1)  # fmt: skip
    return made.folder / "report.html"


def test_whatever_columns_and_classes_are_called_the_page_is_whole(wild_page: Path):
    text = wild_page.read_text()
    read(wild_page)
    assert "<!--" not in text and "<script" not in text and not set(text) & set("\x1b\u202e")
    assert "&lt;!--&lt;script&gt;</text>" in text and "$x_$</text>" in text


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed; the parser test ran")
def test_in_a_browser_its_charts_are_all_there(wild_page: Path, tmp_path: Path):
    page = tmp_path / "page.html"
    text = wild_page.read_text()
    page.write_text(text.replace("<body>", "<body>" + MEASURE))
    found = measured(page, 1400)
    assert found["charts"] == text.count("<svg ") >= 4
