"""Total-variation denoising of pictures and series: the step that keeps what is made smooth.

    u* = argmin_u  sum |grad u|  +  w ||u - f||^2        per channel, |grad u| the Euclidean length

The larger w, the less is smoothed, and an infinite w changes nothing. It is what the published code
calls after each update (split Bregman in scikit-image, 0 to 255). Here the same problem is solved
from its dual, for a batch at once and from where the last call ended:

    u = f + div p / (2w),   p <- project(p + grad(div p + 2w f) / 4d),   |p| <= 1 at each pixel

with Nesterov's momentum (arXiv 0905.2898 has such schemes; d is the number of directions).
"""

import math

import torch
from torch import Tensor


def denoise(
    pictures: Tensor, weight: float, iterations: int = 20, dual: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Smoothed pictures, and the dual variable from which the next call may begin.

    Args:
        pictures: (B, C, *S), S one side or two. weight: w, above 0; infinite is the identity.
        dual: (d, B, C, *S) of a call on similar pictures.
    """
    dims = range(2, pictures.ndim)
    count = len(dims)
    p = torch.zeros(count, *pictures.shape).to(pictures) if dual is None else dual
    if math.isinf(weight):
        return pictures, p
    scaled, before, y, t = 2 * weight * pictures, p, p, 1.0
    for _ in range(iterations):
        q = y + differences(divergence(y).add_(scaled)) / (4 * count)
        p = q / q.square().sum(0).sqrt_().clamp_(min=1)
        t_next = (1 + math.sqrt(1 + 4 * t * t)) / 2
        y = p + (t - 1) / t_next * (p - before)
        before, t = p, t_next
    return pictures + divergence(p) / (2 * weight), p


def differences(pictures: Tensor) -> Tensor:
    """(d, B, C, *S): to the next pixel along each side; 0 at the last one."""
    found = torch.zeros(pictures.ndim - 2, *pictures.shape).to(pictures)
    for place, dim in enumerate(range(2, pictures.ndim)):
        length = pictures.shape[dim] - 1
        found[place].narrow(dim, 0, length).copy_(pictures.diff(dim=dim))
    return found


def divergence(field: Tensor) -> Tensor:
    """Minus the adjoint of `differences`."""
    found = torch.zeros_like(field[0])
    for place, dim in enumerate(range(2, field.ndim - 1)):
        length = field.shape[dim + 1] - 1
        part = field[place].narrow(dim, 0, length)
        found.narrow(dim, 0, length).add_(part)
        found.narrow(dim, 1, length).sub_(part)
    return found


def total_variation(pictures: Tensor, beta: float = 1.0) -> Tensor:
    """(B,) sum over channels and pixels of |grad|^beta; beta 1 is what `denoise` makes small."""
    lengths = differences(pictures).square().sum(0)
    return lengths.pow(beta / 2).flatten(1).sum(1)
