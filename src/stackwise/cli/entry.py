"""Run the command line, and turn what goes wrong into one sentence and an exit code."""

import os
import sys
import warnings
from typing import Any, NoReturn

from stackwise import shown
from stackwise.cli.stopping import CODE, Stopping, answered, end_children, end_trackers
from stackwise.errors import Interrupted, StackwiseError
from stackwise.processes import is_first, leave

AGAIN = "repeat the command with --resume to go on"


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 2 bad input, 130 interrupted."""
    debug = "--debug" in sys.argv
    before = warnings.formatwarning
    warnings.formatwarning = before if debug else _as_note
    is_program = sys._getframe(1).f_globals.get("__name__") == "__main__"
    with answered() as stopping:
        try:
            code = _guarded(stopping, debug)
        except KeyboardInterrupt:  # while an error was being worded
            code = _interrupted(stopping.sentence)
        finally:
            warnings.formatwarning = before
        stopping.over()
    if is_program:
        end_trackers()
    if code == CODE and is_program:
        # an end in mid-import, say, would let the threads of that library bring the process down
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _command(stopping: Stopping) -> Any:
    """Find the command and do it."""
    # within the block that answers signals: these imports take a while
    from typer.main import get_command

    from stackwise.cli.commands import app

    every: Any = get_command(app)
    named = next((every.commands[word] for word in sys.argv[1:] if word in every.commands), None)
    if any(parameter.name == "resume" for parameter in getattr(named, "params", ())):
        stopping.sentence = f"Interrupted; {AGAIN}"
    return every.main(standalone_mode=False)


def _as_note(message: Warning | str, *_: Any, **__: Any) -> str:
    """A warning as a person reads it: a sentence, and no line of the source. It may quote data."""
    return f"Note: {shown.sentence(' '.join(str(message).split()))}\n"


def _guarded(stopping: Stopping, debug: bool) -> int:
    """Do the command; turn an error of the caller's into one sentence."""
    try:
        done = _command(stopping)
        if done == CODE:  # what typer makes of a KeyboardInterrupt
            return _interrupted(stopping.sentence)
        leave()
        sys.stdout.flush()
        stopping.over()
    except Interrupted as error:
        return _interrupted(f"{error}; {AGAIN}")
    except KeyboardInterrupt:
        return _interrupted(stopping.sentence)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        # some packages turn a KeyboardInterrupt into an error of their own
        if stopping.raised or type(error).__name__ == "Abort":
            return _interrupted(stopping.sentence)
        if debug:
            raise
        usage = getattr(error, "format_message", None)
        if usage is not None:
            return _fail(usage(), 2)
        if sentence := _ran_out(error):
            return _fail(sentence, 2)
        if isinstance(error, OSError) and isinstance(error.filename, str):
            return _fail(f"{error.filename} cannot be used: {error.strerror}", 2, once=True)
        if isinstance(error, (StackwiseError, OSError)):
            return _fail(str(error), 2, once=True)
        return _fail(
            f"{type(error).__name__}: {error} (a fault in stackwise or a plug-in; "
            "repeat with --debug to see where)",
            1,
        )
    return done if isinstance(done, int) else 0


def _ran_out(error: Exception) -> str | None:
    from stackwise.learning.memory import ran_out

    return ran_out(error)


def _interrupted(sentence: str) -> int:
    """End what was started, then say how to go on: it is the last that is said."""
    end_children()
    return _fail(sentence, CODE)


def _fail(sentence: str, code: int, *, once: bool = False) -> int:
    """Say what went wrong; of several processes that found the same, the first alone."""
    if is_first() or not once:
        sys.stderr.write("Error: " + shown.sentence(" ".join(sentence.split())) + "\n")
    return code
