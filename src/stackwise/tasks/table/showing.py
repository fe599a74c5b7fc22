"""How errors lie on a table's test rows: calibration of classes, residuals of numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stackwise.figures import (
    OTHER,
    SOFT,
    WINNER,
    colour_of,
    dash_of,
    drawing,
    legend_below,
    new_figure,
    says,
)
from stackwise.findings import Findings
from stackwise.protocols import RunLike

BINS = 10
FEWEST_ROWS = 10
"""Rows of a bin that say something about it."""
MOST_POINTS = 1000
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def shows(runs: Sequence[RunLike], data: Mapping[str, Any]) -> Findings:
    """What a page shows of finished runs on one table, the run to keep first.

    Args:
        data: what the runs recorded of the table; `problem` decides what is shown.

    Returns:
        One figure and one table; the summary says under the figure's name how to read it.
    """
    first: dict[str, RunLike] = {}
    for run in runs:
        first.setdefault(run.record["slug"], run)
    if not first:
        return Findings()
    return residuals(first) if data["problem"] == "regression" else calibration(first)


def calibration(runs: Mapping[str, RunLike]) -> Findings:
    """How often a predicted probability comes true, for the likeliest class; a run a method."""
    title = "Can the probabilities be trusted"
    rows = []
    with drawing():
        figure, axes = new_figure(height=280)
        axes.plot([0, 1], [0, 1], ":", color=OTHER, label="perfect")
        for place, (method, run) in enumerate(runs.items()):
            found = _bins(run.predictions_on("test"))
            if not found:
                continue
            rows += [(method, *point) for point in found]
            said, right, counts = zip(*found, strict=True)
            axes.plot(said, right, color=colour_of(place), linestyle=dash_of(place), label=method)
            (points,) = axes.plot(said, right, "o", color=colour_of(place), markersize=5)
            says(points, [f"{method}: says {s:.2f}, right {r:.2f} ({c:,} rows)"
                          for s, r, c in zip(said, right, counts, strict=True)])  # fmt: skip
        axes.set_xlabel("predicted probability")
        axes.set_ylabel("share that was right")
        axes.locator_params(nbins=5)
        legend_below(figure, axes)
    note = (
        "Share of right answers among test rows by the probability given to the answer (first run "
        f"of a method, bins of at least {FEWEST_ROWS} rows); on the dotted line a probability "
        "means what it says."
    )
    table = pd.DataFrame(rows, columns=["method", "said", "right", "rows"]).set_index("method")
    return Findings({"calibration": table}, {title: figure}, {title: note})


def _bins(answers: pd.DataFrame) -> list[tuple[float, float, int]]:
    """(mean probability of the answer, share that was right, rows) of each bin with enough rows."""
    columns = [name for name in answers if str(name).startswith("probability_")]
    if not columns:  # margins say nothing of how often they are right
        return []
    confident = answers[columns].to_numpy(float).max(1)
    right = (answers["prediction"].astype(str) == answers["target"].astype(str)).to_numpy(float)
    bins = np.clip((confident * BINS).astype(int), 0, BINS - 1)
    return [
        (float(confident[bins == b].mean()), float(right[bins == b].mean()), int((bins == b).sum()))
        for b in range(BINS)
        if (bins == b).sum() >= FEWEST_ROWS
    ]


def residuals(runs: Mapping[str, RunLike]) -> Findings:
    """Target minus prediction against the prediction of the run to keep; quantiles of them all."""
    method, kept = next(iter(runs.items()))
    title = f"Where {method} errs"
    answers = kept.predictions_on("test")
    if len(answers) > MOST_POINTS:
        answers = answers.sample(MOST_POINTS, random_state=0)
    prediction, error = answers["prediction"].to_numpy(float), _errors(answers)
    with drawing():
        figure, axes = new_figure(height=260)
        axes.axhline(0, color=SOFT, linewidth=1)
        (points,) = axes.plot(prediction, error, "o", color=WINNER, markersize=4, alpha=0.35,
                              markeredgewidth=0)  # fmt: skip
        says(points, [f"predicted {p:.4g}, off by {e:.4g}"
                      for p, e in zip(prediction, error, strict=True)])  # fmt: skip
        axes.set_xlabel("prediction")
        axes.set_ylabel("target − prediction")
        axes.locator_params(nbins=4)
    spread = {name: np.quantile(_errors(run.predictions_on("test")), QUANTILES)
              for name, run in runs.items()}  # fmt: skip
    table = pd.DataFrame(spread, index=[f"{share:.0%} of rows below" for share in QUANTILES]).T
    note = f"Target minus prediction on test rows (at most {MOST_POINTS:,})."
    return Findings({"target minus prediction": table.rename_axis("method")}, {title: figure},
                    {title: note})  # fmt: skip


def _errors(answers: pd.DataFrame) -> np.ndarray:
    return answers["target"].to_numpy(float) - answers["prediction"].to_numpy(float)
