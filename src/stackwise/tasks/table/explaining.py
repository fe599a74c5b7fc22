"""What a learner makes of a column, and of a row's cells.

    partial dependence     PD(v) = 1 / n sum_i f(x_i with the column at v)            (eq. 1)
    contributions          f(x) = base + sum_c phi_c(x), phi_c the Shapley value of column c's cell

(eq. 1) is Friedman's (Annals of Statistics 29(5), 2001). scikit-learn's function of that name takes
columns of floats alone; here a column may hold words, dates or gaps. Both describe the learner and
not the world: columns that move together are moved apart.
"""

from typing import Any

import numpy as np
import pandas as pd

from stackwise.errors import DataError, NotInstalled, nearest
from stackwise.tasks.labelled.answers import predict_frame
from stackwise.tasks.table.source import as_frame

MOST_ROWS = 1000
"""Rows over which a dependence is averaged; of more, as many drawn at random."""
BACKGROUND = 50
"""Rows that stand for `a cell is not known` in Shapley values."""


def partial_dependence(learner: Any, rows: Any, column: str, *, values: int = 20) -> pd.DataFrame:
    """The mean answer over the rows while one column is set to each of some values (eq. 1).

    Args:
        learner: a fitted learner.
        rows: a frame with the learner's columns.
        column: of the frame.
        values: of a column with more: of numbers as many quantiles, of others the most frequent.

    Returns:
        A row a value: `value`, `rows` that have it, or of numbers that lie nearest to it, and
        `prediction`, or of classes one `probability_<class>` each.

    Raises:
        DataError: there is no such column, or it holds nothing.
    """
    frame = _some(as_frame(rows), MOST_ROWS)
    if column not in frame.columns:
        raise DataError(f"there is no column {column!r}.{nearest(column, frame.columns)}")
    known = frame[column].dropna()
    if not len(known):
        raise DataError(f"column {column!r} holds nothing, so that nothing can depend on it")
    grid, counts = _grid(known, values)
    found = []
    for value in grid:
        moved = frame.assign(**{column: pd.Series([value] * len(frame), index=frame.index)})
        found.append(_answers(learner, moved).mean())
    table = pd.DataFrame(found)
    table.insert(0, "value", grid)
    table.insert(1, "rows", counts)
    return table


def _grid(known: pd.Series, values: int) -> tuple[list[Any], list[int]]:
    """The values to set, and the rows that each stands for."""
    counts = known.value_counts()
    numeric = pd.api.types.is_numeric_dtype(known) and not pd.api.types.is_bool_dtype(known)
    if len(counts) <= values or not numeric:
        picked = counts.head(values)
        picked = picked.sort_index() if numeric else picked
        return picked.index.tolist(), picked.tolist()
    quantiles = np.unique(np.quantile(known, np.linspace(0.02, 0.98, values), method="nearest"))
    middles = (quantiles[1:] + quantiles[:-1]) / 2
    nearest_one = np.searchsorted(middles, known.to_numpy())
    return quantiles.tolist(), np.bincount(nearest_one, minlength=len(quantiles)).tolist()


def contributions(learner: Any, rows: Any, background: Any) -> pd.DataFrame:
    """What each cell adds to a row's answer, as Shapley values estimated over permutations.

    Args:
        learner: a fitted learner.
        rows: a frame; for classes it is the last class's probability that is explained.
        background: rows that say what is usual, such as those of training; some are drawn.

    Returns:
        A row each, a column each, and `base`, the mean answer over the background: the sum over a
        row is its answer.

    Raises:
        NotInstalled: the package shap is missing.
    """
    try:
        import shap
    except ImportError as error:
        raise NotInstalled("contributions of cells need shap: pip install shap") from error
    frame, usual = as_frame(rows), _some(as_frame(background), BACKGROUND)
    usual = usual[list(frame.columns)]
    # shap moves numbers about: each column becomes the places of its values, and is read back
    both = pd.concat([frame, usual])
    coded = [pd.factorize(both[name], use_na_sentinel=False) for name in both.columns]
    codes = np.stack([places for places, _ in coded], axis=1).astype(np.float64)

    def answer(places: np.ndarray) -> np.ndarray:
        columns = {
            name: pd.Series(pd.Index(known).take(places[:, i].astype(int)))
            for i, (name, (_, known)) in enumerate(zip(both.columns, coded, strict=True))
        }
        return _answers(learner, pd.DataFrame(columns)).iloc[:, -1].to_numpy(dtype=np.float64)

    masker = shap.maskers.Independent(codes[len(frame) :], max_samples=BACKGROUND)
    explained = shap.PermutationExplainer(answer, masker, seed=0)(codes[: len(frame)], silent=True)
    table = pd.DataFrame(explained.values, columns=frame.columns, index=frame.index)
    table.insert(0, "base", explained.base_values)
    return table


def _answers(learner: Any, frame: pd.DataFrame) -> pd.DataFrame:
    """The numbers that a learner answers with: its prediction, or the classes' probabilities or
    margins.
    """
    table = predict_frame(learner, frame)
    return table if len(table.columns) == 1 else table.drop(columns="prediction")


def _some(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    return frame if len(frame) <= most else frame.sample(most, random_state=0)
