"""stackwise: published ideas for networks built as stacks, on your own data and models.

The names of the methods come from the catalog's index and are imported when they are used, so
that `import stackwise` costs next to nothing.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "Stack": "stackwise.stack:Stack",
    "Findings": "stackwise.findings:Findings",
    "Knob": "stackwise.knobs:Knob",
    "load": "stackwise.studies:load",
    "compare": "stackwise.report:compare",
    "data": "stackwise.data:",
}
"""What is here besides the methods, whose names their cards say."""


def _targets() -> dict[str, str]:
    from stackwise.catalog import public_names

    return public_names() | _NAMES


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    target = _NAMES.get(name) or _targets().get(name)
    if target is None:
        raise AttributeError(f"module 'stackwise' has no attribute {name!r}")
    module, _, attribute = target.partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return sorted([*globals(), *_targets()])
