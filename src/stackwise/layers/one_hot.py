"""Several categorical features as one vector of zeros and ones."""

import itertools

import torch
from torch import Tensor


def one_hot(categorical: Tensor, cardinalities: list[int]) -> Tensor:
    """(..., n_categorical) int64 codes -> (..., sum of cardinalities) float32.

    The code `cardinality` (a value that training did not see) is all zeros: it falls into a last
    column that is cut off.
    """
    total = sum(cardinalities)
    places = hot_places(categorical, cardinalities)
    wide = torch.zeros((*categorical.shape[:-1], total + 1), device=categorical.device)
    return wide.scatter(-1, places, 1.0)[..., :total]


def hot_places(categorical: Tensor, cardinalities: list[int]) -> Tensor:
    """Where the ones are: (..., n_categorical) codes -> places 0 .. sum of cardinalities.

    The last place, the sum itself, is that of every code that training did not see.
    """
    starts = categorical.new_tensor([0, *itertools.accumulate(cardinalities)][:-1])
    known = categorical < categorical.new_tensor(cardinalities)
    return torch.where(known, categorical + starts, sum(cardinalities))
