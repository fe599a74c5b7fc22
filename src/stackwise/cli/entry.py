"""Run the command line, and turn what goes wrong into one sentence and an exit code."""

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from stackwise import processes
from stackwise.cli.options import app
from stackwise.errors import Interrupted, StackwiseError


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 2 bad input, 130 interrupted."""
    from typer.main import get_command

    debug = "--debug" in sys.argv
    sys.exit(_guarded(lambda: get_command(app).main(standalone_mode=False), debug))


def _guarded(work: Callable[[], Any], debug: bool) -> int:
    """Run `work`; turn an error of the caller's into one sentence."""
    try:
        done = work()
        processes.leave()
        sys.stdout.flush()
    except (Interrupted, KeyboardInterrupt) as error:
        sentence = str(error) or "Interrupted"
        return _fail(f"{sentence}; repeat the command with --resume to go on", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        usage = getattr(error, "format_message", None)
        if usage is not None:
            return _fail(usage(), 2)
        if type(error).__name__ == "Abort":
            return _fail("Interrupted; repeat the command with --resume to go on", 130)
        if isinstance(error, (StackwiseError, OSError)):
            return _fail(str(error), 2, once=True)
        return _fail(
            f"{type(error).__name__}: {error} (a fault in stackwise or a plug-in; "
            "repeat with --debug to see where)",
            1,
        )
    return done if isinstance(done, int) else 0


def _fail(sentence: str, code: int, *, once: bool = False) -> int:
    """Say what went wrong; of several processes that found the same, the first alone."""
    if processes.is_first() or not once:
        sys.stderr.write("Error: " + " ".join(sentence.split()) + "\n")
    return code
