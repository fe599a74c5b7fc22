"""What a matrix of out-of-fold predictions must be, and what is said where it is not."""

from collections.abc import Sequence

import numpy as np

from stackwise.combine.regularized_meta_learning.stages.projection import Projection
from stackwise.errors import DataError

LEAKED = 1e-3
"""A model whose error is below this part of the next best has seen its own rows."""


def check_matrix(names: Sequence[str], predictions: np.ndarray, target: np.ndarray) -> None:
    """Refuse predictions (n, M, ...) that do not fit names and targets, or are not finite."""
    rows, models = predictions.shape[:2]
    if models != len(names):
        raise DataError(f"there are {models} columns of predictions and {len(names)} names")
    if rows != len(target):
        raise DataError(
            f"the out-of-fold predictions have {rows} rows and y has {len(target)}; they must be "
            "of the same rows"
        )
    finite = np.isfinite(predictions.reshape(rows, models, -1)).all((0, 2))
    if not finite.all():
        raise DataError(
            f"the predictions of {names[int((~finite).argmax())]!r} hold NaN or infinity; every "
            "row needs a prediction of every model"
        )


def refuse_leaks(names: Sequence[str], risks: np.ndarray) -> None:
    """Refuse a model that is too good to be out of fold, (M,) errors."""
    if len(risks) < 2:
        return
    first, second = np.argsort(risks, kind="stable")[:2]
    if risks[first] < LEAKED * risks[second]:
        raise DataError(
            f"column {names[first]!r} predicts its own training rows: not out-of-fold? (its error "
            f"{risks[first]:.3g} is less than a thousandth of the next best, {risks[second]:.3g}); "
            "if it is that good, use it alone"
        )


def usable(
    names: Sequence[str], found: Projection, risks: np.ndarray, *, few_is_fine: bool
) -> tuple[Projection, list[str]]:
    """A projection that keeps a model, and notes about what it drops.

    Raises:
        DataError: fewer than two of several models are left, and that is not fine.
    """
    notes = [f"{names[place]} was dropped: its predictions hardly vary" for place in found.flat]
    if len(risks) == 1:
        return Projection([0]), []
    if len(found.kept) >= 2:
        return found, notes
    best = int(np.argmin(risks))
    left = names[found.kept[0] if found.kept else best]
    better = "raise tau_corr, lower tau_mse, or use that model alone"
    if not found.kept:
        what, better = (
            f"none of the {len(risks)} base models varies",
            "lower tau_var, or use others",
        )
        found = Projection([best], {}, [j for j in found.flat if j != best])
    elif found.flat:
        what = f"only {left!r} of {len(risks)} base models is no near-copy and not constant"
    else:
        what = f"all {len(risks)} base models are near-copies of {left!r}"
    if not few_is_fine:
        raise DataError(f"{what}; {better}")
    return found, [*notes, f"{what}: the stack is of {left!r} alone"]
