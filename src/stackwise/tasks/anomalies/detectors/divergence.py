"""How far a normal distribution is from the standard one."""

from torch import Tensor


def kl_to_standard_normal(mean: Tensor, logvar: Tensor) -> Tensor:
    """-1/2 (1 + logvar - mean^2 - exp(logvar)) each: KL(N(mean, exp(logvar)) | N(0, 1))."""
    return -0.5 * (1 + logvar - mean.square() - logvar.exp())
