"""The catalog: a card for each method and each task, made where it is defined.

    @transform("angular-drop", title="...", paper="2403.00000")
    def angular_drop(model, data, *, keep: Annotated[int, Knob("blocks that stay", ge=1)]): ...

The decorator reads the signature, so that a new method is one module, a new task one folder, and
nothing else is edited. `cards()` and `tasks()` read an index that was made from the cards and
import no method; `Entry.load()` imports the one that is asked for.
"""

from stackwise.catalog.cards import FURTHER_VERBS, MODEL_KINDS, VERBS, Card, Entry, TaskCard
from stackwise.catalog.index import card, cards, collect, public_names, task_card, tasks
from stackwise.catalog.registering import (
    baseline,
    check_knobs,
    ensemble,
    learner,
    preset_values,
    probe,
    task,
    transform,
)
from stackwise.knobs import Knob, ModelRef

__all__ = [
    "FURTHER_VERBS", "MODEL_KINDS", "VERBS", "Card", "Entry", "Knob", "ModelRef", "TaskCard",
    "baseline", "card", "cards", "check_knobs", "collect", "ensemble", "learner",
    "preset_values", "probe", "public_names", "task", "task_card", "tasks", "transform",
]  # fmt: skip
