"""The report's charts: each function returns {"title", "note", "figure" (plotly JSON)} or None."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from stackwise.runs import Run

COLOURS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#be185d", "#65a30d")
WINNER, OTHER = "#2563eb", "#94a3b8"
Chart = dict[str, Any]


def _chart(title: str, note: str, traces: list[dict[str, Any]], **layout: Any) -> Chart:
    base = {
        "margin": {"l": 60, "r": 16, "t": 8, "b": 48},
        "height": 340,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#64748b"},
        "legend": {"orientation": "h", "y": -0.25},
        "hovermode": "closest",
    }
    figure = {"data": traces, "layout": base | layout}
    # "</" would end the script that holds the figure
    text = json.dumps(figure, allow_nan=False, default=float).replace("</", "<\\/")
    return {"title": title, "note": note, "figure": text}


def _axis(title: str, **more: Any) -> dict[str, Any]:
    return {
        "title": {"text": title},
        "gridcolor": "rgba(148,163,184,.25)",
        "automargin": True,
    } | more


def ranking(rows: Sequence[dict[str, Any]], metric: dict[str, str], winner: str) -> Chart:
    """Mean test score of each method with its interval over seeds."""
    shown = list(reversed(rows))
    reach = [0.0 if row["low"] is None else row["high"] - row["mean"] for row in shown]
    better = "left" if metric["mode"] == "min" else "right"
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [row["mean"] for row in shown],
        "y": [row["method"] for row in shown],
        "error_x": {"type": "data", "array": reach, "thickness": 2, "width": 6},
        "marker": {
            "size": 13,
            "color": [WINNER if row["method"] == winner else OTHER for row in shown],
        },
        "hovertemplate": "%{y}: %{x:.5g}<extra></extra>",
    }
    return _chart(
        "Who wins",
        f"Test {metric['name']}, mean and 95 % interval over seeds; better is to the {better}.",
        [trace],
        xaxis=_axis(metric["name"]),
        yaxis=_axis(""),
        height=120 + 48 * len(rows),
        showlegend=False,
    )


def mean_ranks(record: dict[str, Any]) -> Chart:
    """Critical-difference plot: mean ranks over tables, bars joining what is not told apart."""
    from stackwise.studies.tables import groups_alike

    rows = list(reversed(record["methods"]))
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [row["rank"] for row in rows],
            "y": [row["method"] for row in rows],
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": [row["high"] - row["rank"] for row in rows],
                "arrayminus": [row["rank"] - row["low"] for row in rows],
                "thickness": 2,
                "width": 6,
            },
            "marker": {"size": 13, "color": [OTHER] * (len(rows) - 1) + [WINNER]},
            "hovertemplate": "%{y}: mean rank %{x:.2f}<extra></extra>",
        }
    ]
    difference = record["critical_difference"]
    shapes = []
    if difference is not None:
        for number, (low, high) in enumerate(groups_alike(rows, difference)):
            height = len(rows) - 0.3 + 0.25 * number
            shapes.append(
                {"type": "line", "x0": low, "x1": high, "y0": height, "y1": height,
                 "line": {"color": "#64748b", "width": 5}}
            )  # fmt: skip
    note = "Mean place by test score over the tables, with 95 % intervals; better is to the left. "
    if difference is None:
        note += "One table has no critical difference."
    else:
        note += (
            f"A bar above joins methods that are closer than the critical difference "
            f"({difference:.2f}): these tables do not tell them apart."
        )
    if record["friedman_p"] is not None:
        note += f" Friedman's test that all are alike: p = {record['friedman_p']:.2g}."
    return _chart(
        "Who wins over all tables",
        note,
        traces,
        xaxis=_axis("mean rank"),
        yaxis=_axis("", range=[-0.6, len(rows) - 0.1 + 0.25 * len(shapes)]),
        shapes=shapes,
        height=140 + 40 * len(rows),
        showlegend=False,
    )


def costs(rows: Sequence[dict[str, Any]], metric: dict[str, str], winner: str) -> list[Chart]:
    """Score against training time, prediction time and size on disk."""
    sides = (
        ("fit_seconds", "At what training time", "seconds to fit (log)"),
        ("predict_ms", "At what prediction time", "milliseconds per 1000 rows (log)"),
        ("size_mb", "At what size", "MB on disk (log)"),
    )
    made = []
    for column, title, label in sides:
        traces = [
            {
                "type": "scatter",
                "mode": "markers+text",
                "x": [max(row[column], 1e-6)],
                "y": [row["mean"]],
                "text": [row["method"]],
                # neighbours in the ranking are neighbours here: their names go to different sides
                "textposition": "bottom center" if place % 2 else "top center",
                "cliponaxis": False,
                "marker": {"size": 13, "color": WINNER if row["method"] == winner else OTHER},
                "hovertemplate": f"{row['method']}: %{{y:.5g}} at %{{x:.3g}}<extra></extra>",
            }
            for place, row in enumerate(rows)
        ]
        values = [max(row[column], 1e-6) for row in rows]
        span = [float(np.log10(min(values)) - 0.4), float(np.log10(max(values)) + 0.4)]
        made.append(
            _chart(
                title,
                "Lower left is better." if metric["mode"] == "min" else "Upper left is better.",
                traces,
                xaxis=_axis(label, type="log", range=span),
                yaxis=_axis(metric["name"]),
                showlegend=False,
            )
        )
    return made


def learning_curves(finished: Iterable[Run]) -> Chart | None:
    """The monitored validation score by epoch; a method's seeds share a colour."""
    traces: list[dict[str, Any]] = []
    colours: dict[str, str] = {}
    for run in finished:
        lines = [line for line in run.history if "epoch" in line and line.get("metrics")]
        name = _monitored(lines)
        if name is None:
            continue
        slug = run.record["slug"]
        colour = colours.setdefault(slug, COLOURS[len(colours) % len(COLOURS)])
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [line["epoch"] for line in lines],
                "y": [line["metrics"].get(name) for line in lines],
                "name": slug,
                "legendgroup": slug,
                "showlegend": all(trace["name"] != slug for trace in traces),
                "line": {"color": colour, "width": 2},
                "hovertemplate": f"{slug} seed {run.record['seed']}, epoch %{{x}}: %{{y:.5g}}"
                "<extra></extra>",
            }
        )
    if not traces:
        return None
    return _chart(
        "How they learned",
        "The validation score that early stopping watches, by epoch; a line a seed. Methods "
        "without epochs are not shown.",
        traces,
        xaxis=_axis("epoch"),
        yaxis=_axis("validation"),
    )


def _monitored(lines: Sequence[dict[str, Any]]) -> str | None:
    names = list(lines[-1]["metrics"]) if lines else []
    watched = [name for name in names if name.startswith("validation")]
    others = [name for name in names if name not in ("loss", "grad_norm", "lr")]
    return next(iter(watched or others or names), None)


def calibration(finished: Sequence[Run]) -> Chart | None:
    """How often a predicted probability comes true, for the likeliest class."""
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "name": "perfect",
            "line": {"dash": "dot", "color": OTHER}, "hoverinfo": "skip",
        }
    ]  # fmt: skip
    seen: set[str] = set()
    for run in finished:
        slug = run.record["slug"]
        if slug in seen:
            continue
        seen.add(slug)
        table = run.predictions
        columns = [name for name in table if name.startswith("probability_")]
        probability = table[columns].to_numpy(float)
        confident = probability.max(1)
        right = (table["prediction"].astype(str) == table["target"].astype(str)).to_numpy(float)
        bins = np.clip((confident * 10).astype(int), 0, 9)
        points = [
            (confident[bins == b].mean(), right[bins == b].mean(), int((bins == b).sum()))
            for b in range(10)
            if (bins == b).sum() >= 10
        ]
        colour = COLOURS[(len(seen) - 1) % len(COLOURS)]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": [point[0] for point in points],
                "y": [point[1] for point in points],
                "customdata": [point[2] for point in points],
                "name": slug,
                "line": {"color": colour},
                "hovertemplate": f"{slug}: says %{{x:.2f}}, right %{{y:.2f}} "
                "(%{customdata} rows)<extra></extra>",
            }
        )
    return _chart(
        "Can the probabilities be trusted",
        "Share of right answers among test rows by the probability given to the answer (first "
        "seed, bins of at least 10 rows); on the dotted line a probability means what it says.",
        traces,
        xaxis=_axis("predicted probability"),
        yaxis=_axis("share that was right"),
    )


def residuals(run: Run) -> Chart:
    """Target minus prediction against the prediction, on at most 2000 test rows."""
    table = run.predictions
    if len(table) > 2000:
        table = table.sample(2000, random_state=0)
    prediction = table["prediction"].to_numpy(float)
    error = table["target"].to_numpy(float) - prediction
    trace = {
        "type": "scattergl" if len(table) > 5000 else "scatter",
        "mode": "markers",
        "x": [float(f"{value:.6g}") for value in prediction],
        "y": [float(f"{value:.6g}") for value in error],
        "marker": {"size": 5, "opacity": 0.35, "color": WINNER},
        "hovertemplate": "predicted %{x:.4g}, off by %{y:.4g}<extra></extra>",
    }
    return _chart(
        f"Where {run.record['slug']} errs",
        "Target minus prediction on test rows (at most 2000).",
        [trace],
        xaxis=_axis("prediction"),
        yaxis=_axis("target - prediction", zerolinecolor="#94a3b8"),
        showlegend=False,
    )


def importance(found: Sequence[dict[str, Any]], metric: dict[str, str]) -> Chart:
    """Permutation importance of the winner, the 20 largest."""
    shown = list(reversed(found[:20]))
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [item["mean"] for item in shown],
        "y": [item["column"] for item in shown],
        "error_x": {"type": "data", "array": [item["std"] for item in shown], "thickness": 1.5},
        "marker": {"color": WINNER},
        "hovertemplate": "%{y}: %{x:.4g}<extra></extra>",
    }
    return _chart(
        "Which columns the winner uses",
        f"How much worse {metric['name']} gets when a column is shuffled (validation rows, mean "
        "and spread of three shuffles).",
        [trace],
        xaxis=_axis(f"loss in {metric['name']}"),
        yaxis=_axis(""),
        height=110 + 26 * len(shown),
        showlegend=False,
    )
