"""Which domains a sample needs, found by trying: the targets of the router.

For each sample, by the loss of its answer: begin with the best single domain if it beats the base
at all, else with none; then add one domain at a time, the one that lowers the loss most, while it
lowers it by more than a margin. A pass tries one more domain for every sample of a batch at once,
since samples may carry other weights beside each other.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.adapt.brainstacks.switch import Switch

MARGIN = 0.01
HALF = 0.5


def row_losses(loss: Callable[[nn.Module, Any], Tensor], model: nn.Module, batch: Any) -> Tensor:
    """(B,): the loss of each row of a batch by itself.

    From the logits, where the model is one of transformers that gives them beside labels; of any
    other row by row.
    """
    labels = batch.get("labels") if isinstance(batch, Mapping) else None
    config = getattr(model, "config", None)
    if isinstance(labels, Tensor) and config is not None and not config.is_encoder_decoder:
        given = {name: value for name, value in batch.items() if name != "labels"}
        logits = model(**given).logits.float()
        if logits.dim() == 3 and labels.shape == logits.shape[:2]:
            wanted = labels[:, 1:].clone()
            each = functional.cross_entropy(
                logits[:, :-1].transpose(1, 2), wanted, reduction="none", ignore_index=-100
            )
            return each.sum(1) / (wanted != -100).sum(1).clamp_min(1)
        if logits.dim() == 2 and labels.dim() == 1:
            return functional.cross_entropy(logits, labels, reduction="none")
    switch = Switch.of(model)
    weights = switch.weights
    found = []
    for place in range(len(first_tensor(batch))):
        with switch.only(None if weights is None else _row(weights, place)):
            found.append(loss(model, _row(batch, place)))
    return torch.stack(found)


def first_tensor(batch: Any) -> Tensor:
    """A tensor of a batch whose length is that of the batch."""
    values = batch.values() if isinstance(batch, Mapping) else batch
    return next(value for value in values if isinstance(value, Tensor))


def _row(batch: Any, place: int) -> Any:
    def cut(value: Any) -> Any:
        return value[place : place + 1] if isinstance(value, Tensor) else value

    if isinstance(batch, Mapping):
        return {name: cut(value) for name, value in batch.items()}
    return tuple(cut(value) for value in batch)


@torch.no_grad()
def discover(
    losses: Callable[[Mapping[str, Tensor]], Tensor],
    domains: Sequence[str],
    *,
    floor: Mapping[str, float] | None = None,
    margin: float = MARGIN,
    half: Iterable[str] = (),
) -> Tensor:
    """(B, D) in [0, 1]: the set of domains that each sample needs.

    Args:
        losses: weights by domain, each (B,) -> the loss of each row, (B,).
        floor: a domain that is always on at least so much, in the trials and in what comes out.
        half: domains whose target is 0.5 where they are not in the set and adding them lowers the
            loss at all.
    """
    count = len(domains)
    low = torch.tensor([float((floor or {}).get(name, 0.0)) for name in domains])
    base = losses({})
    rows = len(base)

    def tried(chosen: Tensor) -> Tensor:
        weights = torch.maximum(chosen.float(), low)
        return losses({name: weights[:, place] for place, name in enumerate(domains)}).cpu()

    base = base.cpu()
    singles = torch.stack(
        [tried(functional.one_hot(torch.full((rows,), d), count)) for d in range(count)], 1
    )
    best, first = singles.min(1)
    chosen = functional.one_hot(first, count).bool() & (best < base)[:, None]
    now = torch.where(best < base, best, base)
    # a sample that no domain helps has the empty set, and stays there
    alive = chosen.any(1)
    while bool(alive.any()) and not bool(chosen.all()):
        trials = torch.full((rows, count), torch.inf)
        for place in range(count):
            more = chosen.clone()
            more[:, place] = True
            wanted = alive & ~chosen[:, place]
            if bool(wanted.any()):
                trials[:, place] = torch.where(wanted, tried(more), torch.inf)
        best, added = trials.min(1)
        alive = best < now - margin
        chosen = chosen | (functional.one_hot(added, count).bool() & alive[:, None])
        now = torch.where(alive, best, now)
    target = chosen.float()
    for name in half:
        place = list(domains).index(name)
        more = chosen.clone()
        more[:, place] = True
        helps = (tried(more) < now) & ~chosen[:, place]
        target[:, place] = torch.where(helps, torch.full((rows,), HALF), target[:, place])
    return torch.maximum(target, low)
