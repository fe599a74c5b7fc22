"""What searches over many questions say together: who can go shorter, who can be put right, where.

Controls stand beside each number, since a search that is told the answer finds paths to many
answers: the same search rewarded for a wrong answer, random paths at the same budget, and the
vote of all paths, which needs no label.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from stackwise.route.cola.actions import blocks_of
from stackwise.route.cola.questions import Outcome, agrees

if TYPE_CHECKING:
    import pandas as pd


def rates(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Shares of the questions: right as they are, right along some path, and how short.

    Returns:
        `accuracy` of the model as it is; `with_the_label`, right along some path that was tried;
        `shorter`, the share of the right ones that a shorter path keeps right; `corrected`, the
        share of the wrong ones that some path puts right; `depth` and `blocks`, mean length and
        mean number of different blocks of the paths found; `vote`, accuracy of the commonest
        answer over all paths tried.
    """
    right = [one for one in outcomes if one.right]
    wrong = [one for one in outcomes if not one.right]
    found = [one.path for one in outcomes if one.path is not None]
    return {
        "accuracy": len(right) / len(outcomes),
        "with_the_label": _share(one.solved for one in outcomes),
        "shorter": _share(one.path is not None and len(one.path) < one.depth for one in right),
        "corrected": _share(one.solved for one in wrong),
        "depth": _mean(len(path) for path in found),
        "blocks": _mean(blocks_of(path) for path in found),
        "vote": _share(agrees(vote(one), one.answer) for one in outcomes),
    }


def vote(outcome: Outcome) -> int | str:
    """The commonest answer over all paths that were tried; the first one said breaks ties."""
    return Counter(outcome.said.values()).most_common(1)[0][0]


def front(outcomes: Sequence[Outcome]) -> "pd.DataFrame":
    """Share of the questions with a right path of at most so many blocks: `depth`, `solved`."""
    import pandas as pd

    longest = max((len(one.path) for one in outcomes if one.path), default=0)
    depth = outcomes[0].depth
    rows = [
        {"depth": size, "solved": _share(one.path is not None and len(one.path) <= size
                                         for one in outcomes)}
        for size in range(1, max(longest, depth) + 1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def block_use(outcomes: Sequence[Outcome]) -> "pd.DataFrame":
    """Of each block, over the paths found: `skipped`, the share of paths without it; `extra`, mean
    runs beyond the first; `use`, mean runs.
    """
    import pandas as pd

    depth = outcomes[0].depth
    paths = [one.path for one in outcomes if one.path is not None]
    rows = []
    for block in range(depth):
        runs = np.array([path.count(block) for path in paths], dtype=float)
        rows.append(
            {
                "block": block,
                "skipped": float((runs == 0).mean()) if len(runs) else math.nan,
                "extra": float(np.maximum(runs - 1, 0).mean()) if len(runs) else math.nan,
                "use": float(runs.mean()) if len(runs) else math.nan,
            }
        )
    return pd.DataFrame(rows)


def evenness(outcomes: Sequence[Outcome]) -> float:
    """Entropy of the use of blocks over its largest value, ln N: 1 is even use."""
    use = block_use(outcomes)["use"].to_numpy()
    share = use[use > 0] / use.sum() if np.isfinite(use).all() and use.sum() > 0 else np.array([])
    if len(share) == 0 or len(use) < 2:
        return math.nan
    return float(-(share * np.log(share)).sum() / math.log(len(use)))


def _share(flags: object) -> float:
    return _mean(float(flag) for flag in flags)  # type: ignore[attr-defined]


def _mean(values: object) -> float:
    held = list(values)  # type: ignore[call-overload]
    return sum(held) / len(held) if held else math.nan
