"""A linear layer that is trained as one-vs-rest support vector machines.

    head = SVMHead(1024, 10)                       a Linear: features (B, 1024) -> scores (B, 10)
    loss = head.loss(features, y)                  hinge and regulariser
    labels = head(features).argmax(1)

Two forms of the objective, the same up to a factor where C_sum = C_mean d / (2 n), for d features
and n rows:

    mean    mean(W^2) + C mean_ic hinge_ic                the public code's
    sum     1/2 ||W||^2 + C sum_ic hinge_ic               scikit-learn's and Tang's
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from stackwise.build.cnn_svm.hinge import Norm, one_vs_rest, violations
from stackwise.errors import KnobError
from stackwise.layers.arguments import keeps_arguments


@keeps_arguments
class SVMHead(nn.Linear):
    """One linear machine a class, each against the rest. Two classes have two machines as well.

    Args:
        in_features: d. n_classes: K.
        norm: of the violations: "l2" squares them, "l1" does not.
        C: what a violation costs against the norm of the weights.
        reduction: see above. The bias and whatever computes the features are not regularised.
        rows: n, for the sum where it is trained by batches: the mean of a batch then stands for
            that of all rows, and the norm is divided by n, so that C is that of the whole sum.
    """

    arguments: dict[str, Any]
    gives_margins = True

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        *,
        norm: Norm = "l2",
        C: float = 1.0,
        reduction: Literal["mean", "sum"] = "mean",
        rows: int = 1,
    ) -> None:
        super().__init__(in_features, n_classes)
        if not C > 0:
            raise KnobError(f"C must be > 0, got {C}")
        self.norm, self.C, self.reduction, self.rows = norm, C, reduction, rows

    def row_losses(self, output: Tensor, target: Tensor) -> Tensor:
        """(B,) C times the mean (or the sum) of a row's hinges over the classes.

        Args:
            output: (B, K) scores. target: (B,) class codes, known to be classes.
        """
        codes = torch.full_like(output, -1.0).scatter_(1, target[:, None], 1.0)
        short = violations(output, codes)
        losses = short.square() if self.norm == "l2" else short
        return self.C * (losses.mean(1) if self.reduction == "mean" else losses.sum(1))

    def penalty(self) -> Tensor:
        """The regulariser: mean(W^2), or 1/2 ||W||^2 for the sum."""
        squares = self.weight.float().square()
        return squares.mean() if self.reduction == "mean" else squares.sum() / 2

    def row_penalty(self) -> Tensor:
        """The regulariser beside a mean over rows: the sum's is divided by all rows."""
        return self.penalty() if self.reduction == "mean" else self.penalty() / self.rows

    def objective(self, scores: Tensor, target: Tensor) -> Tensor:
        """The whole objective on just these rows, whatever `rows` says.

        Raises:
            DataError: a label has no column.
        """
        one_vs_rest(target, self.out_features)  # is checked here, once
        losses = self.row_losses(scores, target)
        return self.penalty() + (losses.mean() if self.reduction == "mean" else losses.sum())

    def loss(self, features: Tensor, target: Tensor) -> Tensor:
        """`objective` of (B, in_features) features and (B,) class codes."""
        return self.objective(self(features), target)


def summed_cost(C: float, reduction: str, in_features: int, rows: int) -> float:
    """The C of the sum over rows, as scikit-learn counts it: C d / (2 n) for the mean's C."""
    return C * in_features / (2 * rows) if reduction == "mean" else C
