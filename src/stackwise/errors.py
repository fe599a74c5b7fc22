"""The errors that stackwise raises for bad input.

Every one is a `ValueError` whose message is one sentence: what was wrong, with which value, and
what would be right. The command line prints that sentence and exits with code 2.
"""

from collections.abc import Iterable
from difflib import get_close_matches

from stackwise.shown import sentence


class StackwiseError(ValueError):
    """Something that the caller gave cannot be used.

    Its message may quote a cell or a name out of data; see `stackwise.shown.sentence`.
    """

    def __str__(self) -> str:
        return sentence(super().__str__())


class DataError(StackwiseError):
    """A data set cannot be read, or does not fit the model."""


class KnobError(StackwiseError):
    """A method was given an unknown or an out-of-range knob."""


class ModelError(StackwiseError):
    """A model is not of the kind that was asked for."""


class RunError(StackwiseError):
    """A run folder is missing, taken, unfinished or damaged."""


class StorageError(RunError):
    """A file cannot be written: no room, no right, a broken disk. It ends a whole study."""


class StudyError(StackwiseError):
    """A study cannot be done as it was asked for."""


class TrainingError(StackwiseError):
    """Training cannot go on, for example because the loss is not a number."""


class NothingLearned(TrainingError):
    """A fit ended well and made held-out data no better, so that nothing of it is kept."""


class OutOfTime(TrainingError):
    """A time limit leaves too little for what was begun; what is done of it stays."""


class UnknownName(StackwiseError):
    """No method, data set or model has this name."""


class NotInstalled(StackwiseError):
    """An optional part is not installed; the message names the command that installs it."""


class Interrupted(Exception):
    """Ctrl-C or SIGTERM stopped the work after the last checkpoint was written."""


def nearest(name: str, names: Iterable[str]) -> str:
    """The hint that ends an error about an unknown name.

    Returns:
        " Did you mean 'x'?" where something is close, otherwise the list of what there is.
    """
    known = sorted(names)
    close = [other for other in known if other.casefold() == name.casefold()]
    close = close or get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" There is {', '.join(known)}." if known else " There is none."
