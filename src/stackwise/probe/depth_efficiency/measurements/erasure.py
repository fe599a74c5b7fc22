"""From which block on a token is no longer read: residual erasure (P9).

At one block and one token the stream is replaced by an uninformative one, the mean of the stream
at that depth over the tokens of reference prompts, and the model runs on:

    R[l, t] = max over answer positions of ||y - ybar||_2      with h_l[t] := mean(h_l)

A column fades to 0 from the block after which its token is no longer needed. In the last row
(l = L) only positions that give out an answer token can count.

Source: arXiv 2505.13898, section 4.2; the paper's reference is ten prompts of GSM8K. Differs from
the authors' code, which takes the maximum over all tokens after t, those of the prompt too; here
it is over the positions that give out the answer, t itself among them where it is one.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from stackwise.layers.evaluating import evaluating
from stackwise.probe.depth_efficiency.clean_run import CleanRun, output_change, tiled
from stackwise.probe.depth_efficiency.prompts import answered, examples_of, opened
from stackwise.stack import Stack


def erase(
    model: Any, prompt: Any, answer: Any, reference: Any, *, tokenizer: Any = None
) -> pd.DataFrame:
    """How much the answer changes when one token's stream is erased at one block.

    Args:
        model: a causal language model or its folder.
        prompt, answer: two strings, or two lists of token ids.
        reference: prompts whose mean stream says nothing in particular.

    Returns:
        (L + 1, T): a row for each depth, a column a token of prompt + answer.
    """
    model, tokenizer = opened(model, tokenizer)
    ids, start = answered(prompt, answer, tokenizer)
    device = next(model.parameters()).device
    with evaluating(model):
        stack = Stack.of(model)
        means = mean_streams(
            CleanRun(stack, example) for example in examples_of(model, reference, tokenizer)
        )
        run = CleanRun(stack, {"input_ids": ids.to(device)})
        rows = [erasure(run, index, start, means[index]) for index in range(run.depth + 1)]
    return pd.DataFrame(torch.stack(rows).numpy()).rename_axis(index="layer", columns="token")


def mean_streams(runs: Any) -> list[Tensor]:
    """Mean of h_l over all tokens of clean runs; L + 1 vectors (d,)."""
    totals: list[Tensor] = []
    count = 0
    for run in runs:
        sums = [hidden.sum((0, 1)) for hidden in run.hidden]
        totals = [a + b for a, b in zip(totals, sums, strict=True)] if totals else sums
        count += run.tokens
    return [total / count for total in totals]


def erasure(
    run: CleanRun, index: int, start: int, value: Tensor, tokens: Sequence[int] | None = None
) -> Tensor:
    """R[index, t] for every token, or those given.

    Args:
        start: place of the first answer token.
        value: (d,) or (T, d), what replaces the stream at a token.

    Returns:
        (T,) or as many as `tokens`.
    """
    chosen = list(range(run.tokens)) if tokens is None else list(tokens)
    edited = tiled(run.hidden[index], len(chosen)).clone()
    rows = torch.arange(len(chosen))
    edited[rows, chosen] = value if value.dim() == 1 else value[chosen]
    # answer token i is given out at position i - 1; the last token gives out nothing asked for
    last = run.tokens - start + 1
    streams = run.finish(index, edited)
    changes = [output_change(run, y, last)[:, 0, :-1] for _, y in run.heads(streams, last)]
    return torch.cat(changes).amax(-1).cpu()
