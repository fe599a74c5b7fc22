"""Keep a new domain out of the directions that the earlier ones use.

    D  (n, d_out)   what the stacks on the model add to n samples, their mean over tokens
    V  (d_out, K)   its leading right singular vectors
    delta <- delta - (delta V) V^T          for what is learned next, beside the same layer

The paper's text takes the samples from the domains that came before, and so does this: each domain
leaves its own singular vectors, times the singular values, behind (`Domain.directions`), and V is
that of all of them together, since D'D = sum of (S V^T)'(S V^T). Nothing of the new domain can
change V then. The authors' release takes them from the new domain instead; `of_samples` on its
rows, with the earlier domains on, is that.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.adapt.brainstacks.switch import Switch
from stackwise.errors import ModelError

MOST, SHARE = 64, 4
"""Directions that are closed where no number is given: 64, and at most a quarter of a layer's."""
POWER_ITERATIONS = 4  # with two, torch's default, the last directions are those of the sketch


@torch.no_grad()
def of_samples(
    model: nn.Module,
    layers: Iterable[str],
    batches: Iterable[Any],
    run: Callable[[nn.Module, Any], Any],
    *,
    samples: int,
    count: int,
) -> dict[str, Tensor]:
    """S V^T by layer, (K, d_out), of what the stacks on the model add to samples. The layers keep
    the hooks that see it.

    Args:
        run: passes a batch through the model.
        samples: rows that are looked at, at most. count: K, at most.
    """
    switch = Switch.of(model)
    for name in layers:
        switch.beside(model, name)
    training = model.training
    model.eval()
    rows = 0
    with switch.recording() as seen:
        for batch in batches:
            mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
            switch.mask = mask if isinstance(mask, Tensor) else None
            run(model, batch)
            rows = sum(len(part) for part in next(iter(seen.values())))
            if rows >= samples:
                break
    model.train(training)
    return {name: leading(torch.cat(seen[name])[:samples], count) for name in layers}


def leading(rows: Tensor, count: int) -> Tensor:
    """(n, d) -> (K, d): the `count` leading right singular vectors, each times its singular value.

    By a randomised decomposition where there are more than twice as many rows as directions (as
    the authors do), with the exact one otherwise.
    """
    count = min(count, *rows.shape)
    if len(rows) > 2 * count and rows.shape[1] > 2 * count:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _, values, right = torch.svd_lowrank(rows, q=count, niter=POWER_ITERATIONS)
        return values[:, None] * right.T
    _, values, right = torch.linalg.svd(rows, full_matrices=False)
    return values[:count, None] * right[:count]


def directions(
    kept: Iterable[Mapping[str, Tensor]], sizes: Mapping[str, int], wanted: int | None
) -> dict[str, Tensor]:
    """V by layer, (d_out, K) with orthonormal columns: the directions that are closed.

    Args:
        kept: what earlier domains left, S V^T by layer. sizes: d_out of each layer.
        wanted: K; None for `MOST` or a share of the layer. Where fewer are used, fewer are
            closed.

    Raises:
        ModelError: a layer has no more than K directions, so that none would be left.
    """
    earlier = list(kept)
    found, short = {}, []
    for name, size in sizes.items():
        rows = [one[name].float() for one in earlier if name in one]
        if not rows:
            continue
        count = min(MOST, max(1, size // SHARE)) if wanted is None else wanted
        if count >= size:
            raise ModelError(
                f"no direction would be left for {name}, which gives {size} numbers, with "
                f"null_dirs={count}: take fewer"
            )
        _, values, right = torch.linalg.svd(torch.cat(rows), full_matrices=False)
        used = int((values > 1e-6 * values[0].clamp_min(1e-30)).sum()) if len(values) else 0
        if wanted is not None and used < count:
            short.append((name, used))
        if used:
            found[name] = right[: min(count, used)].T.contiguous()
    if short:
        name, used = short[0]
        warnings.warn(
            f"{len(short)} layers, {name} first, use fewer than the {wanted} directions asked for "
            f"(there {used}): those are closed",
            stacklevel=2,
        )
    return found
