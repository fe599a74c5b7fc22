"""Tables without the packages of language models, and what a command that needs them says."""

import subprocess
import sys
from pathlib import Path

import pytest

ABSENT = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        absent = name.partition(".")[0] in {"transformers", "tokenizers", "datasets", "gguf"}
        return None if absent else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
from stackwise.cli import main
main()
"""
"""The command line of an installation without the extra `llm`."""


def without_llm(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ABSENT, *words], cwd=folder, capture_output=True, text=True,
        timeout=200,
    )  # fmt: skip


@pytest.mark.slow
def test_tables_are_fitted_compared_and_predicted_without_transformers(sales, tmp_path: Path):
    sales.to_csv(tmp_path / "sales.csv", index=False)
    given = ("sales.csv", "--target", "price", "--preset", "quick", "--out", "cmp")
    few = ("--method", "tabm", "--method", "lightgbm", "--seeds", "1", "--set", "max_epochs=2")
    done = without_llm(tmp_path, "compare", *given, *few)
    assert done.returncode == 0, done.stderr
    assert "is the one to keep" in (tmp_path / "cmp" / "report.html").read_text()
    done = without_llm(tmp_path, "predict", "cmp", "sales.csv", "-o", "answers.csv")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("fit", "decoder", "corpus.txt", "--out", "run"),
        ("probe", "depth-efficiency", "someone/a-model", "--out", "run"),
        ("fit", "mlp", "hf://someone/a-table", "--target", "price", "--out", "run"),
    ],
    ids=lambda words: words[1],
)
def test_what_needs_them_says_in_one_sentence_how_to_get_them(words, tmp_path: Path):
    (tmp_path / "corpus.txt").write_text("a few words\n" * 400, encoding="utf-8")
    done = without_llm(tmp_path, *words)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "pip install 'stackwise[llm]'" in done.stderr
    assert not (tmp_path / "run").exists()
