"""What a method brings beside its module: committed evidence, a test, a page, a benchmark."""

import ast
import json
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
            found.add(ast.unparse(node.func))
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


def test_the_index_and_the_generated_pages_are_checked_by_make():
    makefile = (ROOT / "Makefile").read_text()
    assert "stackwise.catalog --check" in makefile
    assert "generate.py --check" in makefile
