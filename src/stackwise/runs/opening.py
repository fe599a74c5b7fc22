"""Open a model from what names it, the deltas of `MODEL+RUN+RUN` put on."""

from pathlib import Path
from typing import Any

from stackwise.adapt import Delta, delta_folder
from stackwise.errors import ModelError, RunError
from stackwise.models import open_model
from stackwise.runs.folder import Run


def split_reference(reference: str) -> tuple[str, list[str]]:
    """The base and the deltas of `MODEL+RUN+RUN`.

    A `+` splits only where no such path exists: `a+b` is one folder where there is one of that
    name, and so is each part.

    Raises:
        ModelError: nothing stands before or behind a `+`.
    """
    pieces = reference.split("+")
    parts: list[str] = []
    while pieces:
        # as many pieces as make a path that is there, else one
        ends = range(len(pieces), 1, -1)
        end = next((n for n in ends if Path("+".join(pieces[:n])).exists()), 1)
        parts.append("+".join(pieces[:end]))
        pieces = pieces[end:]
    if not all(parts):
        raise ModelError(
            f"{reference!r} has nothing on one side of a '+': give MODEL+RUN, with a run or a "
            "folder that holds a delta behind each"
        )
    return parts[0], parts[1:]


def open_reference(reference: Any, *, trust_remote_code: bool = False) -> Any:
    """The model that is named, with its deltas on.

    Args:
        reference: as for `open_model`, and `MODEL+RUN+RUN`: a base, and runs or folders that hold
            deltas for it.

    Raises:
        ModelError: as for `open_model`; or a part holds no delta, or one for another base.
        RunError: a run is not finished.
    """
    if not isinstance(reference, (str, Path)):
        return open_model(reference)
    base, changes = split_reference(str(reference))
    deltas = [open_delta(change) for change in changes]  # before the model, which takes longer
    model = open_model(base, trust_remote_code=trust_remote_code)
    for delta in deltas:
        model = delta.prepared(model)
    for delta in deltas:
        delta.put(model)
    return model


def open_delta(reference: Path | str) -> Delta:
    """The delta that a finished run or a folder holds.

    Raises:
        ModelError: it holds none. RunError: the run is not finished.
    """
    folder = Path(reference)
    if (folder / "run.json").is_file() and not Run(folder).finished:
        raise RunError(f"{folder} is not finished; repeat its command with --resume")
    return Delta.load(delta_folder(folder))
