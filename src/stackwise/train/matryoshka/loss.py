"""Any loss of embeddings, summed over their nested sizes.

    criterion = MatryoshkaLoss(contrastive_loss, dims=(8, 16, 32, 64), normalise=True)
    criterion(of_texts, of_pictures).backward()

    loss = sum_m c_m L(cut(z, m), ...)                                          arXiv 2205.13147

Each size is cut from the embeddings themselves, and none from what another one left.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.errors import DataError, KnobError
from stackwise.train.matryoshka.sizes import checked_sizes, checked_weights, cut, weighed_sum


class MatryoshkaLoss(nn.Module):
    """A loss on every prefix.

    Args:
        loss: (embeddings, ...) -> scalar: a module, whose parameters are this one's, or a function.
        dims: rising sizes that end at d; None takes `halvings(d)` of the embeddings that come.
        weights: c_m of each size; None is 1 each.
        normalise: bring every cut to length 1, that of all d numbers too. A loss that does so
            itself (`contrastive_loss`) needs it not; one of distances then becomes one of angles.
        cuts: places of the arguments that are cut; None: every tensor of floating-point numbers
            whose last axis has d. A target that is an embedding too (of a teacher) is cut so, and
            embeddings of tokens (B, T, d); name the places where that is not meant.
        dims_per_step: sizes of a call, drawn at random; None is all. The sum is over those drawn.

    Raises:
        KnobError: sizes, weights, places or the number of sizes do not fit.
    """

    def __init__(
        self,
        loss: Callable[..., Tensor],
        dims: Sequence[int] | None = None,
        *,
        weights: Sequence[float] | None = None,
        normalise: bool = False,
        cuts: Sequence[int] | None = None,
        dims_per_step: int | None = None,
    ) -> None:
        super().__init__()
        self.loss = loss
        self.dims = None if dims is None else checked_sizes(dims, list(dims)[-1])
        if self.dims is None and weights is not None:
            raise KnobError("weights are one a size: give dims too")
        self.weights = None if self.dims is None else checked_weights(weights, self.dims)
        if cuts is not None and not (cuts and all(place >= 0 for place in cuts)):
            raise KnobError(f"cuts are places of arguments, from 0, got {tuple(cuts)}")
        if dims_per_step is not None and dims_per_step < 1:
            raise KnobError(f"dims_per_step must be at least 1, got {dims_per_step}")
        self.normalise, self.cuts, self.dims_per_step = normalise, cuts, dims_per_step

    def forward(self, *given: Any) -> Tensor:
        """The weighted sum of the losses of (B, d) embeddings and of what the loss takes besides.

        Raises:
            DataError: no argument is an embedding of the sizes that were given.
        """
        places = self._places(given)
        dims = self.dims or checked_sizes(None, given[places[0]].shape[-1])
        weights = self.weights or checked_weights(None, dims)
        drawn = self._drawn(list(zip(dims, weights, strict=True)))
        losses = (self.loss(*self._cut(given, places, dim)) for dim, _ in drawn)
        return weighed_sum([weight for _, weight in drawn], losses)

    def _places(self, given: tuple[Any, ...]) -> list[int]:
        """Which arguments are embeddings."""
        size = None if self.dims is None else self.dims[-1]
        if self.cuts is not None:
            wrong = [p for p in self.cuts if p >= len(given) or not _is_embedding(given[p], size)]
            if wrong:
                raise DataError(
                    f"argument {wrong[0]} of the loss is no embedding of {size or 'any'} numbers"
                )
            return list(self.cuts)
        if size is None:
            found = next((one.shape[-1] for one in given if _is_embedding(one, None)), None)
            size = found or 0
        places = [p for p, one in enumerate(given) if _is_embedding(one, size)]
        if not places:
            shapes = ", ".join(str(tuple(one.shape)) for one in given if isinstance(one, Tensor))
            raise DataError(f"no argument is an embedding of {size} numbers; there are {shapes}")
        return places

    def _cut(self, given: tuple[Any, ...], places: list[int], dim: int) -> list[Any]:
        return [
            cut(one, dim, normalise=self.normalise) if place in places else one
            for place, one in enumerate(given)
        ]

    def _drawn(self, sizes: list[tuple[int, float]]) -> list[tuple[int, float]]:
        """The sizes of this call, rising."""
        if self.dims_per_step is None or self.dims_per_step >= len(sizes):
            return sizes
        kept = torch.randperm(len(sizes))[: self.dims_per_step].sort().values
        return [sizes[place] for place in kept.tolist()]


def _is_embedding(one: Any, size: int | None) -> bool:
    if not isinstance(one, Tensor) or not one.is_floating_point() or one.ndim < 2:
        return False
    return size is None or one.shape[-1] == size
