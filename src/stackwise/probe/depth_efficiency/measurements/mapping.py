"""Whether a deeper model computes something new, or the same spread over more blocks (P11).

For two models that read the same tokens, an affine map takes the stream of the shallow one at
depth m to the stream of the deep one at depth l, and its error is measured on held-out text:

    error[m, l] = mean_t ||h2_l[t] - f_{m,l}(h1_m[t])|| / ||h2_l[t]||

If the best m for each l lies at the same relative depth, a diagonal, the deep model stretches the
computation; if only its first L1 depths are predictable, it computes something new.

Source: arXiv 2505.13898, section 5. Differs from the paper: f is the closed form of ridge
regression, on standardised features, in place of 10,000 steps of AdamW (the same optimum without
tuning), and the first token is left out by `protect`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import pandas as pd
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from stackwise.errors import DataError, KnobError
from stackwise.findings import Findings
from stackwise.layers.evaluating import evaluating
from stackwise.probe.depth_efficiency.clean_run import Example, tokens_of
from stackwise.probe.depth_efficiency.figures import map_figure
from stackwise.probe.depth_efficiency.prompts import examples_of, opened
from stackwise.stack import Stack

BYTES_AT_ONCE = 2**30
"""Memory for the cross products of the source depths that one pass over the text serves."""


def map_layers(
    shallow: Any,
    deep: Any,
    data: Any,
    *,
    ridge: float = 1e-3,
    test: float = 0.2,
    protect: int = 1,
    what: Literal["stream", "contribution"] = "stream",
    max_tokens: int = 256,
    random_state: int = 0,
) -> Findings:
    """Error of the best affine map between every pair of depths of two models.

    Args:
        shallow, deep: models or folders that take the same token ids.
        data: text or batches, as for the probe.
        ridge: weight of the penalty, as a share of a feature's variance.
        test: share of the examples that the error is measured on.
        what: map residual streams (L + 1 depths), or contributions (L).

    Returns:
        Findings with the table `map` (rows m of the shallow model, columns l of the deep one) and
        `diagonal`: Spearman's correlation of l with the best m for it.

    Raises:
        DataError: the tokenizers differ, or there are fewer than two examples.
        KnobError: ridge is negative, or test is not between 0 and 1.
    """
    if ridge < 0 or not 0 < test < 1:
        raise KnobError(f"ridge is {ridge} and test {test}; ridge is at least 0, 0 < test < 1")
    shallow, first_tokenizer = opened(shallow)
    deep, second_tokenizer = opened(deep)
    check_same_tokens(first_tokenizer, second_tokenizer)
    examples = examples_of(shallow, data, first_tokenizer, max_tokens=max_tokens)
    if len(examples) < 2:
        raise DataError("a map needs at least two examples: one to fit it and one to test it")
    order = torch.randperm(
        len(examples), generator=torch.Generator().manual_seed(random_state)
    ).tolist()
    held_out = max(1, round(test * len(examples)))
    parts = [[examples[i] for i in order[held_out:]], [examples[i] for i in order[:held_out]]]
    with evaluating(shallow, deep):
        error = _errors(Stack.of(shallow), Stack.of(deep), parts, ridge, protect, what)
    table = pd.DataFrame(error.numpy()).rename_axis(index="shallow", columns="deep")
    diagonal = diagonal_score(error)
    summary = {
        "diagonal": diagonal,
        "error_mean": float(error.amin(0).mean()),
        "sentence": (
            "Spearman's correlation of a depth of the deep model with the depth of the shallow one "
            f"that predicts it best is {diagonal:.2f}; 1 is a stretched computation."
        ),
    }
    return Findings({"map": table}, {"map": map_figure(table)}, summary)


def diagonal_score(error: Tensor) -> float:
    """Spearman's correlation of l / L2 with argmin_m error[m, l] / L1; NaN where m is constant."""
    best = error.argmin(0)
    if len(best) < 2 or bool((best == best[0]).all()):
        return float("nan")
    return float(spearmanr(range(len(best)), best.numpy()).statistic)


def check_same_tokens(first: Any, second: Any) -> None:
    """Refuse two tokenizers that give an id to different tokens.

    Raises:
        DataError: naming the first id that differs.
    """
    if first is None or second is None:
        return
    one, two = ({id: token for token, id in t.get_vocab().items()} for t in (first, second))
    for id in sorted(one.keys() | two.keys()):
        if one.get(id) != two.get(id):
            raise DataError(
                f"the two models' tokenizers differ at id {id} ({one.get(id)!r}, {two.get(id)!r}); "
                "a map needs models that read the same tokens"
            )


def _errors(
    shallow: Stack,
    deep: Stack,
    parts: Sequence[Sequence[Example]],
    ridge: float,
    protect: int,
    what: str,
) -> Tensor:
    """(sources, targets) mean relative error on the second part of maps fitted to the first."""
    sample = next(_streams(shallow, deep, parts[0][:1], protect, what))
    sources, targets = len(sample[0]), len(sample[1])
    width, wide = sample[0][0].shape[-1] + 1, sum(target.shape[-1] for target in sample[1])
    group = max(1, BYTES_AT_ONCE // (8 * width * (wide + width)))
    error = torch.zeros(sources, targets)
    for start in range(0, sources, group):
        chosen = range(start, min(start + group, sources))
        gram = torch.zeros(len(chosen), width, width, dtype=torch.float64)
        cross = torch.zeros(len(chosen), width, wide, dtype=torch.float64)
        for first, second in _streams(shallow, deep, parts[0], protect, what):
            y = torch.cat(second, -1).double()
            for place, source in enumerate(chosen):
                x = _with_one(first[source])
                gram[place] += x.T @ x
                cross[place] += x.T @ y
        maps = [_solved(gram[place], cross[place], ridge) for place in range(len(chosen))]
        count = 0
        for first, second in _streams(shallow, deep, parts[1], protect, what):
            count += len(first[0])
            sizes = [target.shape[-1] for target in second]
            for place, source in enumerate(chosen):
                mapped = torch.split(_with_one(first[source]) @ maps[place], sizes, -1)
                for column, (guess, target) in enumerate(zip(mapped, second, strict=True)):
                    off = (target - guess).norm(dim=-1) / target.norm(dim=-1).clamp_min(1e-6)
                    error[source, column] += off.sum()
        error[start : start + len(chosen)] /= count
    return error


def _streams(
    shallow: Stack, deep: Stack, examples: Sequence[Example], protect: int, what: str
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Both models' streams for each example: lists over depth of (tokens, width)."""
    for example in examples:
        both = []
        for stack in (shallow, deep):
            with stack.capture() as stream:
                _run(stack.model, example)
            values = stream.hidden if what == "stream" else stream.contributions
            both.append([tokens_of(value)[:, protect:].flatten(0, 1).cpu() for value in values])
        yield both[0], both[1]


def _run(model: nn.Module, example: Example) -> None:
    if isinstance(example, tuple):
        model(*example)
    else:
        model(**example)


def _with_one(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones_like(x[:, :1])], -1).double()


def _solved(gram: Tensor, cross: Tensor, ridge: float) -> Tensor:
    """(width + 1, targets): the ridge solution on standardised features, intercept unpenalised."""
    count = gram[-1, -1]
    mean = gram[-1, :-1] / count
    variance = (gram.diagonal()[:-1] / count - mean.square()).clamp_min(0)
    penalty = torch.zeros(len(gram), dtype=gram.dtype)
    # a feature that never moves would leave the system singular
    penalty[:-1] = count * (ridge * variance + 1e-12 * variance.mean() + 1e-12)
    solution: Tensor = torch.linalg.solve(gram + penalty.diag(), cross)
    return solution
