"""Fits whose learning rate was chosen on validation rows, and how far they are apart in AUC.

Every model of a comparison gets the same learning rates to choose among, by the score that the
claim is about; the test part is used once, by the one chosen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from stackwise.tasks.labelled.answers import predict_once
from stackwise.tasks.table.task import TableTask


@dataclass
class Fit:
    """The best of the learning rates on validation rows, with what it says of the test rows."""

    model: Any
    lr: float
    validation: float
    test: dict[str, float]
    truth: np.ndarray
    chance: np.ndarray


def tuned(
    task: TableTask, build: Callable[..., Any], lrs: Sequence[float], score: str, sign: int = 1
) -> Fit:
    """Fit with each learning rate; the largest `sign * score` of the validation part wins."""
    found: list[tuple[float, float, Any]] = []
    for lr in lrs:
        model = build(lr=lr)
        model.fit(*task.part("train"), validation=task.part("validation"))
        X, y = task.part("validation")
        found.append((sign * task.score(y, *predict_once(model, X))[score], lr, model))
    best, lr, model = max(found, key=lambda item: item[0])
    X, y = task.part("test")
    prediction, chance = predict_once(model, X)
    assert chance is not None and task.classes is not None
    truth = (y == task.classes[1]).astype(int)
    return Fit(model, lr, sign * best, task.score(y, prediction, chance), truth, chance[:, 1])


def chosen(*of: Sequence[Fit]) -> list[Fit]:
    """Of each seed the fit that does best on validation rows."""
    return [max(fits, key=lambda fit: fit.validation) for fits in zip(*of, strict=True)]


def points(ours: Sequence[Fit], others: Sequence[Fit]) -> list[float]:
    """By how many points (0.01) of test AUC ours is ahead, by seed."""
    return [
        100 * (own.test["roc_auc"] - other.test["roc_auc"])
        for own, other in zip(ours, others, strict=True)
    ]


def interval(ours: Sequence[Fit], others: Sequence[Fit], draws: int) -> list[float]:
    """The middle 95 % of the mean difference over test rows drawn with replacement."""
    generator = np.random.default_rng(0)
    truth = ours[0].truth
    found = []
    for _ in range(draws):
        rows = generator.integers(0, len(truth), len(truth))
        found.append(
            np.mean([
                roc_auc_score(truth[rows], own.chance[rows])
                - roc_auc_score(truth[rows], other.chance[rows])
                for own, other in zip(ours, others, strict=True)
            ])
        )  # fmt: skip
    return [round(100 * float(edge), 3) for edge in np.quantile(found, [0.025, 0.975])]
