"""What a method brings beside its module: committed evidence, a test, a page, a benchmark."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stackwise.catalog import Card, cards
from stackwise.evidence.claims import Verdict

ROOT = Path(__file__).parents[2]
METHODS = {slug: of for slug, of in cards(baselines=False).items() if of.package == "stackwise"}
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def module_text(of: Card) -> str:
    """The docstring of the method's package or module, where its paper stands."""
    parts = of.entries[0].target.partition(":")[0].split(".")
    root = ROOT / "src" / Path(*parts[:3])
    return (root / "__init__.py" if root.is_dir() else root.with_suffix(".py")).read_text()


@pytest.mark.parametrize("slug", METHODS)
def test_evidence_is_committed_with_its_provenance(slug: str):
    record = json.loads((ROOT / "results" / "evidence" / f"{slug}.json").read_text())
    assert record["slug"] == slug
    assert record["scale"] in ("cpu", "gpu")
    assert record["commit"] and record["machine"] and record["seconds"] > 0
    assert record["claims"]
    for claim in record["claims"]:
        assert claim["verdict"] in Verdict.__args__
        if claim["verdict"] == "not testable at this scale":
            assert claim["explanation"], f"{claim['id']} does not say why"
        else:
            assert claim["numbers"], f"{claim['id']} rests on no number"
            assert len(claim["seeds"]) >= 3, f"{claim['id']} rests on fewer than three seeds"


@pytest.mark.parametrize("slug", METHODS)
def test_a_test_a_page_and_a_benchmark_are_there(slug: str):
    name = slug.replace("-", "_")
    tests = list((ROOT / "tests" / METHODS[slug].verb).glob(f"test_{name}*.py"))
    assert tests, f"tests/{METHODS[slug].verb}/test_{name}*.py is missing"
    page = (ROOT / "docs" / "methods" / f"{slug}.md").read_text()
    written = page.partition("<!-- generated:")[0]
    assert len(written.split()) > 60, f"docs/methods/{slug}.md teaches nothing yet"
    assert (ROOT / "benchmarks" / f"{slug}.py").is_file()


@pytest.mark.parametrize("slug", METHODS)
def test_benchmarks_are_committed_and_a_slow_case_says_why(slug: str):
    record = json.loads((ROOT / "results" / "benchmarks" / f"{slug}.json").read_text())
    assert record["commit"] and record["machine"]
    assert len(record["cases"]) >= 3
    for case in record["cases"]:
        assert case["ratio"] >= 0.95 or case["reason"] not in ("", "not explained"), case


@pytest.mark.parametrize("slug", METHODS)
def test_a_page_teaches_with_a_picture_and_the_card_says_what_the_method_costs(slug: str):
    page = (ROOT / "docs" / "methods" / f"{slug}.md").read_text()
    assert f"../figures/{slug}.svg" in page
    assert (ROOT / "docs" / "figures" / f"{slug}.svg").is_file()
    assert METHODS[slug].cost


@pytest.mark.parametrize("slug", METHODS)
def test_the_module_names_its_paper_and_what_differs(slug: str):
    text = module_text(METHODS[slug])
    assert METHODS[slug].paper in text
    assert "differ" in text.lower()


@pytest.mark.parametrize("slug", [slug for slug, of in METHODS.items() if of.verified])
def test_the_test_that_verifies_a_method_is_there(slug: str):
    assert (ROOT / METHODS[slug].verified).is_file()


def calls(tree: ast.AST) -> set[str]:
    """The dotted names of what a module calls or imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            # tensors alone, of files whose hash is known: packages carry weights so
            tensors = any(ast.unparse(one) == "weights_only=True" for one in node.keywords)
            found.add(ast.unparse(node.func) + ("(weights_only)" if tensors else ""))
        elif isinstance(node, ast.Import):
            found |= {item.name for item in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{item.name}" for item in node.names} | {str(node.module)}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_files_are_read_as_data_only(path: Path):
    forbidden = {
        "pickle", "dill", "cloudpickle", "shelve", "marshal", "torch.load", "torch.save",
        "joblib.dump", "joblib.load", "eval", "exec",
    }  # fmt: skip
    assert not calls(ast.parse(path.read_text())) & forbidden


@pytest.mark.slow
def test_what_make_test_runs_finds_a_changed_index_and_a_changed_page(tmp_path: Path):
    for name in ("src", "docs", "results", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("Makefile", "README.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    with open(tmp_path / "src/stackwise/index.json", "a") as index:
        index.write("\n")
    page = tmp_path / "docs/methods/tabm.md"
    text = page.read_text()
    page.write_text(text.replace("| `k` |", "| `kk` |"))
    assert page.read_text() != text

    def made(*words: str) -> subprocess.CompletedProcess[str]:
        """make, in this environment instead of one that it installs, whoever started the tests."""
        command = ["make", *words, f"BIN={Path(sys.executable).parent}", "READY="]
        outer = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"}
        found = {name: value for name, value in os.environ.items() if name not in outer}
        found["PYTHONPATH"] = str(tmp_path / "src")
        return subprocess.run(command, cwd=tmp_path, env=found, capture_output=True, text=True)

    checks = made("--dry-run", "generated").stdout.splitlines()
    assert set(checks) <= set(made("--dry-run", "test").stdout.splitlines())
    done = made("--ignore-errors", "generated")  # goes on to the second check
    assert len(checks) == done.stderr.count("Error 1 (ignored)") == 2
    assert "index.json is not up to date: run 'make index'" in done.stderr
    assert "docs/methods/tabm.md" in done.stderr and "run 'make generate'" in done.stderr
