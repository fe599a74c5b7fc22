"""The pages that teach the stack run as they stand."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("page", "fewest"), [("stack", 6), ("scale", 1), ("winner", 6)])
def test_the_page_runs_from_top_to_bottom(
    page: str, fewest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (DOCS / f"{page}.md").read_text()
    snippets = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(snippets) >= fewest
    source = "\n".join(snippets).replace('"/tmp/', f'"{tmp_path}/')
    exec(compile(source, page, "exec"), {})
