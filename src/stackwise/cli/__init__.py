"""The command line. Each command is a thin layer over a function of the library.

Answers go to stdout, progress to stderr. With `--json` stdout holds one JSON document and nothing
else. An error is one sentence and exit code 2; an interruption exits with 130 and says how to go
on. Nothing heavy is imported before a command needs it.
"""

# importing a command registers it; --help lists them in this order
from stackwise.cli.catalog import list_methods, show
from stackwise.cli.comparing import compare
from stackwise.cli.entry import main
from stackwise.cli.learning import fit, predict
from stackwise.cli.models import apply, probe
from stackwise.cli.options import app
from stackwise.cli.results import doctor, evidence, export, list_data, list_runs, report

__all__ = [
    "app", "apply", "compare", "doctor", "evidence", "export", "fit", "list_data", "list_methods",
    "list_runs", "main", "predict", "probe", "report", "show",
]  # fmt: skip
