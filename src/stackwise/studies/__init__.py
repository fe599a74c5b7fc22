"""A study: many runs under one plan, in one folder, that a kill does not lose.

    plan.json                 what was asked for
    tuning/<slug>.json        the knobs that a search chose
    runs/<slug>-seed<seed>/   one run each
    study.json                ranking, winner, failures
    report.html               the page to show

`compare` is the study that most users want: every method that serves the task and the baselines,
on the same split, with the same budget, over several seeds; `compare_tables` does it on several
tables and ranks the methods over them. The seed of a run sets its weights and its batches; the
split is that of the task and the same for all. The winner is chosen by the validation score; the
test part only says how good each one is.
"""

from stackwise.studies.compare import compare, opened_source, with_role
from stackwise.studies.contenders import EVERY, plan
from stackwise.studies.leaderboard import leaderboard
from stackwise.studies.opening import load
from stackwise.studies.ranking import rank
from stackwise.studies.study import Study
from stackwise.studies.tables import Benchmark, compare_tables, one_kind, read_sources

__all__ = [
    "EVERY", "Benchmark", "Study", "compare", "compare_tables", "leaderboard", "load", "one_kind",
    "opened_source", "plan", "rank", "read_sources", "with_role",
]  # fmt: skip
