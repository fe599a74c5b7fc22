"""The embeddings of the classes, W (m, d): what the blocks predict.

    onehot      the unit vectors, d = m, fixed
    learned     d free numbers a class, which begin orthogonal where m <= d, else at random
    prototype   an input of each class: the one whose median distance to the class's others is
                smallest; d numbers as an input has

Learned and prototype embeddings are trained with the blocks, which couples these; kept fixed they
leave the blocks apart.
"""

from typing import Literal

import torch
from torch import Tensor, nn

Embedding = Literal["onehot", "learned", "prototype"]
MOST = 1000
"""Inputs of a class among which its prototype is looked for; more are drawn from."""


def first_embedding(kind: Embedding, classes: int, size: int) -> Tensor:
    """(classes, size) float32 as W begins; of prototypes zeros, which `prototypes` fills."""
    if kind == "onehot":
        return torch.eye(classes)
    if kind == "prototype":
        return torch.zeros(classes, size)
    made = torch.empty(classes, size)
    return nn.init.orthogonal_(made) if classes <= size else nn.init.normal_(made, std=size**-0.5)


def prototypes(inputs: Tensor, target: Tensor, classes: int, seed: int = 0) -> Tensor:
    """(classes, d) the input of each class with the smallest median distance to its others.

    Args:
        inputs: (n, ...) float32. target: (n,) class codes.
        seed: of the draw, where a class has more than `MOST` inputs.
    """
    flat = inputs.flatten(1)
    found = torch.zeros(classes, flat.shape[1])
    generator = torch.Generator().manual_seed(seed)
    for place in range(classes):
        rows = (target == place).nonzero()[:, 0]
        if len(rows) > MOST:
            rows = rows[torch.randperm(len(rows), generator=generator)[:MOST]]
        if len(rows):
            own = flat[rows]
            # the distance to itself, 0, is one of the values of each and orders nothing else
            found[place] = own[torch.cdist(own, own).median(1).values.argmin()]
    return found
