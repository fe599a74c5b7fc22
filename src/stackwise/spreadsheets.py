"""Texts in a file of columns that a spreadsheet would take for a formula.

A spreadsheet runs a cell that begins with one of `= + - @`, a tab or a carriage return. A label of
that kind is written with an apostrophe before it, by which spreadsheets know text, and one that
begins with apostrophes before such a sign gets one more, so that `as_read` gives back just what
`as_written` took:

    =1+1  ->  '=1+1        '=1+1  ->  ''=1+1        -1.5  ->  -1.5   a number runs nothing
"""

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = re.compile("'*[=+\\-@\t\r]")
_QUOTED = re.compile("'+[=+\\-@\t\r]")
_NUMBER = re.compile(r"-(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def as_written(value: Any) -> Any:
    """A text as a cell that no spreadsheet runs; anything else as it is."""
    if not isinstance(value, str) or not _FORMULA.match(value) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}"


def as_read(value: Any) -> Any:
    """The inverse of `as_written`."""
    return value[1:] if isinstance(value, str) and _QUOTED.match(value) else value


def written(table: "pd.DataFrame", *, index: bool = False) -> "pd.DataFrame":
    """The table with its texts, its columns' names and with `index` its row names `as_written`."""
    return _changed(table, as_written, index)


def read(table: "pd.DataFrame", *, index: bool = False) -> "pd.DataFrame":
    """The inverse of `written`."""
    return _changed(table, as_read, index)


def _changed(table: "pd.DataFrame", change: Any, index: bool) -> "pd.DataFrame":
    import pandas as pd

    made = table.copy(deep=False)
    for place, dtype in enumerate(table.dtypes):
        if isinstance(dtype, pd.CategoricalDtype) or not pd.api.types.is_numeric_dtype(dtype):
            column = table.iloc[:, place]
            if column.map(lambda value: change(value) is not value).any():
                made.isetitem(place, column.astype(object).map(change))
    made.columns = table.columns.map(change) if table.columns.nlevels == 1 else table.columns
    if index and table.index.nlevels == 1 and not pd.api.types.is_numeric_dtype(table.index.dtype):
        made.index = table.index.map(change).set_names([change(table.index.name)])
    return made
