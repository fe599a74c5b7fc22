"""The page: complete, self-contained, and drawn by a browser without an error."""

import html.parser
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from stackwise.errors import RunError
from stackwise.report import build, number_text, seconds_text
from stackwise.studies import Study, compare

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
TINY = {"tabm": {"k": 2, "width": 16, "max_epochs": 2}, "mlp": {"width": 16, "max_epochs": 2}}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    frame = pd.DataFrame({"x": range(200), "kind": list("ab") * 100})
    frame["x"] = (frame["x"] * 37 % 101) / 10
    frame["label"] = ((frame["x"] > 5) ^ (frame.index % 7 == 0)).map({True: "y<es", False: "no"})
    folder = tmp_path_factory.mktemp("study") / "out"
    return compare(frame, target="label", out=folder, seeds=2, knobs=TINY, threads=1)


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
    assert all(address.startswith("data:") for address in reader.addresses)


def test_the_page_says_what_a_reader_asks(study: Study):
    text = (study.folder / "report.html").read_text()
    for words in ("Ranking", "95 % interval", "Which columns the winner uses", "The same again",
                  "Can the probabilities be trusted", "How they learned", "At what size",
                  "What was done with each column", "is the one to keep"):  # fmt: skip
        assert words in text
    assert "y<es" not in text.split("const figures")[0]


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
def test_a_browser_draws_every_chart_without_an_error(study: Study, tmp_path: Path):
    page = tmp_path / "page.html"
    watch = "<script>window.onerror = m => document.title = 'ERROR ' + m;</script>"
    source = (study.folder / "report.html").read_text()
    page.write_text(source.replace("<body>", "<body>" + watch))
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--virtual-time-budget=8000", "--window-size=400,900",
            f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "<title>ERROR" not in done.stdout
    drawn = done.stdout.count('class="main-svg"')
    assert drawn >= len([name for name in read(page).ids if name.startswith("chart-")])


def test_a_model_that_was_transformed_without_data_has_a_page(tmp_path: Path):
    from stackwise.conformance import small_language_model
    from stackwise.runs import derive_run

    run = derive_run("transform", "gstack", small_language_model(), out=tmp_path / "bigger")
    page = build([run.folder], tmp_path / "report.html")
    assert "Grow a trained model by stacking its blocks" in page.read_text()
