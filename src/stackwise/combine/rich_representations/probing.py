"""Probes: linear heads on features that stay as they are.

    min_{W, b}  mean_i CE(W (z_i - mean) / scale + b, y_i) + ||W||^2 / (2 C N)             (eq. 1)

The features are standardised first, since members differ in scale and the penalty would favour
one; the paper has batch normalisation there, whose learned factors a linear layer behind it can
take over. C is chosen for each representation by the loss on rows that were held out: a wide one
needs another than a narrow one. Under shift the risks R_e of several environments are brought
together (vREx, arXiv 2003.00688):

    min_{W, b}  mean_e R_e + beta Var_e R_e + ||W||^2 / (2 C N)                            (eq. 2)
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional

from stackwise.combine.rich_representations.heads import Head, SlicedHead
from stackwise.errors import DataError, KnobError

GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Values of C that are tried."""
UNTRIED = 0.1
"""C where nothing is held out."""
RARE = math.log(1e-12)
"""Bias of a class without a row."""
Norm = Literal["standard", "none"]
Rows = tuple[np.ndarray, np.ndarray, np.ndarray | None]
"""(n, d) features, (n,) class codes, (n,) weights or None."""


def fit_head(
    rows: Rows, n_outputs: int, *, C: float, norm: Norm = "standard",
    environments: np.ndarray | None = None, beta: float = 0.0,
) -> Head:  # fmt: skip
    """The head of (eq. 1), or with environments of (eq. 2).

    Args:
        n_outputs: classes; one that has no row is never predicted.
        C: above 0; smaller is a stronger penalty.
        environments: (n,) which environment each row is from. beta: how much their risks' variance
            costs.

    Raises:
        DataError: features that are no numbers, or fewer than two classes.
    """
    features, target, weight = rows
    if not np.isfinite(features).all():
        raise DataError("the features of a member are not finite; nothing can be learned on them")
    known = np.unique(target)
    if len(known) < 2:
        raise DataError("a probe needs rows of at least two classes")
    features = np.asarray(features, dtype=np.float64)
    mean, scale = np.zeros(features.shape[1]), np.ones(features.shape[1])
    if norm == "standard":
        mean, spread = features.mean(0), features.std(0)
        scale = np.where(spread > 1e-8 * np.maximum(np.abs(mean), 1), spread, 1.0)
    standard = (features - mean) / scale
    weights, biases = np.zeros((n_outputs, features.shape[1])), np.full(n_outputs, RARE)
    if environments is None:
        model = LogisticRegression(C=C, max_iter=5000)
        model.fit(standard, target, sample_weight=weight)
        found, offset = model.coef_, model.intercept_
        if len(known) == 2:  # of two classes scikit-learn has the difference of their logits
            found, offset = (
                np.concatenate([-found, found]) / 2,
                np.concatenate([-offset, offset]) / 2,
            )
    else:
        codes = np.searchsorted(known, target)
        found, offset = _variance_of_risks(standard, codes, environments, C, beta, weight)
    weights[known], biases[known] = found, offset
    head = Head(features.shape[1], n_outputs)
    with torch.no_grad():
        for tensor, values in (
            (head.mean, mean), (head.scale, scale), (head.linear.weight, weights),
            (head.linear.bias, biases),
        ):  # fmt: skip
            tensor.copy_(torch.as_tensor(values))
    return head.eval()


def choose_penalty(
    rows: Rows, held: Rows | None, n_outputs: int, *, norm: Norm = "standard",
    environments: np.ndarray | None = None, beta: float = 0.0, grid: Sequence[float] = GRID,
) -> float:  # fmt: skip
    """C of the least loss on held-out rows; `UNTRIED` where nothing is held out."""
    if held is None:
        return UNTRIED
    losses = []
    for C in grid:
        head = fit_head(rows, n_outputs, C=C, norm=norm, environments=environments, beta=beta)
        losses.append(log_loss(head, held))
    return float(grid[int(np.argmin(losses))])


@torch.no_grad()
def log_loss(head: Head, rows: Rows) -> float:
    """The mean cross-entropy of a head on rows."""
    features, target, weight = rows
    logits = head(torch.as_tensor(features).to(head.linear.weight)).double()
    losses = functional.cross_entropy(logits, torch.as_tensor(target), reduction="none").numpy()
    return float(np.average(losses, weights=weight))


def fit_sliced(
    rows: Rows, held: Rows | None, sizes: Sequence[int], n_outputs: int, *,
    C: float | None = None, norm: Norm = "standard",
) -> SlicedHead:  # fmt: skip
    """A probe for each member on its own features, each with its own penalty."""
    made = SlicedHead(sizes, n_outputs)
    for place, stop in enumerate(np.cumsum(sizes)):
        own = [
            part and (part[0][:, stop - sizes[place] : stop], *part[1:]) for part in (rows, held)
        ]
        train, out = own
        assert train is not None
        chosen = choose_penalty(train, out, n_outputs, norm=norm) if C is None else C
        made.heads[place] = fit_head(train, n_outputs, C=chosen, norm=norm)
    return made.eval()


def _variance_of_risks(
    features: np.ndarray, target: np.ndarray, environments: np.ndarray, C: float, beta: float,
    weight: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """W (C, d) and b (C,) of (eq. 2), by L-BFGS on all rows at once."""
    if len(environments) != len(target):
        raise DataError(
            f"there are {len(target)} rows and {len(environments)} environments; they must agree"
        )
    if beta < 0:
        raise KnobError(f"beta must be at least 0, got {beta}")
    z, y = torch.as_tensor(features), torch.as_tensor(target)
    counts = torch.ones(len(y)).double() if weight is None else torch.as_tensor(weight).double()
    groups = [torch.as_tensor(environments == name) for name in np.unique(environments)]
    classes = int(y.max()) + 1
    W = torch.zeros(classes, z.shape[1], dtype=torch.float64, requires_grad=True)
    b = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [W, b], max_iter=1000, tolerance_grad=1e-7, tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def objective() -> Tensor:
        search.zero_grad()
        losses = functional.cross_entropy(z @ W.T + b, y, reduction="none") * counts
        risks = torch.stack([losses[group].sum() / counts[group].sum() for group in groups])
        value = risks.mean() + beta * risks.var(correction=0)
        value = value + W.square().sum() / (2 * C * len(y))
        value.backward()
        return value

    search.step(objective)
    return W.detach().numpy(), b.detach().numpy()
