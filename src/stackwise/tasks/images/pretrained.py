"""The pretrained encoder of pictures, where it is installed. Nothing heavy is imported here."""

from pathlib import Path

from stackwise import data

ENCODER = "dinov2-small"


def lacking() -> str | None:
    """What brings the encoder; None where it is here."""
    return data.lacking(ENCODER, "model")


def encoder_folder() -> Path:
    """Its model folder; `NotInstalled` names the command that brings it."""
    return data.model(ENCODER)
