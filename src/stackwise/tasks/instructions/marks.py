"""How chats are known before they are read."""

from typing import Any

from stackwise.marks import first_record, is_named

ASKED = ("prompt", "question", "instruction")
ANSWERED = ("response", "completion", "output", "answer")


def recognises(source: Any) -> float:
    """A named set of chats surely; records of messages, or of something asked and answered."""
    if is_named(source, "chats"):
        return 1.0
    record = first_record(source)
    if {"messages", "conversations"} & set(record):
        return 0.9
    return 0.8 if {*ASKED} & set(record) and {*ANSWERED} & set(record) else 0.0
