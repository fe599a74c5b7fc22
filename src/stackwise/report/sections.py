"""What the page says of one folder: a study, a benchmark, a run or a probe."""

import base64
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackwise.errors import RunError
from stackwise.files import believing, read_json
from stackwise.findings import Findings
from stackwise.protocols import Shows
from stackwise.report import charts
from stackwise.report.charts import Chart
from stackwise.report.numbers import value_text
from stackwise.report.verdict import of_study, over_tables
from stackwise.runs import Run
from stackwise.runs.folder import COLUMNS
from stackwise.runs.record import task_of
from stackwise.studies.limits import said_of
from stackwise.studies.ranking import method_of
from stackwise.studies.study import Study
from stackwise.studies.tables import Benchmark, scores_table
from stackwise.tasks import task_class

if TYPE_CHECKING:
    import pandas as pd

MOST_COLUMNS = 12
"""Of a table that stands in the page; a wider one is for a spreadsheet."""
MOST_ROWS = 40


def section(folder: Path) -> dict[str, Any]:
    """What the page says of a folder, for its template; under `damaged`, a sentence on each run
    of a study that cannot be read.

    Raises:
        RunError: the folder is neither a run nor a study, is damaged, or holds nothing finished.
    """
    with believing(folder):
        return {"damaged": []} | _section(folder)


def _section(folder: Path) -> dict[str, Any]:
    if (folder / "benchmark.json").is_file():
        return _benchmark(folder)
    if (folder / "study.json").is_file():
        return _study(folder)
    if not (folder / "run.json").is_file():
        raise RunError(f"{folder} is neither a run nor a study: it has no run.json or study.json")
    run = Run(folder)
    if not run.finished:
        raise RunError(f"{folder} is not finished; repeat its command with --resume")
    return _probe(run) if run.record["kind"] == "probe" else _run(run)


def _study(folder: Path) -> dict[str, Any]:
    study = Study(folder)
    record, plan = study.record, study.plan
    record["winner"].setdefault("method", record["winner"]["slug"])  # written by an older version
    record.setdefault("interval_over", "seeds")
    for row in record["ranking"]:
        row.setdefault("slug", row["method"])
        row.setdefault("winner_better", None)
        row.setdefault("cut", False)
    data = plan["task"]
    metric, kept = record["metric"], record["winner"]["method"]
    winner = study.winner
    finished = _best_first(study.runs, record["ranking"], winner)
    known = [item for item in record["importance"] if item["mean"] is not None]
    damaged = list(study.damaged.values())
    if not finished:
        raise RunError(f"{folder} holds no run that can be read: {', '.join(damaged) or 'none is'}")
    kept_run = finished[0]  # the winner, where it can be read
    shown = _shown(finished, data)
    drawn = [
        charts.ranking(record["ranking"], metric, kept, record["interval_over"]),
        *charts.costs(record["ranking"], metric, kept),
        charts.learning_curves(finished),
        *_pictures(shown),
        charts.importance(known, metric) if known else None,
    ]
    return {
        "kind": "study",
        "title": _about(data, ": predict "),
        "ending": task_class(task_of(data)).ending,
        "verdict": of_study(record, plan),
        "record": record,
        "winner": winner,
        "winner_record": kept_run.record,
        "damaged": damaged,
        "data": data,
        "columns": _columns(kept_run),
        "charts": [chart for chart in drawn if chart is not None],
        "tables": _tables(shown),
        "facts": _facts(shown),
        "command": plan["command"] or kept_run.record["command"],
        "seeds": plan["seeds"],
        "preset": plan["preset"],
        "budget": _budget(plan),
        "chosen_by": kept_run.record.get("chosen_by"),
        "scores": _every_score(study.runs, record["ranking"]),
        "asides": [
            *_asides(plan, study.runs, record.get("not_begun") or []),
            *(f"Left out: {told}." for told in damaged),
        ],
    }


def _about(data: dict[str, Any], between: str) -> str:
    """The data's name, and what is predicted where it says so."""
    target = data.get("target")
    return f"{data['name']}{between}{target}" if target else str(data["name"])


def _best_first(
    finished: Sequence[Run], ranking: Sequence[dict[str, Any]], winner: Run
) -> list[Run]:
    """The run to keep, then all others by the place of their method."""
    places = {row["method"]: place for place, row in enumerate(ranking)}
    return sorted(
        finished,
        key=lambda run: (
            run.folder != winner.folder,
            places.get(method_of(run.record), len(places)),
        ),
    )


def _shown(finished: Sequence[Run], data: dict[str, Any]) -> Findings:
    """What the task of these runs lays out; nothing, where it has nothing to show."""
    kind = task_class(task_of(data))
    return kind.shows(finished, data) if issubclass(kind, Shows) else Findings()


def _pictures(found: Findings) -> list[Chart]:
    """The figures of findings; what the summary says under a figure's name stands above it."""
    return [
        Chart(_heading(name), str(found.summary.get(name, "")), figure)
        for name, figure in found.figures.items()
    ]


def _heading(name: str) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def _tables(found: Findings) -> dict[str, str]:
    return {
        _heading(name): _table(table)
        for name, table in found.tables.items()
        if table.shape[1] <= MOST_COLUMNS
    }


def _table(table: "pd.DataFrame") -> str:
    return table.round(4).to_html(border=0, classes="data", na_rep="–", max_rows=MOST_ROWS)


def _facts(found: Findings) -> dict[str, Any]:
    """What the summary says that is no note of a figure: `sentences`, and `values` by name."""
    told = {name: value for name, value in found.summary.items() if name not in found.figures}
    texts = [value if isinstance(value, list) else [value] for value in told.values()]
    sentences = {
        name: words
        for name, words in zip(told, texts, strict=True)
        if words and all(isinstance(word, str) and " " in word for word in words)
    }
    values = {_heading(n): value for n, value in told.items() if n not in sentences and value != []}
    return {
        "sentences": [_sentence(word) for words in sentences.values() for word in words],
        "values": {name: value_text(value) for name, value in values.items()},
    }


def _sentence(text: str) -> str:
    """A note as a sentence."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."


def _columns(run: Run) -> list[dict[str, str]]:
    """What was done with each column, where the task has columns."""
    path = run.folder / "columns.json"
    return list(read_json(path, COLUMNS)) if path.is_file() else []


def _every_score(
    finished: list[Run], ranking: list[dict[str, Any]]
) -> dict[str, dict[str, float | None]]:
    """Method -> score -> its mean over seeds on the test part, best method first."""
    by_method: dict[str, list[dict[str, Any]]] = {}
    for record in (run.record for run in finished):
        by_method.setdefault(method_of(record), []).append(record["scores"]["test"])
    found: dict[str, dict[str, float | None]] = {}
    for row in ranking:
        tests = by_method.get(row["method"])
        if tests is None:
            continue  # none of its runs can be read any more
        found[row["method"]] = {
            name: None if any(t[name] is None for t in tests)
            else sum(t[name] for t in tests) / len(tests)
            for name in tests[0]
        }  # fmt: skip
    return found


def _budget(plan: dict[str, Any]) -> str:
    """What each method was given, in words."""
    words = []
    if plan.get("tune"):
        words.append(f"each method tuned with {plan['tune']} fits on validation data")
    if plan.get("bag"):
        words.append(f"each run bagged over {plan['bag']} folds")
    return "; ".join(words)


def _asides(plan: dict[str, Any], finished: list[Run], not_begun: list[str]) -> list[str]:
    """What a reader should know about single runs, and what took no part."""
    found = [f"Left out: {sentence}." for sentence in plan.get("left_out") or []]
    said = said_of(not_begun)
    found += [f"{sentence}." for sentence in (plan.get("limit"), said) if sentence]
    cut: dict[str, list[str]] = {}
    for run in finished:
        for note in run.record.get("notes") or []:
            if "time limit" in note:
                cut.setdefault(note, []).append(run.folder.name)
    return found + [f"{', '.join(names)}: {note}." for note, names in cut.items()]


def _benchmark(folder: Path) -> dict[str, Any]:
    bench = Benchmark(folder)
    record = bench.record
    table = scores_table(record)
    methods = [row["method"] for row in record["methods"]]
    methods += [name for name in record["left_out"] if name in table]
    rows, known_studies = [], bench.studies
    for key, scores in table.iterrows():
        name, metric = typing.cast(tuple[str, str], key)
        if name not in known_studies:
            continue  # it is damaged, and named so
        mode = known_studies[name].record["metric"]["mode"]
        known = scores.dropna()
        best = known.min() if mode == "min" else known.max()
        cells = [
            {
                "value": None if scores.isna()[method] else float(scores[method]),
                "best": scores[method] == best,
            }
            for method in methods
        ]
        rows.append({"table": name, "metric": metric, "cells": cells,
                     "winner": known_studies[name].record["winner"]["method"]})  # fmt: skip
    problems = {name: Study(folder / name).problem for name in record["tables"]}
    damaged = {name: problem for name, problem in problems.items() if problem is not None}
    record["failures"] |= damaged
    return {
        "kind": "benchmark",
        "damaged": list(damaged.values()),
        "title": f"{len(record['tables'])} tables",
        "verdict": over_tables(record),
        "record": record,
        "methods": methods,
        "rows": rows,
        "charts": [charts.mean_ranks(record)],
        "command": bench.plan["command"],
        "winner_record": next(run.record for study in known_studies.values() for run in study.runs),
    }


def _run(run: Run) -> dict[str, Any]:
    record = run.record
    data = record.get("data")
    shown = Findings()
    if data and (run.folder / "test_predictions.parquet").is_file():
        shown = _shown([run], data)
    before = record.get("before")
    reference = Path((record.get("model") or {}).get("reference", ""))
    if (reference / "run.json").is_file() and Run(reference).problem is None:
        before = Run(reference).record
    curves = charts.learning_curves([run])
    return {
        "kind": "run",
        "title": f"{record['slug']}: {run.folder.name}",
        "record": record,
        "scores": (record.get("scores") or {}).get("test", {}),  # none where there were no data
        "before": before,
        "before_scores": ((before or {}).get("scores") or {}).get("test", {}),
        "about": _about(data, ", ") if data else "",
        "columns": _columns(run),
        "charts": [*([curves] if curves else []), *_pictures(shown)],
        "tables": _tables(shown),
        "facts": _facts(shown),
        "command": record["command"],
    }


def _probe(run: Run) -> dict[str, Any]:
    findings = Findings.load(run.folder)
    images = []
    for path in sorted((run.folder / "figures").glob("*.png")):
        content = base64.b64encode(path.read_bytes()).decode("ascii")
        images.append({"name": _heading(path.stem), "content": content})
    reference = (run.record.get("model") or {}).get("reference", "")
    return {
        "kind": "probe",
        "title": f"{run.record['slug']}: {Path(reference).name}",
        "record": run.record,
        "facts": _facts(findings),
        "images": images,
        "tables": _tables(findings),
        "charts": [],
        "command": run.record["command"],
    }
