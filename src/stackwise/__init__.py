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
    "load": "stackwise.runs:load",
    "compare": "stackwise.studies:compare",
    "data": "stackwise.data:",
    "stack_predictions": "stackwise.combine.regularized_meta_learning:stack_predictions",
}


def _targets() -> dict[str, str]:
    from stackwise.catalog import cards

    methods = {entry.name: entry.target for of in cards().values() for entry in of.entries}
    return methods | _NAMES


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
