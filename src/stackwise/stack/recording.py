"""Keep `output_hidden_states` and `output_attentions` of transformers right inside a path.

transformers puts its recording hooks on every block the first time that somebody asks. Were that
to happen inside a path, they would go on the occurrences there and be missing from the blocks
afterwards. So they are put on before a path opens, and taken off again when it closes.
"""

import sys
from collections.abc import Callable
from typing import Any

from torch import nn

from stackwise.stack.discovery import is_pretrained

INSTALLED = "_output_capturing_hooks_installed"


def install_recording_hooks(model: nn.Module) -> Callable[[], None]:
    """Put on the hooks that are not there yet; returns what takes them off again."""
    library: Any = sys.modules.get("transformers.utils.output_capturing")
    models = [module for module in model.modules() if is_pretrained(module)]
    if library is None or any(getattr(module, INSTALLED, False) for module in models):
        return lambda: None
    before = [(module, set(module._forward_hooks)) for module in model.modules()]
    for outermost in models:
        if not getattr(outermost, INSTALLED, False):
            library.maybe_install_capturing_hooks(outermost)

    def remove() -> None:
        for module, hooks in before:
            for added in module._forward_hooks.keys() - hooks:
                del module._forward_hooks[added]
        for module in models:
            vars(module).pop(INSTALLED, None)

    return remove
