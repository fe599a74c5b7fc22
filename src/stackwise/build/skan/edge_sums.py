"""The sum over the edges of a layer, with two values a function where an input has no more.

An input that is 0 or 1, as those of one-hot categories are, sees two places of a function, and any
function of two places is a line:

    phi_{ji}(x) = phi_{ji}(0) + x (phi_{ji}(1) - phi_{ji}(0))          x in {0, 1}

So bases are evaluated at 0 and 1 for these inputs, once a step, and not for each row; the rows take
one matrix product with the slopes. Of a table of a thousand categories that is most of the work.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stackwise.build.skan.bases import ALL


@dataclass(slots=True)
class Family:
    """Edge functions that share their basis.

    Attributes:
        basis: inputs (B, n), and which of its own they are, -> (B, n, K).
        weight: (n_out, n, K), its coefficients.
        places: (n,) which inputs of the layer it takes, in rising order; None for all.
        numbers: how many of these are numbers; the rest, the last ones, are 0 or 1.
    """

    basis: Callable[[Tensor, slice], Tensor]
    weight: Tensor
    places: Tensor | None
    numbers: int

    def of_numbers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, numbers K) values of its basis at the numbers of (B, n_in), and their weights."""
        if self.numbers == x.shape[1]:  # the common case, without taking all of everything
            return self.basis(x, ALL).flatten(1), self.weight.flatten(1)
        at = slice(0, self.numbers)
        numbers = x[:, at] if self.places is None else x.index_select(1, self.places[at])
        return self.basis(numbers, at).flatten(1), self.weight[:, at].flatten(1)

    def of_two_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of (B, n_in): sum_i phi_{ji}(0), (n_out,), and what the slopes add, (B, n_out)."""
        at = slice(self.numbers, None)
        hot = x[:, at] if self.places is None else x.index_select(1, self.places[at])
        low, slopes = slopes_of(self.basis, self.weight[:, at], at)
        return low.sum(1), product(hot, slopes)


def slopes_of(
    basis: Callable[[Tensor, slice], Tensor], weight: Tensor, at: slice
) -> tuple[Tensor, Tensor]:
    """phi_{ji}(0) and phi_{ji}(1) - phi_{ji}(0) of the inputs `at`, each (n_out, m).

    Args:
        weight: (n_out, m, K) their coefficients.
    """
    ends = weight.new_tensor([[0.0], [1.0]]).expand(-1, weight.shape[1])
    low, high = torch.einsum("pik,jik->pji", basis(ends, at), weight)
    return low, high - low


def in_fours(x: Tensor) -> bool:
    """Whether a product is taken over a multiple of four numbers: where nothing is learned."""
    return x.shape[-1] % 4 != 0 and not torch.is_grad_enabled()


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b, (B, d) and (n, d) -> (B, n).

    In prediction a row's bits must not depend on where it stands in a block. On some processors the
    product of few outputs does, where rows do not begin at a multiple of 16 bytes: zeros fill d up.
    """
    if in_fours(x):
        more = -x.shape[-1] % 4
        x, weight = F.pad(x, (0, more)), F.pad(weight, (0, more))
    return F.linear(x, weight, bias)


def edge_sum(
    x: Tensor, families: Sequence[Family], bias: Tensor, base: Tensor | None, two_valued: int
) -> Tensor:
    """b_j + sum_i [ sum over families of phi_{ji}(x_i) + w_{ji} silu(x_i) ].

    Args:
        x: (B, n_in). bias: (n_out,). base: w, (n_out, n_in), or None.
        two_valued: how many of the last inputs are 0 or 1.

    Returns:
        (B, n_out)
    """
    found = [family.of_numbers(x) for family in families if family.numbers]
    added = []
    if two_valued:
        for family in families:
            if family.weight.shape[1] > family.numbers:
                low, of_slopes = family.of_two_values(x)
                bias = bias + low
                added.append(of_slopes)
    if found:
        values, weights = zip(*found, strict=True)
        y = product(one(values), one(weights), bias)
    else:
        y = bias.expand(len(x), -1)
    if base is not None:
        y = y + product(F.silu(x), base) if in_fours(x) else torch.addmm(y, F.silu(x), base.T)
    for of_slopes in added:
        y = y + of_slopes
    return y


def one(parts: Sequence[Tensor]) -> Tensor:
    """The parts beside each other, along the last dimension; a single one is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), -1)
