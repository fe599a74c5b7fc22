"""How much each block writes, and whether it writes anew, erases or strengthens (P1 to P3).

    norms        ||h_l||, ||a_l||, ||m_l||
    contribution ||a_l + m_l|| / ||h_l||,   ||a_l|| / ||h_l||,   ||m_l|| / ||h_l + a_l||
    cosine       cos(a_l + m_l, h_l),       cos(a_l, h_l),       cos(m_l, h_l + a_l)

Each is taken for every token and then averaged (a mean of ratios, not a ratio of means). A cosine
near 0 writes a new direction, a negative one erases, a positive one strengthens what is there.

Source: arXiv 2505.13898, section 3.1. Differs from the paper: protected first tokens are left out
of the means, which their huge norms would rule. A parallel block has no h_l + a_l; there the MLP
is set against h_l, which is what it reads. A low contribution is not low importance.
"""

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from stackwise.errors import ModelError
from stackwise.probe.depth_efficiency.clean_run import CleanRun, relative_change, tokens_of
from stackwise.probe.depth_efficiency.tally import Tally

PARTS = ("layer", "attention", "mlp")


class Contributions:
    """Norms, relative contributions and cosines, summed up over prompts.

    Attributes:
        refused: why attention and MLP are not measured apart, or None.
    """

    def __init__(self) -> None:
        self.refused: str | None = None
        self._norms = {name: Tally() for name in ("stream", "attention", "mlp")}
        self._relative = {name: Tally() for name in PARTS}
        self._cosines = {name: Tally() for name in (*PARTS, "stream")}

    @property
    def empty(self) -> bool:
        """Nothing was added."""
        return self._norms["stream"].empty

    def add(self, run: CleanRun, protect: int = 1) -> None:
        """Add the tokens of one clean run, without the first `protect`."""
        first = run.guarded(protect)
        self._norms["stream"].add(_tokens([tokens_of(h).norm(dim=-1) for h in run.hidden], first))
        before = run.hidden[:-1]
        written = {"layer": ([run.contribution(index) for index in range(run.depth)], before)}
        try:
            parts = run.sublayers
            middle = [parts.read_by_mlp(index, h) for index, h in enumerate(before)]
            written |= {"attention": (parts.attention, before), "mlp": (parts.mlp, middle)}
        except ModelError as error:
            self.refused = str(error)
        for name, (added, read) in written.items():
            pairs = list(zip(added, read, strict=True))
            self._relative[name].add(_tokens([relative_change(c, h) for c, h in pairs], first))
            self._cosines[name].add(_tokens([_cosine(c, h) for c, h in pairs], first))
            if name in self._norms:
                norms = [tokens_of(c).norm(dim=-1) for c in added]
                self._norms[name].add(_tokens(norms, first))
        steps = zip(before, run.hidden[1:], strict=True)
        self._cosines["stream"].add(_tokens([_cosine(h, after) for h, after in steps], first))

    def tables(self) -> dict[str, pd.DataFrame]:
        """Data frames `norms` (L + 1 rows), `contribution` and `cosine` (L rows).

        `norms` and `contribution` hold means, and maxima in columns that end in `_max`. The
        column `stream` of `cosine` is cos(h_l, h_{l+1}): near 1 nearly everywhere, it says little.
        """
        return {
            "norms": _frame(self._norms, with_max=True),
            "contribution": _frame(self._relative, with_max=True),
            "cosine": _frame(self._cosines, with_max=False),
        }


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    return cosine_similarity(tokens_of(first), tokens_of(second), dim=-1)


def _tokens(values: list[Tensor], first: int) -> Tensor:
    """(layers, rows * tokens), without the first tokens of each row."""
    return torch.stack([value[:, first:].flatten().float() for value in values]).cpu()


def _frame(tallies: dict[str, Tally], with_max: bool) -> pd.DataFrame:
    columns = {}
    for name, tally in tallies.items():
        if not tally.empty:
            columns[name] = pd.Series(tally.mean.numpy())
            if with_max:
                columns[f"{name}_max"] = pd.Series(tally.max.numpy())
    return pd.DataFrame(columns).rename_axis("layer")
