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
    starts = categorical.new_tensor([0, *itertools.accumulate(cardinalities)][:-1])
    places = torch.where(
        categorical < categorical.new_tensor(cardinalities), categorical + starts, total
    )
    wide = torch.zeros((*categorical.shape[:-1], total + 1), device=categorical.device)
    return wide.scatter(-1, places, 1.0)[..., :total]
