"""The packaged encoder, where it is installed. Nothing heavy is imported here."""

from stackwise import data

ENCODER = "minilm"


def missing() -> str | None:
    """What brings the encoder; None where it is here."""
    return data.lacking(ENCODER, "model")
