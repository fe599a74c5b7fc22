"""How questions are known before they are read."""

from typing import Any

from stackwise.marks import first_record
from stackwise.tasks.choices.options import column_names, keeps_apart


def recognises(source: Any) -> float:
    """Records of a question, its answer, and choices in a list or in columns."""
    record = first_record(source)
    if "question" in record and keeps_apart(record, "answer"):
        return 0.95
    if not {"question", "answer"} <= set(record):
        return 0.0
    has_choices = "choices" in record or column_names(record, {"question", "answer"})
    return 0.95 if has_choices else 0.8
