"""A hook of MkDocs: every method's page stands in the navigation, found by being there."""

from pathlib import Path
from typing import Any

from stackwise.catalog import VERBS, cards


def on_config(config: Any) -> Any:
    """Put the pages under `Methods`, a room for each verb, after the page that lists them."""
    there = {path.stem for path in (Path(config["docs_dir"]) / "methods").glob("*.md")}
    methods = next(room["Methods"] for room in config["nav"] if "Methods" in room)
    for verb in VERBS:
        pages = [
            {of.title: f"methods/{of.slug}.md"}
            for of in cards(baselines=False).values()
            if of.verb == verb and of.slug in there
        ]
        if pages:
            methods.append({verb: pages})
    return config
