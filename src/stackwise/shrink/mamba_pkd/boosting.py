"""The weights of B-DISTIL, for chains of mode `boosted`. Experimental.

Every row i and class j has a weight for being too low, K+, and one for being too high, K-. A
student f is of use if it has a positive edge over the teacher g,

    edge = sum_ij K+_ij (f - g)_ij + K-_ij (g - f)_ij > 0                            (eq. 1)

and after it has been added, places that it overshot lose K+ and gain K-:

    K+ <- K+ exp(-eta (f - g)),     K- <- K- exp(eta (f - g)),     all divided by their sum

The chain's output is the mean of its students. Source: arXiv 2302.10093, of which only the digest
was at hand. Its log-barrier form of the edge is taken to be

    L = - sum_ij K+_ij log(1 + (f - g)_ij / b) + K-_ij log(1 - (f - g)_ij / b)        (eq. 2)

whose first order in 1 / b is - edge / b. With all weights equal the edge is 0 for every f and eq. 2
is least at f = g: so the first student learns the teacher, the later ones what is left.
"""

import torch
from torch import Tensor


def first_weights(rows: int, classes: int) -> tuple[Tensor, Tensor]:
    """K+ and K- before the first student, (N, C) each: 1/2 everywhere."""
    return torch.full((rows, classes), 0.5), torch.full((rows, classes), 0.5)


def edge(output: Tensor, teacher: Tensor, above: Tensor, below: Tensor) -> Tensor:
    """Eq. 1; `above` is K+, `below` is K-, all (B, C)."""
    return ((above - below) * (output - teacher)).sum()


def reweigh(
    output: Tensor, teacher: Tensor, above: Tensor, below: Tensor, eta: float
) -> tuple[Tensor, Tensor]:
    """K+ and K- after a student has been added, (N, C) each; together they sum to 1."""
    gap = eta * (output - teacher)
    above, below = above * torch.exp(-gap), below * torch.exp(gap)
    total = above.sum() + below.sum()
    return above / total, below / total


def barrier_loss(
    output: Tensor, teacher: Tensor, above: Tensor, below: Tensor, bound: float | None = None
) -> Tensor:
    """Eq. 2, with b = `bound`, but at least twice the widest gap of the batch, where log exists."""
    gap = output - teacher.detach()
    widest = float(gap.detach().abs().max())
    b = max(2 * widest, bound or 0.0, torch.finfo(gap.dtype).tiny)
    return -(above * torch.log1p(gap / b) + below * torch.log1p(-gap / b)).sum()
