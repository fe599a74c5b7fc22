"""What each member of a representation brings: its accuracy, its weight in the head, and how alike
its features are to the others'.

    CKA(X, Y) = ||Y^T X||_F^2 / (||X^T X||_F ||Y^T Y||_F)          of centred features

CKA is 1 for features that are turned and scaled copies of each other (arXiv 1905.00414).
"""

from typing import Any

import numpy as np
import pandas as pd
import torch

from stackwise.combine.rich_representations.heads import Head
from stackwise.combine.rich_representations.learner import RichRepresentation
from stackwise.errors import ModelError
from stackwise.findings import Findings


def cka(one: np.ndarray, other: np.ndarray) -> float:
    """Linear CKA of (n, d) and (n, e) features; 0 where one is constant."""
    one, other = one - one.mean(0), other - other.mean(0)
    shared = float(np.square(other.T @ one).sum())
    alone = float(np.linalg.norm(one.T @ one) * np.linalg.norm(other.T @ other))
    return shared / alone if alone > 0 else 0.0


def report(rich: RichRepresentation, X: Any, y: Any) -> Findings:
    """Accuracy of each member and of all, on samples that none learned from.

    Args:
        rich: fitted, with one head on all features. X, y: samples and their classes.

    Returns:
        Findings: the table `members` (accuracy of the member's own slice under the joint head, and
        the mean magnitude of its weights), the table `cka` (n, n), and the accuracy of all.

    Raises:
        ModelError: the head is no single linear one.
    """
    head = rich.network_.head
    if not isinstance(head, Head):
        raise ModelError("a report needs one head on all features: fit it with head=cat")
    features = torch.as_tensor(rich.transform(X))
    truth = np.asarray(y)
    standard = (features - head.mean) / head.scale
    parts = standard.split(rich.sizes_, 1)
    weights = head.linear.weight.detach().split(rich.sizes_, 1)
    rows = []
    for place, (z, W) in enumerate(zip(parts, weights, strict=True), 1):
        logits = z @ W.T + head.linear.bias.detach()
        right = rich.classes_[logits.argmax(1).numpy()] == truth
        rows.append(
            {"member": place, "accuracy": float(right.mean()), "weight": float(W.abs().mean())}
        )
    alike = [[cka(a.double().numpy(), b.double().numpy()) for b in parts] for a in parts]
    names = [row["member"] for row in rows]
    whole = float((rich.predict(X) == truth).mean())
    return Findings(
        tables={
            "members": pd.DataFrame(rows).set_index("member"),
            "cka": pd.DataFrame(alike, index=names, columns=[str(name) for name in names]),
        },
        summary={"accuracy": whole, "members": len(rows), "features": int(features.shape[1])},
    )
