"""A donor budget: which b donors each block may take, chosen before anything is learned.

    random       b donors, drawn
    features     those whose data look most like the target's to the base: the cosine of mean
                 features
    grad         those with the largest sum over blocks of | dL / dlambda | at lambda = 0
    grad-block   the same for each block by itself, so that blocks take different donors

Gradients cost one pass over some batches. Each is n dot products a block (eq. 2), taken as they
come, so that memory does not grow with the number of donors and they need not be taken in groups
of b, as the paper takes them.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.adapt.atlas.calls import Loss, call_of, features_of
from stackwise.adapt.atlas.composition import Composition
from stackwise.errors import DataError, KnobError
from stackwise.learning.trainable import Trainable

Selection = Literal["grad-block", "grad", "features", "random"]
LOOKED_AT = 50
"""Batches that a choice looks at."""


def allowed_donors(
    selection: Selection,
    budget: int,
    shape: tuple[int, int],
    *,
    gradient: Tensor | None = None,
    target: Tensor | None = None,
    donors: Sequence[Tensor] = (),
    seed: int = 0,
) -> Tensor:
    """(n, m) bool: the donors that each block may take.

    Args:
        shape: n donors, m blocks.
        gradient: (n, m) dL / dlambda at 0, for `grad` and `grad-block`.
        target: (D,) the mean feature of the target's data, and `donors` those of the donors', for
            `features`.

    Raises:
        KnobError: the budget is above the number of donors.
    """
    count, blocks = shape
    if budget > count:
        raise KnobError(f"budget is {budget}, and there are {count} donors")
    if selection == "grad-block":
        assert gradient is not None
        first = gradient.abs().topk(budget, dim=0).indices
        return torch.zeros(shape, dtype=torch.bool).scatter_(0, first, True)
    if selection == "grad":
        assert gradient is not None
        worth = gradient.abs().sum(1)
    elif selection == "features":
        assert target is not None
        worth = functional.cosine_similarity(torch.stack(list(donors)), target[None], dim=1)
    else:
        worth = torch.rand(count, generator=torch.Generator().manual_seed(seed))
    allowed = torch.zeros(shape, dtype=torch.bool)
    allowed[worth.topk(budget).indices] = True
    return allowed


def gradient_at_zero(composition: Composition, joined: Trainable, loss: Loss) -> Tensor:
    """(n, m) the mean over batches of dL / dlambda where lambda is 0.

    Args:
        composition: with a coefficient a block, all 0.
    """
    composition.values.grad = None
    network = composition.written()
    count = 0
    for batch in islice(joined.batches.epoch(0), LOOKED_AT):
        loss(network, batch).backward()  # type: ignore[no-untyped-call]
        count += 1
    found = composition.values.grad
    composition.values.grad = None
    assert found is not None
    return found[:, :, 0] / count


@torch.no_grad()
def mean_feature(network: nn.Module, joined: Any) -> Tensor:
    """(D,) the mean over samples of what the last layer of the base reads.

    Raises:
        DataError: there are no samples.
    """
    found = [
        features_of(network, call_of(joined.loss, network, batch)).float()
        for batch in islice(joined.batches.epoch(0), LOOKED_AT)
    ]
    if not found:
        raise DataError("there are no samples whose features could be compared")
    return torch.cat(found).mean(0)
