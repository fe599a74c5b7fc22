"""Keep `output_hidden_states` and `output_attentions` of transformers right inside a context.

transformers puts its recording hooks on every block the first time that somebody asks. Were that
to happen inside a context, they would go on the occurrences there and be missing from the blocks
afterwards. So what came on inside is taken off again at the end. Where hooks of ours stand on the
blocks, theirs are put on first, so that the order is the same whenever somebody asks.
"""

import sys
from collections.abc import Callable
from typing import Any

from torch import nn

from stackwise.stack.discovery import is_pretrained

INSTALLED = "_output_capturing_hooks_installed"


def keep_recording_right(model: nn.Module, first: bool) -> Callable[[], None]:
    """Returns what takes their hooks off again that came on after this call.

    Args:
        first: put them on now, before any others.
    """
    library: Any = sys.modules.get("transformers.utils.output_capturing")
    modules = list(model.modules())
    models = [module for module in modules if is_pretrained(module)]
    if library is None or any(getattr(module, INSTALLED, False) for module in models):
        return lambda: None
    before = [(module, set(module._forward_hooks)) for module in modules]
    if first:
        for outermost in models:
            if not getattr(outermost, INSTALLED, False):
                library.maybe_install_capturing_hooks(outermost)

    def remove() -> None:
        if not any(getattr(module, INSTALLED, False) for module in models):
            return
        for module, hooks in before:
            for added in module._forward_hooks.keys() - hooks:
                del module._forward_hooks[added]
        for module in models:
            vars(module).pop(INSTALLED, None)

    return remove
