"""Which block, at which token, the answer rests on: integrated gradients (P8).

For a prompt with an answer, f is the sum of the probabilities of the answer's true tokens. The
site z (T, d) is what a block, its attention or its MLP writes into the stream; the baseline b is
the mean of z over the tokens of the same prompt. With N steps from b to z,

    A[l, t] = sum_d (z - b)[t, d] * (1/N) sum_{k=0}^{N-1} df/dz[t, d] at b + (k/N) (z - b)

so that sum_t A[l, t] -> f(z) - f(b) as N grows: an exact account of what the site adds to the
answer.

Source: arXiv 2505.13898, section 4.2. For site "layer", z is the stream h_{l+1} after block l.
"""

from typing import Any

import pandas as pd
import torch
from torch import Tensor

from stackwise.layers.evaluating import evaluating
from stackwise.probe.depth_efficiency.clean_run import CleanRun, tiled
from stackwise.probe.depth_efficiency.prompts import answered, opened
from stackwise.probe.depth_efficiency.sublayers import Part
from stackwise.stack import Stack

STEPS_AT_ONCE = 32


def integrated_gradients(
    model: Any,
    prompt: Any,
    answer: Any,
    *,
    steps: int = 256,
    site: Part = "layer",
    tokenizer: Any = None,
) -> pd.DataFrame:
    """Attribution of the answer's probability to blocks and tokens.

    Args:
        model: a causal language model or its folder.
        prompt, answer: two strings, or two lists of token ids.
        steps: N, points of the left Riemann sum.
        site: "layer", "attention" or "mlp".

    Returns:
        (L, T): a row a block, a column a token of prompt + answer. Sums of probability.

    Raises:
        ModelError: no language model, or a site in blocks that are no sum.
        DataError: the prompt or the answer has no token.
    """
    model, tokenizer = opened(model, tokenizer)
    ids, start = answered(prompt, answer, tokenizer)
    with evaluating(model):
        run = CleanRun(Stack.of(model), {"input_ids": ids.to(next(model.parameters()).device)})
        rows = [attribution(run, index, start, steps, site) for index in range(run.depth)]
    return pd.DataFrame(torch.stack(rows).numpy()).rename_axis(index="layer", columns="token")


def attribution(run: CleanRun, index: int, start: int, steps: int, site: Part) -> Tensor:
    """A[index, t] of one site; (T,).

    Args:
        start: place of the first answer token.
    """
    value = run.hidden[index + 1] if site == "layer" else run.sublayers.of(site)[index]
    change = value - value.mean(1, keepdim=True)
    gradient = torch.zeros_like(value)
    fractions = torch.arange(steps, device=value.device) / steps
    for part in torch.split(fractions, STEPS_AT_ONCE):
        points = (value - (1 - part[:, None, None]) * change).requires_grad_()
        with torch.enable_grad():
            total = answer_probability(run, index, points, start, site).sum()
            gradient += torch.autograd.grad(total, points)[0].sum(0, keepdim=True)
    return (change * gradient / steps).sum(-1)[0].cpu()


def answer_probability(run: CleanRun, index: int, points: Tensor, start: int, site: Part) -> Tensor:
    """f for each value (N, T, d) of the site of block `index`; (N,)."""
    if site == "layer":
        streams = points
    else:
        with run.sublayers.edited(index, site, points):
            streams = run.block(index, tiled(run.hidden[index], points))
    output = run.head(run.finish(index + 1, streams), last=run.tokens - start + 1)
    true = dict(run.example)["input_ids"][0, start:]
    return output[:, torch.arange(len(true)), true].sum(-1)
