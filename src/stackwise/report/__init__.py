"""One self-contained page about studies, runs and probes.

The page holds its style, its pictures and the plotting library, so that it opens with no network
and can be sent as one file.
"""

import base64
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stackwise.errors import RunError
from stackwise.files import read_json, write_text
from stackwise.report import charts
from stackwise.runs import Run
from stackwise.studies.ranking import method_of

__all__ = ["build"]


def build(folders: Iterable[Path | str], out: Path | str) -> Path:
    """Write the page about `folders` (studies, runs, probes; in this order) to `out`.

    Raises:
        RunError: a folder is none of them, or holds nothing finished.
    """
    import jinja2
    from plotly.offline import get_plotlyjs

    sections = [_section(Path(folder)) for folder in folders]
    if not sections:
        raise RunError("a report needs at least one run; 'stackwise runs' lists them")
    drawn = [chart for section in sections for chart in section["charts"]]
    for number, chart in enumerate(drawn):
        chart["id"] = f"chart-{number}"
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("stackwise", "report/templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = number_text
    environment.filters["seconds"] = seconds_text
    page = environment.get_template("page.html").render(
        title=sections[0]["title"],
        sections=sections,
        plotly=get_plotlyjs() if drawn else "",
    )
    write_text(Path(out), page)
    return Path(out)


def number_text(value: float | None, digits: int = 4) -> str:
    """A number as a reader wants it: four significant digits, thousands apart."""
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.1f}"
    return f"{value:.{digits}g}"


def seconds_text(value: float | None) -> str:
    """A duration with the unit that fits it."""
    if value is None:
        return "–"
    if value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"


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
    from stackwise.studies.study import Study

    study = Study(folder)
    record, plan = study.record, study.plan
    record["winner"].setdefault("method", record["winner"]["slug"])  # written by an older version
    for row in record["ranking"]:
        row.setdefault("slug", row["method"])
        row.setdefault("winner_better", None)
    data = plan["task"]
    finished = study.runs
    metric = record["metric"]
    winner = study.winner
    drawn = [
        charts.ranking(record["ranking"], metric, record["winner"]["method"]),
        *charts.costs(record["ranking"], metric, record["winner"]["method"]),
        charts.learning_curves(finished),
        _errors(data, finished, winner),
        charts.importance(record["importance"], metric) if record["importance"] else None,
    ]
    return {
        "kind": "study",
        "title": f"{data['name']}: predict {data['target']}",
        "ending": "csv" if data.get("task", "table") == "table" else "jsonl",
        "verdict": _verdict(record, plan),
        "record": record,
        "winner": winner,
        "winner_record": winner.record,
        "data": data,
        "columns": read_json(winner.folder / "columns.json"),
        "charts": [chart for chart in drawn if chart is not None],
        "command": plan["command"] or winner.record["command"],
        "seeds": plan["seeds"],
        "preset": plan["preset"],
        "budget": _budget(plan),
        "scores": _every_score(finished, record["ranking"]),
        "asides": _asides(plan, finished),
    }


def _errors(data: dict[str, Any], finished: list[Run], one: Run) -> charts.Chart | None:
    """How the errors lie: calibration of classes, residuals of numbers; no other task has such."""
    if data.get("task", "table") != "table":
        return None
    return (
        charts.residuals(one) if data["problem"] == "regression" else charts.calibration(finished)
    )


def _every_score(
    finished: list[Run], ranking: list[dict[str, Any]]
) -> dict[str, dict[str, float | None]]:
    """Method -> score -> its mean over seeds on the test part, best method first."""
    by_method: dict[str, list[dict[str, Any]]] = {}
    for record in (run.record for run in finished):
        by_method.setdefault(method_of(record), []).append(record["scores"]["test"])
    found: dict[str, dict[str, float | None]] = {}
    for row in ranking:
        tests = by_method[row["method"]]
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


def _asides(plan: dict[str, Any], finished: list[Run]) -> list[str]:
    """What a reader should know about single runs, and what took no part."""
    found = [f"Left out: {sentence}." for sentence in plan.get("left_out") or []]
    for run in finished:
        found += [
            f"{run.folder.name}: {note}."
            for note in run.record.get("notes") or []
            if "time limit" in note
        ]
    return found


def _benchmark(folder: Path) -> dict[str, Any]:
    from stackwise.studies.tables import Benchmark, scores_table

    bench = Benchmark(folder)
    record = bench.record
    table = scores_table(record)
    methods = [row["method"] for row in record["methods"]]
    methods += [name for name in record["left_out"] if name in table]
    rows = []
    for key, scores in table.iterrows():
        name, metric = typing.cast(tuple[str, str], key)
        mode = bench.studies[name].record["metric"]["mode"]
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
                     "winner": bench.studies[name].record["winner"]["method"]})  # fmt: skip
    return {
        "kind": "benchmark",
        "title": f"{len(record['tables'])} tables",
        "verdict": _verdict_over_tables(record),
        "record": record,
        "methods": methods,
        "rows": rows,
        "charts": [charts.mean_ranks(record)],
        "command": bench.plan["command"],
        "winner_record": next(iter(bench.studies.values())).winner.record,
    }


def _verdict_over_tables(record: dict[str, Any]) -> str:
    """Which method to try first, and which others these tables cannot tell from it."""
    first, *others = record["methods"]
    words = (
        f"{first['method']} has the best mean rank, {first['rank']:.2f} over "
        f"{len(record['tables'])} tables (95 % interval {first['low']:.2f} to {first['high']:.2f})."
    )
    reach = record["critical_difference"]
    if reach is None or not others:
        return words + " So few tables say little about others."
    alike = [row["method"] for row in others if row["rank"] - first["rank"] < reach]
    if not alike:
        return words + " It is apart from all others by more than the critical difference."
    listed = ", ".join(alike[:-1]) + (" and " if len(alike) > 1 else "") + alike[-1]
    return (
        words + f" These tables do not tell it from {listed}: their mean ranks are closer than "
        f"the critical difference of {reach:.2f}."
    )


def _verdict(record: dict[str, Any], plan: dict[str, Any]) -> str:
    """What the study says in one or two sentences, no stronger than its numbers."""
    from stackwise.catalog import cards

    ranking, metric = record["ranking"], record["metric"]["name"]
    method = record["winner"]["method"]
    best = next(row for row in ranking if row["method"] == method)
    words = f"{method} is the one to keep: test {metric} {number_text(best['mean'])}"
    baselines = {name for name, of in cards().items() if of.verb == "baseline"}
    # a method is held against the best baseline, a baseline against whoever comes next
    against = {row["slug"] for row in ranking} if best["slug"] in baselines else baselines
    rivals = [row for row in ranking if row["slug"] in against and row["method"] != method]
    if not rivals:
        return words + "."
    rival = rivals[0]
    better = (rival["mean"] - best["mean"]) * (1 if record["metric"]["mode"] == "min" else -1)
    share = abs(better) / max(abs(rival["mean"]), 1e-12) * 100
    apart = "better than" if better >= 0 else "worse than"
    words += f", {share:.1f} % {apart} {rival['method']} ({number_text(rival['mean'])})"
    chance = rival["winner_better"]
    if chance is not None:
        words += f", and better on {100 * chance:.0f} % of test parts drawn again from these rows"
    if len(plan["seeds"]) < 2:
        return words + ". One seed says nothing of luck in training: take the order as a hint."
    overlap = best["low"] <= rival["high"] and rival["low"] <= best["high"]
    return words + (
        ". Their intervals overlap, so another seed could turn the order."
        if overlap
        else ". Their intervals over seeds do not overlap."
    )


def _run(run: Run) -> dict[str, Any]:
    record = run.record
    drawn = [charts.learning_curves([run])]
    if (run.folder / "test_predictions.parquet").is_file():
        drawn.append(_errors(record.get("data") or {"problem": "classes"}, [run], run))
    before = record.get("before")
    reference = Path((record.get("model") or {}).get("reference", ""))
    if (reference / "run.json").is_file():
        before = Run(reference).record
    columns = run.folder / "columns.json"
    return {
        "kind": "run",
        "title": f"{record['slug']}: {run.folder.name}",
        "record": record,
        "scores": (record.get("scores") or {}).get("test", {}),  # none where there were no data
        "before": before,
        "before_scores": ((before or {}).get("scores") or {}).get("test", {}),
        "data": record.get("data"),
        "columns": read_json(columns) if columns.is_file() else [],
        "charts": [chart for chart in drawn if chart is not None],
        "command": record["command"],
    }


def _probe(run: Run) -> dict[str, Any]:
    from stackwise.findings import Findings

    findings = Findings.load(run.folder)
    figures = []
    for path in sorted((run.folder / "figures").glob("*.png")):
        content = base64.b64encode(path.read_bytes()).decode("ascii")
        figures.append({"name": path.stem.replace("_", " "), "content": content})
    tables = {
        name: table.round(4).to_html(border=0, classes="data", na_rep="–", max_rows=40)
        for name, table in findings.tables.items()
        if table.shape[1] <= 12
    }
    reference = (run.record.get("model") or {}).get("reference", "")
    return {
        "kind": "probe",
        "title": f"{run.record['slug']}: {Path(reference).name}",
        "record": run.record,
        "summary": findings.summary,
        "figures": figures,
        "tables": tables,
        "charts": [],
        "command": run.record["command"],
    }
