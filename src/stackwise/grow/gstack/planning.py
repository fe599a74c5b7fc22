"""When to grow, and by how much: the paper's fits over runs of 410M to 3B parameters.

With N the parameters of the grown model (embeddings left out) and C = 6 N D the floating-point
operations of the whole training of D tokens, the base is trained on d tokens,

    log10 d = 0.88 log10 N + 163.27 / log10 C - 5.74        (the guideline for the timing)

and grown 4-fold. A second fit, which the authors call mediocre, is for the factor itself:

    log10 g = 1.01 log10 N - 29.88 / log10 C - 7.36

d falls as C grows: the larger the budget, the less of it goes to the base.
"""

import math
from dataclasses import dataclass

from stackwise.errors import KnobError

FACTOR = 4


@dataclass(frozen=True)
class GrowthSchedule:
    """How to train a model of so many parameters on so many tokens by growing it.

    Attributes:
        parameters: of the grown model, embeddings left out.
        tokens: that scratch training would see with the same compute.
        base_tokens: that the base is trained on.
        factor: how many times the base's blocks are repeated.
        base_share: the base's part of the compute.
        grown_tokens: what the rest of the compute pays for.
        fitted_factor: what the fit for the factor says; the paper advises 4 all the same.
    """

    parameters: float
    tokens: float
    base_tokens: float
    factor: int
    fitted_factor: float

    @property
    def base_share(self) -> float:
        """The base's part of the compute, between 0 and 1."""
        return self.base_tokens / self.factor / self.tokens

    @property
    def grown_tokens(self) -> float:
        """Tokens that the grown model sees where both together cost what scratch would."""
        return self.tokens - self.base_tokens / self.factor

    def __str__(self) -> str:
        return (
            f"train the base, one {self.factor}th of the blocks, on {self.base_tokens:.3g} tokens "
            f"({100 * self.base_share:.2g} % of the compute), grow it {self.factor}-fold, and go "
            f"on for {self.grown_tokens:.3g} tokens"
        )


def growth_schedule(
    params: float, tokens: float | None = None, *, flops: float | None = None, factor: int = FACTOR
) -> GrowthSchedule:
    """The paper's guideline for a model of `params` parameters.

    Args:
        params: of the grown model, embeddings left out.
        tokens: that it would be trained on from scratch. flops: or the compute, 6 params tokens.
        factor: growth in depth.

    Raises:
        KnobError: neither or both of tokens and flops, a number that is not positive, or a budget
            so small that the base alone would take it all: the fit does not reach so far down.
    """
    if (tokens is None) == (flops is None):
        raise KnobError("give either tokens or flops, the budget of the whole training")
    if tokens is None:
        assert flops is not None
        tokens = flops / (6 * params) if params > 0 else 0.0
    if not (params > 0 and tokens > 0 and factor >= 1):
        raise KnobError(
            f"params={params}, tokens={tokens} and factor={factor} must all be positive"
        )
    compute = math.log10(6 * params * tokens)
    base = 10 ** (0.88 * math.log10(params) + 163.27 / compute - 5.74)
    fitted = 10 ** (1.01 * math.log10(params) - 29.88 / compute - 7.36)
    if base / factor >= tokens:
        raise KnobError(
            f"the guideline gives the base {base:.3g} tokens, more than the whole budget of "
            f"{tokens:.3g} pays for: it was fitted to 410M parameters and more; choose the share "
            "of the base yourself (5 to 10 % of the compute)"
        )
    return GrowthSchedule(params, tokens, base, factor, fitted)
