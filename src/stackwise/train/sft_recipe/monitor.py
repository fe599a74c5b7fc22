"""Early signs: which of several runs will end best, seen from its first tenth.

The paper: at as many samples seen, the run with the lower gradient norm and the higher training
loss early on ends with the better scores. It reads this off curves and gives no formula. Here
each run gets

    s = rank of (- median gradient norm) + rank of (mean loss)     (last quarter of the window)

and the runs with the larger s are kept. Both signs are partly signs of little movement: a larger
batch averages noise away (its norm falls about as 1 / sqrt(B)), and fewer or smaller steps leave
the loss higher. The rank of small movement alone, learning rate times steps, stands beside it as
the confound, and a run that hardly moves at all looks best and is not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from stackwise.errors import StudyError
from stackwise.train.sft_recipe.rule import COLUMNS

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RunMonitor:
    """The curve of a run.

    Attributes:
        rows: a row a step: samples seen, loss, gradient norm before clipping, learning rate.
        about: what the run is of, the same for runs that may be compared: model and data.
    """

    rows: Sequence[Sequence[float]]
    about: Mapping[str, Any] = field(default_factory=dict)

    def curve(self) -> "pd.DataFrame":
        """samples, loss, grad_norm, lr: a row a step."""
        import pandas as pd

        return pd.DataFrame(list(self.rows), columns=list(COLUMNS))

    def signs(self, at: float = 0.1, budget: float | None = None) -> dict[str, float]:
        """Median gradient norm, mean loss and movement over the last quarter of the window.

        Args:
            at: share of the budget. budget: samples of the whole run; those seen, by default.
        """
        table = self.curve()
        end = at * (budget or float(table["samples"].iloc[-1]))
        window = table[table["samples"] <= end]
        if window.empty:
            window = table.iloc[:1]
        last = window[window["samples"] > 0.75 * end]
        last = window.iloc[-1:] if last.empty else last
        return {
            "grad_norm": float(last["grad_norm"].median()),
            "loss": float(last["loss"].mean()),
            "movement": float(window["lr"].sum()),
        }


def early_rank(
    runs: Mapping[str, RunMonitor], at: float = 0.1, budget: float | None = None
) -> "pd.DataFrame":
    """Rank runs by their early signs, the most promising first.

    Returns:
        a row a run: `grad_norm`, `loss`, `score`, and `movement` with the rank it alone would give
        (`confound`, 1 the least).

    Raises:
        StudyError: the runs differ in model or data.
    """
    import pandas as pd

    if not runs:
        raise StudyError("there are no runs to rank")
    about = [dict(run.about) for run in runs.values()]
    if any(one != about[0] for one in about):
        raise StudyError("runs differ in model or data: early dynamics are not comparable")
    table = pd.DataFrame({name: run.signs(at, budget) for name, run in runs.items()}).T
    table["score"] = (-table["grad_norm"]).rank() + table["loss"].rank()
    table["confound"] = table["movement"].rank()
    order = np.lexsort((table.index.to_numpy(dtype=str), -table["score"].to_numpy()))
    return table.iloc[order]
