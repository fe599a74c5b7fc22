"""Every command in the README and the docs runs as it is printed, on small files.

The commands of a page run in one folder in their order, since a later one names what an earlier one
wrote. Two things make them small without changing a word: training ends after its first epoch, as
a time limit ends it, and of the methods that a comparison picks by itself the quickest take part.
A command before which a launcher stands runs in this process alone, and so does one with a pool.
What no test can run is named here, so that a new command without a stand-in fails.
"""

import importlib
import importlib.util
import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from stackwise import cli, pool
from stackwise.cli.reading import default_out

sys.path.insert(0, str(Path(__file__).parent))
from stand_ins import lay_out

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = ("", "bash", "sh", "shell", "console")
KNOWN = ("stackwise ", "make ", "pip ", ". .venv/", "torchrun ", "accelerate ")
GIVEN = {
    "gradual-pruning": "mlp sales.csv --target price", "skan": "skan sales.csv --target price",
    "vit-reparam": "vit-reparam photos/ --set branches=1 --set width=12",
    "mamba-pkd": "residual-cnn photos/ --set width=4",
    "matryoshka": "residual-cnn photos/ --set width=4",
    "shallow-again": "residual-cnn photos/ --set width=4",
    "lattice-pruning": "row-lstm photos/ --set width=8",
    "dopamine": "mlp sales.csv --target price",
    "brainstacks": "mlp sales.csv --target price",
    "composable-sft": "mlp sales.csv --target price",
    "stackvae-g": "stackvae-g plant.csv --time timestamp --label fault --preset quick",
    "sortednet": "sortednet sales.csv --target price --preset quick",
    "multifaceted-visualization": "residual-cnn photos/ --set width=4",
    "rich-representations": "residual-cnn photos/ --set width=4",
    "bossnas": "bossnas photos/ --preset quick",
    "rcnet": "rcnet boxes/ --preset quick",
}  # fmt: skip
"""Pages whose commands begin with a run that is there, `runs/first`: its method and its data."""
DEEP = {"gstack": 7, "deepstack": 5}
"""Pages whose orders name, or whose methods need, more than four blocks of MODEL."""
QUICKEST = {
    "table": ("lightgbm", "tabm"),
    "text": ("decoder",),
    "images": ("linear", "residual-cnn"),
    "labels": ("word-counts",),
    "anomalies": ("z-score", "pca"),
    "rasters": ("k-means",),
    "detection": ("constant-boxes", "fpn-detector"),
    "tags": ("dictionary",),
    "series": ("dummy", "linear"),
    "vqa": ("most-frequent-answer", "low-view"),
}
"""By task, of the methods that a comparison would take by itself."""
SEARCHED = {"table": ("lightgbm", "xgboost")}
"""The same where each is fitted dozens of times."""
CLUSTER = "tables.toml --on ray"
"""Starting a cluster takes longer than all else here; tests/studies/test_schedule.py does."""


def lines_of(page: Path, *, marked: bool = False) -> list[str]:
    """The lines of a page's shell blocks, those that go on joined.

    Args:
        marked: only of the blocks that say that they are of a shell.
    """
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    kinds = SHELL[1:] if marked else SHELL
    bodies = [body for language, body in found if language in kinds]
    return [line for body in bodies for line in body.replace("\\\n", " ").splitlines() if line]


def commands(page: Path, *, marked: bool = False) -> list[str]:
    """The lines that are commands; in a block without a mark there may be figures of words."""
    return [
        line
        for line in lines_of(page, marked=marked)
        if re.sub(r"^([A-Z_]+=\S+ )+", "", line).startswith(KNOWN)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_shell_block_holds_no_command_that_is_not_known(page):
    assert lines_of(page, marked=True) == commands(page, marked=True)
    assert "```" not in re.sub(r"^```", "", page.read_text(), flags=re.MULTILINE)


def in_this_process(work, count, *, begins, **_):
    """What a pool does, where the fixture reaches it."""
    for place in range(count):
        begins(place)
        yield place, work(place)


@pytest.fixture
def small(monkeypatch):
    """Training ends after its first epoch, in this process, and comparisons take the quickest
    methods.
    """
    from stackwise.training import loop

    monkeypatch.setattr(loop.TrainingLoop, "_out_of_time", lambda self: self.epoch > 0)
    monkeypatch.setattr(pool, "side_by_side", in_this_process)
    if importlib.util.find_spec("uvicorn"):
        monkeypatch.setattr("uvicorn.run", lambda app, **_: None)  # which waits for visitors
    contenders = importlib.import_module("stackwise.studies.contenders")
    serving = contenders._all_serving

    def quickest(task):
        found = serving(task)
        if "--method" in sys.argv:
            return found
        picked = SEARCHED if "--tune" in sys.argv else QUICKEST
        wanted = picked.get(task.name, tuple(found))
        return {slug: of for slug, of in found.items() if slug in wanted}

    monkeypatch.setattr(contenders, "_all_serving", quickest)


def words_of(line: str) -> list[str]:
    """A command's words behind `stackwise`, without what launches it."""
    words = shlex.split(line, comments=True)
    if "-m" in words:
        words = words[words.index("-m") + 1 :]
    assert words[0] == "stackwise", line
    return words[1:]


def clear(words: list[str]) -> None:
    """Pages print alternatives that write to one folder: the earlier one's makes room."""
    if "--resume" in words or words[0] in (
        "predict",
        "generate",
        "search",
        "serve",
        "transform",
        "export",
        "report",
    ):
        return
    out = words[words.index("--out") + 1] if "--out" in words else ""
    slug, source = (words[0], words[1]) if words[0] == "compare" else (words[1], words[2])
    shutil.rmtree(Path(out) if out else default_out(words[0], slug, source), ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any("stackwise" in line for line in commands(page))],
    ids=lambda page: page.stem,
)
def test_the_commands_of_a_page_run_as_printed(page, small, tmp_path, monkeypatch, capsys):
    lay_out(tmp_path, blocks=DEEP.get(page.stem, 4))
    monkeypatch.chdir(tmp_path)
    lines = commands(page)
    if page.stem in GIVEN:
        lines.insert(0, f"stackwise fit {GIVEN[page.stem]} --out runs/first")
    for line in lines:
        if "stackwise" not in line or CLUSTER in line:
            continue
        words = words_of(line)
        clear(words)
        monkeypatch.setattr(sys, "argv", ["stackwise", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code, f"{line}\n{capsys.readouterr().err}"


def test_make_and_pip_name_what_there_is():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    named = [line for page in PAGES for line in commands(page) if line.startswith("make ")]
    assert named and {line.split()[1] for line in named} <= targets
    asked = {
        extra
        for page in PAGES
        for words in re.findall(r"pip install '?(?:stackwise|\.)\[([\w,]+)\]", page.read_text())
        for extra in words.split(",")
    }
    assert asked and asked <= set(extras)
