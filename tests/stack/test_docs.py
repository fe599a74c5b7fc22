"""The page that teaches the stack runs as it stands."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "stack.md"


def test_the_page_runs_from_top_to_bottom(tmp_path: Path) -> None:
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(snippets) >= 6
    source = "\n".join(snippets).replace("/tmp/shorter", str(tmp_path))
    exec(compile(source, str(PAGE), "exec"), {})
