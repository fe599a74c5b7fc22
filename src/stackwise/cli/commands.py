"""All commands. Importing one registers it with the application; `--help` lists them in this order.

Apart from the package itself, whose import is the first thing that `stackwise` does and which has
to be quick: only then are Ctrl-C and SIGTERM answered.
"""

from stackwise.cli.catalog import list_methods, show
from stackwise.cli.comparing import compare
from stackwise.cli.learning import fit, predict
from stackwise.cli.models import apply, merge, probe
from stackwise.cli.options import app
from stackwise.cli.results import doctor, evidence, export, list_data, list_runs, push, report
from stackwise.cli.verbs import entry_with

__all__ = [
    "app", "apply", "compare", "doctor", "entry_with", "evidence", "export", "fit", "list_data",
    "list_methods", "list_runs", "merge", "predict", "probe", "push", "report", "show",
]  # fmt: skip
