"""The command line. Each command is a thin layer over a function of the library.

Answers go to stdout, progress to stderr. With `--json` stdout holds one JSON document and nothing
else. An error is one sentence and exit code 2; an interruption exits with 130 and says how to go
on. Nothing heavy is imported before a command needs it; the commands are in `commands`.
"""

from stackwise.cli.entry import main

__all__ = ["main"]
