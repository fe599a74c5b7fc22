"""Read collections to search in that packages carry: documents, queries, and which answer which."""

import ast
import importlib.util
import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LEAST, MOST = 5, 200
"""Documents that bear a tag which is asked for."""
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__"}
"""Folders of Python sources that are not read."""


def semanlink_search(file: Path) -> dict[str, list[Any]]:
    """Bookmarks by title and note. A query is the words of a tag, its answers the documents that
    bear it.
    """
    documents: list[dict[str, str]] = []
    bearers: dict[str, list[str]] = {}
    for number, one in enumerate(json.loads(file.read_text(encoding="utf-8"))):
        title = " ".join(str(one["title"] or "").split())
        text = " ".join(str(one["arxiv_summary"] or one["comment"] or "").split())
        if not any(sign.isalnum() for sign in title + text):
            continue
        documents.append({"_id": f"d{number}", "title": title, "text": text})
        for tag in dict.fromkeys(one["tag"]):
            bearers.setdefault(tag, []).append(f"d{number}")
    asked = {tag: ids for tag, ids in bearers.items() if LEAST <= len(ids) <= MOST}
    words = [tag.rpartition("/")[2].replace("_", " ") for tag in asked]
    queries = [{"_id": f"q{place}", "text": text} for place, text in enumerate(words)]
    judged = [(f"q{place}", one, 1) for place, ids in enumerate(asked.values()) for one in ids]
    return {"documents": documents, "queries": queries, "judgements": judged}


def docstrings(stdlib: Path) -> dict[str, list[Any]]:
    """Docstrings of Python's standard library, NumPy, SciPy and scikit-learn, parsed and never
    imported. A query is a summary line, its one answer the rest of that docstring.
    """
    documents: list[dict[str, str]] = []
    queries: list[dict[str, str]] = []
    judged: list[tuple[str, str, int]] = []
    for place, summary, rest in different_docstrings(stdlib):
        queries.append({"_id": f"q{len(queries)}", "text": summary})
        documents.append({"_id": place, "title": "", "text": rest})
        judged.append((queries[-1]["_id"], place, 1))
    return {"documents": documents, "queries": queries, "judgements": judged}


def different_docstrings(stdlib: Path) -> Iterator[tuple[str, str, str]]:
    """Place, summary and rest of docstrings, none of which is there twice."""
    seen: set[str] = set()
    for place, summary, rest in _every_docstring(stdlib):
        if summary.casefold() not in seen and rest not in seen:
            seen |= {summary.casefold(), rest}
            yield place, summary, rest


def standard_library() -> Path:
    """Where Python's own modules lie."""
    return Path(sysconfig.get_paths()["stdlib"])


def _every_docstring(stdlib: Path) -> Iterator[tuple[str, str, str]]:
    """Its place, summary and rest of every docstring that has both."""
    roots = [(stdlib, "")]
    for package in ("numpy", "scipy", "sklearn"):
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            roots.append((Path(place), f"{package}/"))
    for root, before in roots:
        for file in sorted(root.rglob("*.py")):
            inner = file.relative_to(root)
            if LEFT_OUT & set(inner.parts[:-1]):
                continue
            try:
                text = file.read_text(encoding="utf-8")
                tree = ast.parse(text) if '"""' in text else None
            except (OSError, ValueError, SyntaxError):
                continue
            if tree is not None:
                yield from _of_tree(tree, f"{before}{inner.as_posix()}")


def _of_tree(tree: ast.Module, file: str) -> Iterator[tuple[str, str, str]]:
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        found = ast.get_docstring(node) or ""
        summary, _, rest = found.partition("\n\n")
        summary, rest = " ".join(summary.split()), " ".join(rest.split())
        if 3 <= len(summary.split()) <= 30 and len(rest.split()) >= 8:
            name = getattr(node, "name", "")
            yield f"{file}:{getattr(node, 'lineno', 1)}:{name}", summary, rest
