"""A probe of a fitted learner: its mean answer while one column is set to each of some values.

    PD(v) = 1 / n sum_i f(x_i with the column at v)                                    (eq. 1)

Friedman's partial dependence (Annals of Statistics 29(5), 2001), computed in
`stackwise.tasks.table.explaining`; here with a table and a picture a column, and on the command
line. It tells of the learner and not of the world: columns that move together are moved apart.
"""

from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd

from stackwise.catalog import Knob, probe
from stackwise.errors import DataError, ModelError
from stackwise.figures import COLOURS, drawing, legend_below, new_figure, shortened
from stackwise.findings import Findings
from stackwise.protocols import Explains, ExplainsRows
from stackwise.training.session import count_aloud

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LINES = len(COLOURS)
"""Classes of which a picture has a line each: those whose probability moves most."""


@probe(
    "partial-dependence",
    title="What a learner answers as one column changes",
    tasks=("table",),
    takes=("learner",),
    presets={"quick": {"most": 2, "values": 8}, "standard": {}, "best": {"values": 40}},
    verb="baseline",
)
def partial_dependence(
    model: Any,
    data: Any = None,
    *,
    columns: Annotated[
        list[str] | None, Knob("columns to look at; none: those that it uses most")
    ] = None,
    most: Annotated[int, Knob("columns at most, where none are named", ge=1)] = 6,
    values: Annotated[int, Knob("values of a column that has more", ge=2, le=1000)] = 20,
) -> Findings:
    """Show the mean answer of a fitted learner as one column is set to each of some values.

    Args:
        model: a fitted learner. data: a loaded task of rows, such as that of its run; the averages
            are over its training rows.

    Returns:
        for each column a table (`value`, `rows` that it stands for, and `prediction` or
        `probability_<class>`) and a picture; in the summary how far the answer moves.

    Raises:
        ModelError: it is no fitted learner. DataError: there are no rows, or no such column.
    """
    if not hasattr(model, "predict"):
        raise ModelError(f"a {type(model).__name__} is no fitted learner, whose answers are asked")
    if not isinstance(data, ExplainsRows) or not isinstance(data, Explains):
        raise DataError("this asks for rows: give the table that the model learned from (--data)")
    rows, _ = data.part("train")  # type: ignore[attr-defined]
    named = [str(name) for name in columns or ()]  # of words `1` is read as a number
    chosen = named or [one["column"] for one in data.importance(model)][:most]
    found = Findings()
    tell = count_aloud("columns", len(chosen))
    for place, column in enumerate(chosen):
        table = data.partial_dependence(model, rows, column, values=values)
        answers = table.drop(columns=["value", "rows"])
        moves = (answers.max() - answers.min()).sort_values(ascending=False, kind="stable")
        found.tables[f"column-{place}"] = table
        found.figures[f"column-{place}"] = figure_of(table, column, list(moves.index[:MOST_LINES]))
        found.summary[column] = f"{moves.index[0]} moves by {moves.iloc[0]:.4g} (column-{place})"
        tell(1)
    return found


def figure_of(table: pd.DataFrame, column: str, answers: list[str]) -> "Figure":
    """The mean answers over a column's values: lines over numbers, points beside words.

    Args:
        answers: the columns of the table that are drawn.
    """
    if len(answers) == 2 and len(table.columns) == 4:
        answers = [str(table.columns[-1])]  # of two classes one says all
    numeric = pd.api.types.is_numeric_dtype(table["value"])
    numeric = numeric and not pd.api.types.is_bool_dtype(table["value"])
    with drawing():
        figure, axes = new_figure(height=240 if numeric else 60 + 24 * len(table))
        for name in answers:
            if numeric:
                axes.plot(table["value"], table[name], "o-", markersize=3, label=name)
            else:
                axes.plot(table[name], range(len(table)), "o", label=name)
        label = f"mean {answers[0]}" if len(answers) == 1 else "mean probability"
        name = shortened(column)
        if numeric:
            axes.set(xlabel=name, ylabel=shortened(label))
        else:
            words = [shortened(str(value), 20) for value in table["value"]]
            axes.set_yticks(range(len(table)), words)
            axes.invert_yaxis()
            axes.set(xlabel=shortened(label), title=name)
        if len(answers) > 1:
            legend_below(figure, axes)
    return figure
