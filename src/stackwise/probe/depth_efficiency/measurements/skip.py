"""What changes when a block is skipped: for later blocks, the output, and later tokens (P4, P5).

Block s becomes the identity, hbar_{s+1} = hbar_s, and the change flows on. Bars mark that run:

    E[s, l] = max_t ||c_l[t] - cbar_l[t]|| / ||c_l[t]||      change of what block l writes
    O[s]    = max_t ||y[t] - ybar[t]||_2                     change of the output probabilities

The future form skips only at tokens before a split t_s and measures only from t_s on: what block
s computed for earlier tokens, and later tokens used. The maximum is meant: a block may matter on
rare tokens only.

Source: arXiv 2505.13898, sections 3.2 and 3.3. Differs from the authors' code, which runs the
whole model for each s: here one sweep goes up the stack with all skipped runs in one growing
batch, so that block l runs on the l streams that differ by then. That is half the block calls,
and a run is never started anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stackwise.errors import DataError, ModelError
from stackwise.probe.depth_efficiency.clean_run import (
    CleanRun,
    output_change,
    relative_change,
    tiled,
)
from stackwise.probe.depth_efficiency.sublayers import Part

SHORTEST = 13
"""Tokens that a prompt needs for a split: one at 8, with at least 4 tokens after the next."""


@dataclass
class Effects:
    """Changes for each token; NaN where a token was not measured.

    Attributes:
        relative: (K splits, L skipped, L measured, B * T), zero below the diagonal.
        output: (K, L skipped, B * T'), probability vectors, or relative where values.
    """

    relative: Tensor
    output: Tensor


def splits_of(tokens: int, count: int, generator: torch.Generator) -> list[int]:
    """`count` splits of a prompt: of 8, 16, 24, ... below tokens - 4, shuffled, the first ones.

    Raises:
        DataError: the prompt is too short to have one.
    """
    if tokens < SHORTEST:
        raise DataError(f"the prompt has {tokens} tokens; splits need at least {SHORTEST}")
    candidates = torch.arange(8, tokens - 4, 8)
    order = torch.randperm(len(candidates), generator=generator)[:count]
    return sorted(candidates[order].tolist())


def check_future(run: CleanRun) -> None:
    """Refuse a stack in which later tokens are not distinct from earlier ones.

    Raises:
        ModelError: the stream has no token axis, or a token can change an earlier one.
    """
    if not run.is_sequence or run.tokens < 2:
        raise ModelError(
            "future effects need a stream of tokens (rows, tokens, width), and this one is "
            f"{tuple(run.hidden[0].shape)}"
        )
    if run.leak is not None:
        raise ModelError(
            f"future effects need a causal model: changing token {run.leak[0]} changed token "
            f"{run.leak[1]}"
        )


def skip(
    run: CleanRun,
    splits: Sequence[int | None] = (None,),
    *,
    protect: int = 1,
    part: Part = "layer",
) -> Effects:
    """Skip every block in turn, or only its attention or MLP.

    Args:
        splits: None skips at all tokens and measures all of them; a number skips before that
            token and measures from it on.
        protect: this many first tokens of a causal stack are never skipped nor measured.
        part: what is silenced; the effect is always on whole blocks.

    Raises:
        ModelError: a split in a stack that is not causal, or a part of a block that is no sum.
    """
    changed = [changed_tokens(run, split, protect) for split in splits]
    relative = torch.zeros(len(splits), run.depth, run.depth, run.batch, run.tokens)
    streams = run.hidden[0][:0]  # rows (s, split, example of the batch), growing with s
    for index in range(run.depth):
        stream, contribution = run.hidden[index], run.contribution(index)
        later = run.block(index, streams) if index else streams
        started = torch.cat([_silenced(run, index, tokens, part) for tokens in changed])
        written = torch.cat([later - streams, started - tiled(stream, len(splits))])
        change = relative_change(written - tiled(contribution, written), contribution)
        change = torch.unflatten(change, 0, (index + 1, len(splits), run.batch)).transpose(0, 1)
        relative[:, : index + 1, index] = change.cpu()
        streams = torch.cat([later, started])
    relative = unmeasured_to_nan(run, relative, splits, protect)
    return Effects(relative.flatten(-2), _output_changes(run, streams, splits, protect))


def changed_tokens(run: CleanRun, split: int | None, protect: int) -> Tensor:
    """(T,) booleans: the tokens at which a block is edited.

    Raises:
        ModelError: a split in a stack that is not causal.
        DataError: no token before the split, or none from it on.
    """
    first, stop = run.guarded(protect), run.tokens
    if split is not None:
        check_future(run)
        if not first < split < run.tokens:
            raise DataError(
                f"the split {split} is not within tokens {first + 1} to {run.tokens - 1}"
            )
        stop = split
    position = torch.arange(run.tokens, device=run.hidden[0].device)
    return (position >= first) & (position < stop)


def unmeasured_to_nan(
    run: CleanRun, values: Tensor, splits: Sequence[int | None], protect: int
) -> Tensor:
    """Values (K, ..., T) with NaN at the tokens that each split does not measure."""
    for place, split in enumerate(splits):
        values[place, ..., : run.guarded(protect) if split is None else split] = torch.nan
    return values


def _silenced(run: CleanRun, index: int, tokens: Tensor, part: Part) -> Tensor:
    """The stream after block `index` when it, or a part of it, writes nothing at `tokens`."""
    stream, clean = run.hidden[index], run.hidden[index + 1]
    if part == "layer":
        return torch.where(tokens[:, None], stream, clean) if run.is_sequence else stream
    written = run.sublayers.of(part)[index]
    silent = torch.where(tokens[:, None], torch.zeros_like(written), written)
    with run.sublayers.edited(index, part, silent):
        return run.block(index, stream)


def _output_changes(
    run: CleanRun, streams: Tensor, splits: Sequence[int | None], protect: int
) -> Tensor:
    """(K, L, B * T') changes of the output; NaN where not measured."""
    given = [split for split in splits if split is not None]
    last = run.tokens - min(given) if len(given) == len(splits) else None
    changes = [output_change(run, edited, last).cpu() for _, edited in run.heads(streams, last)]
    found = torch.cat(changes)
    whole = torch.zeros(*found.shape[:2], run.output.shape[1])
    whole[..., -found.shape[-1] :] = found
    whole = torch.unflatten(whole, 0, (run.depth, len(splits))).transpose(0, 1)
    if run.per_token:
        whole = unmeasured_to_nan(run, whole.contiguous(), splits, protect)
    return whole.flatten(-2)
