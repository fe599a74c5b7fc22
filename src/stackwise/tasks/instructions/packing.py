"""Lay samples into rows: packed behind one another, or each in a row of its own with padding.

Samples of a packed row do not see each other: attention is block-diagonal, positions begin at 0
again, and the first token of a sample is not learned from the last of the one before. The longest
samples go first, each into the row with the fewest tokens, so that rows are about equally long.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stackwise.tasks.instructions.encode import IGNORED, Encoded


@dataclass(frozen=True)
class EffectiveBatch:
    """The samples of one step of the optimizer, as rows that a model takes one after the other.

    Attributes:
        rows: what the model is called with, and `labels` beside it.
        tokens: that are learned, in all rows: the loss is their mean. samples: how many.
    """

    rows: list[dict[str, Tensor]]
    tokens: int
    samples: int


def spread(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Samples by row, longest first, each into the least loaded row; no row is above `most`.

    A sample that is longer than `most` by itself gets a row of its own.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    count = max(1, -(-sum(lengths) // most))
    while True:
        bins: list[list[int]] = [[] for _ in range(count)]
        loads = [0] * count
        fits = True
        for i in order:
            least = min(range(count), key=lambda b: (loads[b], b))
            if loads[least] and loads[least] + lengths[i] > most:
                fits = False
                break
            bins[least].append(i)
            loads[least] += lengths[i]
        if fits:
            return [row for row in bins if row]
        count += 1


def packed_row(samples: Sequence[Encoded]) -> dict[str, Tensor]:
    """One row (1, tokens) of several samples.

    `attention_mask` (1, 1, tokens, tokens) bool says which token sees which; `call` gives it to the
    model in the model's own type.
    """
    ids = torch.tensor([[token for one in samples for token in one.ids]])
    labels = torch.tensor([[label for one in samples for label in (IGNORED, *one.labels[1:])]])
    positions = torch.cat([torch.arange(len(one.ids)) for one in samples])[None]
    owner = torch.cat([torch.full((len(one.ids),), i) for i, one in enumerate(samples)])
    seen = (owner[:, None] == owner[None]) & torch.ones(len(owner), len(owner)).tril().bool()
    return {
        "input_ids": ids, "labels": labels, "position_ids": positions,
        "attention_mask": seen[None, None],
    }  # fmt: skip


def padded_rows(samples: Sequence[Encoded], pad: int) -> dict[str, Tensor]:
    """A row a sample, padded at the right: (samples, longest)."""
    longest = max(len(one.ids) for one in samples)
    ids = torch.full((len(samples), longest), pad)
    labels = torch.full((len(samples), longest), IGNORED)
    mask = torch.zeros(len(samples), longest, dtype=torch.int64)
    for i, one in enumerate(samples):
        ids[i, : len(one.ids)] = torch.tensor(one.ids)
        labels[i, 1 : len(one.ids)] = torch.tensor(one.labels[1:])
        mask[i, : len(one.ids)] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def effective_batch(
    samples: Sequence[Encoded], *, most_tokens: int, packed: bool, pad: int = 0
) -> EffectiveBatch:
    """The rows of an effective batch, each of at most `most_tokens` tokens (padding included)."""
    if packed:
        groups = spread([len(one.ids) for one in samples], most_tokens)
        rows = [packed_row([samples[i] for i in sorted(group)]) for group in groups]
    else:
        order = sorted(samples, key=lambda one: len(one.ids))
        rows, group = [], list[Encoded]()
        for one in order:
            if group and (len(group) + 1) * len(one.ids) > most_tokens:
                rows.append(padded_rows(group, pad))
                group = []
            group.append(one)
        rows.append(padded_rows(group, pad))
    return EffectiveBatch(rows, sum(one.learned for one in samples), len(samples))


def call(model: Any, row: dict[str, Tensor]) -> Tensor:
    """The logits of a row."""
    given = {name: value for name, value in row.items() if name != "labels"}
    seen = given.get("attention_mask")
    if seen is not None and seen.ndim == 4:
        kind = seen.device.type
        dtype = next(model.parameters()).dtype
        if torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
        closed = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        given["attention_mask"] = closed.masked_fill(~seen, torch.finfo(dtype).min)
    logits: Tensor = model(**given, use_cache=False).logits
    return logits


def summed_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of -log p over the labelled tokens, each predicted from those before it."""
    scores = logits[:, :-1].flatten(0, 1)
    if scores.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()
    return torch.nn.functional.cross_entropy(
        scores, labels[:, 1:].flatten(), ignore_index=IGNORED,
        reduction="sum",
    )  # fmt: skip
