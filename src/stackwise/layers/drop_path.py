"""Stochastic depth: leave out a residual branch for some of the pictures of a batch.

    y = x + branch(x) * keep / (1 - p),    keep ~ Bernoulli(1 - p), one a row of the batch

The deeper a block, the more often it is left out: over L blocks p rises linearly from 0 to the
rate (arXiv 1603.09382).
"""

from torch import Tensor, nn


def drop_rates(rate: float, depth: int) -> list[float]:
    """p of each of `depth` blocks: 0 for the first, `rate` for the last."""
    return [rate * index / max(1, depth - 1) for index in range(depth)]


class DropPath(nn.Module):
    """A branch, left out with probability p for a whole row while training: (B, ...) -> same.

    p = 1 leaves it out always.
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"drop_path must be between 0 and 1, got {p}")
        self.p = p

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return branch
        keep = branch.new_empty(branch.shape[0], *[1] * (branch.ndim - 1)).bernoulli_(1 - self.p)
        return branch * (keep / max(1 - self.p, 1e-12))

    def extra_repr(self) -> str:
        return f"p={self.p}"
