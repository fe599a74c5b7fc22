"""Whether harder inputs use more depth (P10), and three numbers for how deep a model works.

For the prompts of one difficulty, e_s is how much block s matters for the answer's tokens, and
the depth score is its centre of mass:

    e_s = (1 / (L-1-s)) sum_{l>s} E_fut[s, l]     or     e_s = O_fut[s]
    d   = sum_l l e_l / sum_m e_m

A model that thought longer about harder inputs would show d rising with difficulty. The paper
finds it flat.

The follow-up's scalars (arXiv 2512.14064) as ratios (index + 1) / L: *cosine depth* is the last
block at which the mean of the three cosines turns from negative to positive; *KL depth* the first
at which the lens has KL < half its maximum; *overlap depth* the first with overlap > 0.3. They
fail where the curves are not monotone.

Source: arXiv 2505.13898, section 4.1. Blocks count from 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from stackwise.errors import DataError
from stackwise.findings import Findings
from stackwise.layers.evaluating import evaluating
from stackwise.probe.depth_efficiency.clean_run import CleanRun
from stackwise.probe.depth_efficiency.figures import difficulty_figure
from stackwise.probe.depth_efficiency.measurements.skip import skip
from stackwise.probe.depth_efficiency.prompts import answered, opened
from stackwise.stack import Stack


def depth_score(effects: Any) -> float:
    """Centre of mass d of effects over depth, 0 to L - 1; NaN where nothing has an effect.

    Args:
        effects: (L,) effect of each block, or (L, L) effect of block s on block l, whose row s is
            first averaged over the later blocks l > s.
    """
    values = np.asarray(effects, dtype=float)
    if values.ndim == 2:
        depth = len(values)
        later = np.triu(np.nan_to_num(values), k=1).sum(1)
        values = later / np.maximum(depth - 1 - np.arange(depth), 1)
    total = values.sum()
    return float(np.arange(len(values)) @ values / total) if total > 0 else float("nan")


def answer_splits(start: int, stop: int, count: int = 4) -> list[int]:
    """Splits inside an answer: at offsets 0, 4, 8, ... that leave more than 4 tokens, or its start.

    Args:
        start, stop: places of the first answer token and after the last.
    """
    return list(range(start, max(start + 1, stop - 4), 4))[:count]


def difficulty(
    model: Any,
    buckets: Mapping[Any, Sequence[tuple[Any, Any]]],
    *,
    splits: int = 4,
    protect: int = 1,
    resamples: int = 1000,
    random_state: int = 0,
    tokenizer: Any = None,
) -> Findings:
    """Depth score of each difficulty, and its slope with a bootstrap interval over prompts.

    Args:
        model: a causal language model or its folder.
        buckets: for each label the (prompt, answer) pairs, strings or token ids. Labels that are
            numbers are the x axis of the slope; others count 0, 1, 2, ...
        splits: at most this many per answer.

    Returns:
        Findings with the table `difficulty` (a row a label) and `slope`, `slope_low`,
        `slope_high` (95 %) in blocks per unit of difficulty.

    Raises:
        DataError: no bucket, or an empty one.
    """
    if not buckets or not all(buckets.values()):
        raise DataError("difficulty needs at least one bucket, and a prompt in each")
    model, tokenizer = opened(model, tokenizer)
    later, output = {}, {}
    with evaluating(model):
        stack = Stack.of(model)
        for label, pairs in buckets.items():
            found = [_effects(stack, *pair, tokenizer, splits, protect) for pair in pairs]
            later[label] = np.stack([effect.numpy() for effect, _ in found])  # (prompts, L, L)
            output[label] = np.stack([effect.numpy() for _, effect in found])  # (prompts, L)
    rows = {
        label: {
            "prompts": len(later[label]),
            "score": depth_score(later[label].max(0)),
            "score_mean": depth_score(later[label].mean(0)),
            "score_output": depth_score(output[label].max(0)),
        }
        for label in buckets
    }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("difficulty")
    summary = {"depth": len(stack)} | _slope(later, resamples, random_state)
    summary["sentence"] = (
        f"The depth score changes by {summary['slope']:+.2f} blocks for each step of difficulty "
        f"(95 % interval {summary['slope_low']:+.2f} to {summary['slope_high']:+.2f})."
    )
    figures = {"difficulty": difficulty_figure(table, len(stack))}
    return Findings({"difficulty": table}, figures, summary)


def _effects(
    stack: Stack, prompt: Any, answer: Any, tokenizer: Any, splits: int, protect: int
) -> tuple[Tensor, Tensor]:
    """max over tokens and splits of E_fut (L, L) and O_fut (L,) of one prompt."""
    ids, start = answered(prompt, answer, tokenizer)
    device = next(stack.model.parameters()).device
    run = CleanRun(stack, {"input_ids": ids.to(device)})
    effects = skip(run, answer_splits(start, run.tokens, splits), protect=protect)
    found = (effects.relative, effects.output)
    relative, output = (x.nan_to_num(0.0).amax(-1).amax(0) for x in found)
    return relative, output


def _slope(later: Mapping[Any, np.ndarray], resamples: int, seed: int) -> dict[str, Any]:
    numeric = all(isinstance(label, (int, float)) for label in later)
    x = np.array([label if numeric else place for place, label in enumerate(later)], dtype=float)
    if len(x) < 2:
        return {"slope": float("nan"), "slope_low": float("nan"), "slope_high": float("nan")}
    generator = np.random.default_rng(seed)

    def fitted(chosen: list[np.ndarray]) -> float:
        return float(np.polyfit(x, [depth_score(effects.max(0)) for effects in chosen], 1)[0])

    drawn = [
        fitted([e[generator.integers(len(e), size=len(e))] for e in later.values()])
        for _ in range(resamples)
    ]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return {"slope": fitted(list(later.values())), "slope_low": low, "slope_high": high}


def cosine_depth(cosines: pd.DataFrame) -> float | None:
    """(l + 1) / L of the last block l with a negative mean cosine and none at l + 1, or None.

    Args:
        cosines: the table `cosine` of the probe, L rows.
    """
    columns = [name for name in ("layer", "attention", "mlp") if name in cosines]
    mean = cosines[columns].mean(axis=1).to_numpy()
    turns = np.flatnonzero((mean[:-1] < 0) & (mean[1:] >= 0))
    return float(turns[-1] + 1) / len(mean) if len(turns) else None


def kl_depth(lens: pd.DataFrame) -> float | None:
    """(l + 1) / L of the first block whose input has KL below half the maximum, or None.

    Args:
        lens: the table `lens` of the probe, L + 1 rows; the last, the output itself, is left out.
    """
    values = lens["kl"].to_numpy()[:-1]
    below = np.flatnonzero(values < 0.5 * values.max())
    return float(below[0] + 1) / len(values) if len(below) else None


def overlap_depth(lens: pd.DataFrame) -> float | None:
    """(l + 1) / L of the first block whose input has a top-5 overlap above 0.3, or None."""
    values = lens["overlap"].to_numpy()[:-1]
    above = np.flatnonzero(values > 0.3)
    return float(above[0] + 1) / len(values) if len(above) else None
