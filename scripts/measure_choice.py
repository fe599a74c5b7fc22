"""How good is what a comparison keeps, on small tables: chosen by validation rows, and out of fold.

    python scripts/measure_choice.py FOLDER [TABLE...]     compare the methods on these tables
    python scripts/measure_choice.py FOLDER --record       write results/comparison/choice.json

Both rules choose among the same fits, each of which stopped by the validation part:

    before   the best score on the validation part, which also stopped the fits; an ensemble is
             joined and judged on those answers
    after    what a comparison keeps: the best score out of fold, of rows that stopped nothing, and
             the cheaper within one standard error; an ensemble of these answers

and are judged by the rank of what they keep, by its test score, among all methods and both
ensembles. Small networks and one split a table keep this within some minutes.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from stackwise import runs
from stackwise.files import read_json, write_json
from stackwise.runs import Run
from stackwise.studies import Study, compare
from stackwise.studies.ensemble import joining
from stackwise.studies.ranking import method_of
from stackwise.tasks.table.task import TableTask

ROOT = Path(__file__).parents[1]
TABLES = ("german", "vehicle", "pima", "australian", "crx", "wdbc", "heart", "sonar", "wine",
          "iris", "hedonic", "diabetes")  # fmt: skip
SPLITS = (0,)
METHODS = ("linear", "gradient-boosting", "lightgbm", "mlp", "tabm", "masknet")
KNOBS: dict[str, dict[str, Any]] = {
    "gradient-boosting": {"max_trees": 60},
    "lightgbm": {"max_trees": 100},
    "mlp": {"width": 64, "max_epochs": 40},
    "tabm": {"k": 4, "width": 32, "max_epochs": 40},
    "masknet": {"width": 32, "max_epochs": 30},
}
ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class Answered:
    """A run as the rule before saw it: its answers for the validation part, which stopped it."""

    run: Run
    table: pd.DataFrame

    @property
    def folder(self) -> Path:
        """Where the learner is."""
        return self.run.folder

    @property
    def record(self) -> dict[str, Any]:
        """The run's."""
        return self.run.record

    def predictions_on(self, part: str) -> pd.DataFrame:
        """The answers for the validation part."""
        return self.table


def measure(folder: Path, table: str, split: int) -> None:
    """Compare on one split of a table, and apply both rules."""
    task = TableTask.load(table, split_seed=split)
    out = folder / f"{table}-{split}"
    if (out / "rules.json").is_file():
        return
    study = compare(
        task, out=out, methods=METHODS, seeds=1, preset="quick", knobs=KNOBS, stack=True,
        threads=1, resume=True,
    )  # fmt: skip
    metric = task.metric.name
    sign = 1 if task.metric.mode == "min" else -1
    test, before = {}, {}
    seen = {}
    for run in study.runs:
        name = method_of(run.record)
        if "all runs" in name:
            test[f"{ENSEMBLE}, after"] = sign * run.record["scores"]["test"][metric]
            continue
        judged = task.judge(runs.load(run.folder), "validation")
        seen[run.folder.name] = Answered(run, judged.samples)
        test[name] = sign * run.record["scores"]["test"][metric]
        before[name] = sign * judged.scores[metric]
    _, entry = joining(task)
    joined = entry.load().join(task, seen, seed=0)
    before[f"{ENSEMBLE}, before"] = sign * task.judge(joined, "validation").scores[metric]
    test[f"{ENSEMBLE}, before"] = sign * task.judge(joined, "test").scores[metric]
    kept = study.record["winner"]["method"]
    after = f"{ENSEMBLE}, after" if "all runs" in kept else kept
    by_validation = min(before, key=lambda name: before[name])
    ranks = dict(zip(test, rankdata(list(test.values())).tolist(), strict=True))
    chances = {row["method"]: row["validation"] for row in study.record["ranking"]}
    own = {
        "table": table, "split": split, "metric": metric, "rows": task.describe()["rows"],
        "test": {name: sign * value for name, value in test.items()},
        "before": {"kept": by_validation, "rank": ranks[by_validation],
                   "validation": sign * before[by_validation],
                   "test": sign * test[by_validation]},
        "after": {"kept": after, "rank": ranks[after], "validation": chances[kept],
                  "test": sign * test[after]},
    }  # fmt: skip
    write_json(out / "rules.json", own)


def record(folder: Path) -> None:
    """Mean ranks over tables, and how far validation scores were from test scores."""
    cases = [read_json(path) for path in sorted(folder.glob("*/rules.json"))]
    first = Study(next(folder.glob("*/rules.json")).parent).runs[0].record
    found: dict[str, Any] = {
        "command": "python scripts/measure_choice.py FOLDER",
        "commit": first["commit"], "machine": first["machine"], "versions": first["versions"],
        "tables": sorted({case["table"] for case in cases}), "splits": list(SPLITS),
        "methods": list(METHODS), "knobs": KNOBS,
    }  # fmt: skip
    for rule in ("before", "after"):
        ranks = [case[rule]["rank"] for case in cases]
        found[rule] = {
            "mean_rank": float(np.mean(ranks)),
            "worst_rank": float(np.max(ranks)),
            "first": int(np.sum(np.array(ranks) == 1)),
            "kept_an_ensemble": sum(case[rule]["kept"].startswith(ENSEMBLE) for case in cases),
            # validation over test score: below 1 it was flattering, for scores that fall
            "validation_over_test": float(
                np.median([case[rule]["validation"] / case[rule]["test"] for case in cases])
            ),
        }
    found["methods_ranked"] = len(cases[0]["test"])
    write_json(ROOT / "results" / "comparison" / "choice.json", found | {"cases": cases})


if __name__ == "__main__":
    folder, *words = sys.argv[1:] or sys.exit(str(__doc__))
    if words == ["--record"]:
        record(Path(folder))
    else:
        for table in words or TABLES:
            for split in SPLITS:
                measure(Path(folder), table, split)
                print(table, split, flush=True)
