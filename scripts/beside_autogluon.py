"""Set the kept model of a comparison beside AutoGluon: same rows, same metric, same time.

    python scripts/beside_autogluon.py parts FOLDER
    python scripts/beside_autogluon.py ours FOLDER SECONDS
    OTHER/bin/python scripts/fit_autogluon.py FOLDER SECONDS  # an environment of its own
    python scripts/beside_autogluon.py record FOLDER SECONDS

Each has one thread and SECONDS for a table. AutoGluon's preset is medium_quality, ours quick with
the ensemble. Three splits of each table of results/comparison/tables.toml; both may use the
training and the validation rows as they like, and answer for the test rows once.
"""

import sys
import time
from pathlib import Path

import pandas as pd
from cpu_time import cpu_seconds

import stackwise
from stackwise.files import read_json, write_json
from stackwise.runs import Run
from stackwise.studies.tables import read_sources
from stackwise.tasks.table.task import TableTask

ROOT = Path(__file__).parents[1]
TABLES = ROOT / "results" / "comparison" / "tables.toml"
SEEDS = (0, 1, 2)


def tasks() -> dict[str, TableTask]:
    """Every table in every split, by the name of its folder."""
    return {
        f"{source.name}-{seed}": TableTask.load(
            source.source, target=source.target, **dict(source.options) | {"split_seed": seed}
        )
        for source in read_sources([str(TABLES)], None, {})
        for seed in SEEDS
    }


def write_parts(folder: Path) -> None:
    """The parts of each task as parquet, and what is asked of them."""
    for name, task in tasks().items():
        here = folder / name
        here.mkdir(parents=True, exist_ok=True)
        for part in ("train", "validation", "test"):
            X, y = task.part(part)
            X.assign(**{task.target: y}).to_parquet(here / f"{part}.parquet", index=False)
        about = {"target": task.target, "problem": task.problem, "metric": task.metric.name}
        write_json(here / "about.json", about)


def fit_ours(folder: Path, seconds: float) -> None:
    """A comparison with its ensemble on each task; a finished one is left as it is."""
    for name, task in tasks().items():
        if (folder / name / "ours.json").is_file():
            continue
        began, used = time.monotonic(), cpu_seconds()
        study = stackwise.compare(
            task, out=folder / name / "ours", seeds=1, preset="quick", stack=True, threads=1,
            time_limit=seconds, resume=True,
        )  # fmt: skip
        took, used = time.monotonic() - began, cpu_seconds() - used
        winner = study.record["winner"]
        row = next(r for r in study.record["ranking"] if r["method"] == winner["method"])
        write_json(
            folder / name / "ours.json",
            {"seconds": took, "cpu_seconds": used, "model": winner["method"], "test": row["mean"]},
        )
        print(name, winner["method"], f"{took:.0f} s", flush=True)


def record(folder: Path, seconds: float) -> None:
    """Score AutoGluon's answers with our metrics and write results/comparison/autogluon.json."""
    rows = []
    for name, task in tasks().items():
        ours, theirs = (read_json(folder / name / f"{who}.json") for who in ("ours", "autogluon"))
        table, _, seed = name.rpartition("-")
        rows.append(
            {"table": table, "split": int(seed), "metric": task.metric.name,
             "mode": task.metric.mode, "ours": ours["test"],
             "autogluon": _scored(folder, name, task),
             "ours_kept": ours["model"], "autogluon_kept": theirs["model"],
             "seconds": {"ours": ours["seconds"], "autogluon": theirs["seconds"]},
             "cpu_seconds": {"ours": ours["cpu_seconds"], "autogluon": theirs["cpu_seconds"]}}
        )  # fmt: skip
    one = next(run for run in (folder / f"{rows[0]['table']}-0" / "ours" / "runs").iterdir())
    about = Run(one).record
    write_json(
        ROOT / "results" / "comparison" / "autogluon.json",
        {
            "commands": [
                "python scripts/beside_autogluon.py parts FOLDER",
                f"python scripts/beside_autogluon.py ours FOLDER {seconds:g}",
                f"OTHER/bin/python scripts/fit_autogluon.py FOLDER {seconds:g}",
                f"python scripts/beside_autogluon.py record FOLDER {seconds:g}",
            ],
            "seconds_a_table": seconds, "threads": 1, "commit": about["commit"],
            "machine": about["machine"], "date": about["started"][:10],
            "autogluon": {"version": theirs["version"], "preset": "medium_quality",
                          "models": theirs["models"]},
            "rows": rows,
        },
    )  # fmt: skip


def _scored(folder: Path, name: str, task: TableTask) -> float:
    """AutoGluon's score on the test rows, by the task's own metric."""
    answers = pd.read_parquet(folder / name / "autogluon.parquet")
    truth = task.part("test")[1]
    if task.classes is None:
        return float(task.score(truth, answers["prediction"].to_numpy())[task.metric.name])
    chance = answers[[str(label) for label in task.classes]].to_numpy()
    said = task.classes[chance.argmax(1)]
    return float(task.score(truth, said, chance)[task.metric.name])


if __name__ == "__main__":
    wanted, place, *more = sys.argv[1:]
    if wanted == "parts":
        write_parts(Path(place))
    else:
        {"ours": fit_ours, "record": record}[wanted](Path(place), float(more[0]))
