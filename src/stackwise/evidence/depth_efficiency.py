"""Whether the findings of "Do Language Models Use Their Depth Efficiently?" hold here.

The subject is SmolLM2-135M-Instruct (30 blocks), pretrained, read in float32 over patients' reviews
of drugs, in three disjoint draws of passages. The same network with random weights is the control:
what it shows as well is no trace of training. The linear map is taken between small language
models of bytes that are trained here. At scale smoke, such a model is the subject too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from stackwise import data
from stackwise.evidence.byte_models import Bytes, byte_model, device, held_out_windows, text
from stackwise.evidence.claims import Claim, Verdict, judge
from stackwise.evidence.pictures import dots, numbers_of
from stackwise.probe.depth_efficiency import (
    CleanRun,
    cosine_depth,
    difficulty,
    erase,
    evaluating,
    kl_depth,
    map_layers,
    overlap_depth,
    skip,
)
from stackwise.probe.depth_efficiency.measurements.contribution import Contributions
from stackwise.probe.depth_efficiency.measurements.lens import Lens
from stackwise.probe.depth_efficiency.measurements.skip import splits_of
from stackwise.stack import Stack

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEEDS = [0, 1, 2]
RESAMPLES = 1000


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        passages, tokens: of each draw; the control has half the passages.
        splits: places at which a passage is cut into past and future.
        chains: sums of each length and draw, for the difficulty.
        depths: of the two models between which streams are mapped.
        steps: training steps of each of them.
        windows: of 64 bytes each, on which the map is fitted and tested.
    """

    passages: int
    tokens: int
    splits: int
    chains: int
    operands: tuple[int, ...]
    depths: tuple[int, int]
    steps: int
    windows: int


SIZES = {
    "smoke": Size(2, 32, 1, 2, (2, 4), (2, 4), 12, 24),
    "cpu": Size(6, 48, 1, 6, (2, 3, 4, 5, 6), (4, 8), 200, 350),
    "gpu": Size(20, 256, 4, 20, (2, 3, 4, 5, 6), (6, 12), 4000, 440),
}


def subject(scale: str) -> tuple[nn.Module, Any]:
    """The pretrained model and its tokenizer."""
    if scale == "smoke":
        return byte_model(6, 0, 30, width=48), Bytes()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = data.model("smollm2-135m")
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.to(device()).eval(), AutoTokenizer.from_pretrained(folder)


def with_random_weights(model: Any, seed: int) -> nn.Module:
    """The same architecture, untrained."""
    torch.manual_seed(seed)
    untrained: nn.Module = type(model)(model.config)
    return untrained.to(next(model.parameters()).device).eval()


@dataclass
class Draw:
    """What one draw of passages shows.

    Attributes:
        contribution: (L,) mean relative contribution of each block.
        output, future: (L, tokens) change of the output when a block is skipped, for the current
            and for later tokens.
        overlap: (L + 1,) of the lens.
        numbers: everything else that is worth keeping.
    """

    contribution: np.ndarray
    output: np.ndarray
    future: np.ndarray
    overlap: np.ndarray
    numbers: dict[str, Any]


def measured(model: nn.Module, passages: Sequence[Tensor], splits: int, seed: int) -> Draw:
    """Measure one model over one draw of passages, each (1, tokens) of ids."""
    stack = Stack.of(model)
    contributions, lens = Contributions(), Lens()
    output, future, later = [], [], []
    generator = torch.Generator().manual_seed(seed)
    with evaluating(model):
        for ids in passages:
            run = CleanRun(stack, {"input_ids": ids.to(device())})
            contributions.add(run)
            lens.add(run)
            output.append(_tokens(skip(run).output))
            effects = skip(run, splits_of(run.tokens, splits, generator))
            future.append(_tokens(effects.output))
            later.append(effects.relative.nan_to_num(0).amax(-1).amax(0).numpy())
    tables = contributions.tables() | {"lens": lens.table()}
    half = len(stack) // 2
    effect = np.max(later, axis=0)  # over passages, (L, L)
    upper = np.triu_indices(half, k=1)
    return Draw(
        contribution=tables["contribution"]["layer"].to_numpy(),
        output=np.concatenate(output, 1),
        future=np.concatenate(future, 1),
        overlap=tables["lens"]["overlap"].to_numpy(),
        numbers={
            "cosine_depth": cosine_depth(tables["cosine"]),
            "kl_depth": kl_depth(tables["lens"]),
            "overlap_depth": overlap_depth(tables["lens"]),
            "early_on_early": float(effect[:half, :half][upper].mean()),
            "late_on_late": float(effect[-half:, -half:][upper].mean()),
        },
    )


def _tokens(output: Tensor) -> np.ndarray:
    """(L, measured tokens of all splits)."""
    found = output.transpose(0, 1).flatten(1)
    return found[:, ~found[0].isnan()].numpy()


def relations(draw: Draw, seed: int) -> dict[str, float]:
    """The paper's relations in this draw: each holds where its number is above 0.

    Two are the lower ends of 95 % bootstrap intervals over tokens.
    """
    depth = len(draw.contribution)
    half = depth // 2
    # the first block and the last few are told apart in the paper
    early = draw.contribution[1:half].mean()
    late = draw.contribution[half : max(depth - 3, half + 1)].mean()
    generator = np.random.default_rng(seed)
    now, later = _resampled(draw.output, generator), _resampled(draw.future, generator)
    gain = draw.overlap[half] - draw.overlap[0], draw.overlap[-1] - draw.overlap[half]
    return {
        "writes-less": float(early - late),
        "unread-later": float(np.quantile(1 - later, 0.025)),
        "matters-now": float(np.quantile(now - later, 0.025)),
        "refines": float(gain[1] - gain[0]),
        "contribution_early": float(early),
        "contribution_late": float(late),
        "future_ratio": _ratio(draw.future.mean(1)),
        "output_ratio": _ratio(draw.output.mean(1)),
        "future_ratio_of_maxima": _ratio(draw.future.max(1)),
        "output_ratio_of_maxima": _ratio(draw.output.max(1)),
        "overlap_gain_first_half": float(gain[0]),
        "overlap_gain_second_half": float(gain[1]),
    }


def _ratio(effects: np.ndarray) -> Any:
    """Mean over the second half of blocks, over that of the first; on the first axis."""
    half = len(effects) // 2
    found = effects[half:].mean(0) / effects[:half].mean(0)
    return float(found) if found.ndim == 0 else found


def _resampled(effects: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(RESAMPLES,) ratios of halves, of mean effects (L, tokens) over tokens drawn anew."""
    count = effects.shape[1]
    weights = generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count
    return np.asarray(_ratio(effects @ weights.T))


def measure(scale: str = "cpu") -> list[Claim]:
    """Every claim at `scale`."""
    size = SIZES[scale]
    model, tokenizer = subject(scale)
    ids = torch.tensor(tokenizer(text(), verbose=False)["input_ids"])
    draws = _draws(ids, size)
    shown = [measured(model, passages, size.splits, s) for s, passages in zip(SEEDS, draws)]
    halved = [passages[: max(1, size.passages // 2)] for passages in draws]
    control = [
        relations(measured(with_random_weights(model, s), passages, size.splits, s), s)
        for s, passages in zip(SEEDS, halved)
    ]
    name = "a byte model of 6 blocks" if scale == "smoke" else "SmolLM2-135M"
    return [
        *_claims_of_depth(
            shown, [relations(draw, s) for s, draw in zip(SEEDS, shown)], control, name
        ),
        _difficulty_claim(model, tokenizer, size, name),
        _chain_claim(model, tokenizer, size, name),
        *_map_claims(size),
        *_not_testable(),
    ]


def _draws(ids: Tensor, size: Size) -> list[list[Tensor]]:
    """Disjoint passages for each seed, in a fixed random order."""
    windows = ids[: len(ids) // size.tokens * size.tokens].view(-1, 1, size.tokens)
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))
    chosen = windows[order[: len(SEEDS) * size.passages]]
    return [list(chosen[place :: len(SEEDS)]) for place in range(len(SEEDS))]


STATEMENTS = {
    "writes-less": "blocks from the middle on, without the last three, write less relative to the "
    "stream than those of the first half",
    "unread-later": "skipping a block of the second half changes the output at later tokens less "
    "than skipping one of the first (95 % interval over tokens)",
    "matters-now": "for the current token, blocks of the second half keep more of their effect on "
    "the output than for later tokens: the ratio of second to first half is larger by 0.1",
    "refines": "the lens gains more of the answer's top tokens in the second half of the depth "
    "than in the first",
}
MARGINS = {"matters-now": 0.1}
KEPT = {
    "writes-less": ("contribution_early", "contribution_late"),
    "unread-later": ("future_ratio", "future_ratio_of_maxima"),
    "matters-now": ("output_ratio", "future_ratio", "output_ratio_of_maxima"),
    "refines": ("overlap_gain_first_half", "overlap_gain_second_half"),
}


PHASE_WHY = (
    "The turn lies at 0.43 of the depth in every draw: in this model of 30 narrow blocks the early "
    "ones stop erasing before the middle. The paper's models are 60 to 3,000 times larger."
)


def _claims_of_depth(
    draws: list[Draw], found: list[dict[str, float]], control: list[dict[str, float]], name: str
) -> list[Claim]:
    claims, seen = [], []
    for id, statement in STATEMENTS.items():
        margin = MARGINS.get(id, 0.0)
        numbers: dict[str, Any] = {key: [one[key] for one in found] for key in KEPT[id]}
        numbers["difference"] = [one[id] for one in found]
        numbers["difference_random_weights"] = [one[id] for one in control]
        if judge(numbers["difference_random_weights"], margin=margin) == "holds":
            seen.append(id)
        claims.append(
            Claim(
                id, f"In {name}, {statement}.", judge(numbers["difference"], margin=margin),
                numbers, SEEDS,
                "Random weights show it too, so that it is no trace of training."
                if id in seen else "",
            )
        )  # fmt: skip
    keys = draws[0].numbers
    rest = {key: [draw.numbers[key] for draw in draws] for key in keys}
    depths = {key: rest[key] for key in ("cosine_depth", "kl_depth", "overlap_depth")}
    turns = [turn if turn is not None else float("-inf") for turn in rest["cosine_depth"]]
    between = [min(turn - 0.5, 0.8 - turn) for turn in turns]
    return [
        *claims,
        Claim(
            "phase-change",
            f"In {name}, the cosine of what blocks write with the stream turns from negative to "
            "positive for the last time between 0.5 and 0.8 of the depth.",
            judge(between), depths,
            SEEDS,
            "" if judge(between) == "holds" else PHASE_WHY,
        ),
        Claim(
            "late-blocks-independent",
            f"In {name}, skipping a block changes what later blocks write at later tokens less "
            "among the blocks of the second half than among those of the first.",
            judge([a - b for a, b in zip(rest["early_on_early"], rest["late_on_late"])]),
            {key: rest[key] for key in ("early_on_early", "late_on_late")}, SEEDS,
        ),
        Claim(
            "no-trace-in-random-weights",
            f"{name} with random weights shows none of: {', '.join(STATEMENTS)}.",
            _share_verdict(len(STATEMENTS) - len(seen), len(STATEMENTS)),
            {"shown_by_random_weights": seen}, SEEDS,
            f"Random weights show {', '.join(seen)} in every draw." if seen else "",
        ),
    ]  # fmt: skip


def _share_verdict(good: int, of: int) -> Verdict:
    if good == of:
        return "holds"
    return "holds in part" if good else "does not hold"


def _difficulty_claim(model: nn.Module, tokenizer: Any, size: Size, name: str) -> Claim:
    """P10 on sums of two to six digits."""
    slopes, lows, highs, scores = [], [], [], []
    depth = len(Stack.of(model))
    for seed in SEEDS:
        generator = np.random.default_rng(seed)
        buckets = {
            count: [_sum(generator, count) for _ in range(size.chains)] for count in size.operands
        }
        found = difficulty(
            model, buckets, splits=1, tokenizer=tokenizer, random_state=seed, resamples=RESAMPLES
        )
        slopes.append(found.summary["slope"])
        lows.append(found.summary["slope_low"])
        highs.append(found.summary["slope_high"])
        scores.append(found.tables["difficulty"]["score"].tolist())
    return Claim(
        "difficulty-uses-no-more-depth",
        f"In {name}, the depth score of sums is flat in the number of operands: it changes by less "
        "than 2 % of the depth for each.",
        judge([0.02 * depth - abs(slope) for slope in slopes]),
        {
            "operands": list(size.operands), "scores": scores, "slopes": slopes,
            "slopes_low": lows, "slopes_high": highs, "blocks": depth,
        },
        SEEDS,
        "Sums stand for the paper's MATH and MQuAKE, which no package carries.",
    )  # fmt: skip


def _sum(generator: np.random.Generator, operands: int) -> tuple[str, str]:
    digits = generator.integers(1, 10, operands)
    return " + ".join(map(str, digits)) + " = ", str(digits.sum())


def _chain_claim(model: nn.Module, tokenizer: Any, size: Size, name: str) -> Claim:
    """P9 on a sum: the depth at which each operand is no longer read."""
    operands = max(size.operands)
    faded, shifts = [], []
    reference = [text()[start : start + 200] for start in (1000, 5000)]
    for seed in SEEDS:
        prompt, answer = _sum(np.random.default_rng(seed), operands)
        effect = erase(model, prompt, answer, reference, tokenizer=tokenizer).to_numpy()
        ids = tokenizer(prompt)["input_ids"]
        places = [place for place, id in enumerate(ids) if tokenizer.decode([id]).strip().isdigit()]
        last = [int(np.flatnonzero(effect[:, p] >= effect[:, p].max() / 2)[-1]) for p in places]
        faded.append(last)
        shifts.append(float(np.polyfit(range(len(last)), last, 1)[0]) * (len(last) - 1))
    depth = len(Stack.of(model))
    return Claim(
        "later-steps-use-no-later-blocks",
        f"In {name}, the last block whose erasure of an operand still has half its effect does not "
        "rise with the operand's place: over the whole sum by less than 10 % of the depth.",
        judge([0.1 * depth - shift for shift in shifts]),
        {"last_block_read": faded, "shift_over_the_sum": shifts, "blocks": depth},
        SEEDS,
    )


class Shuffled(nn.Module):
    """A model that reads its tokens in another order: the control of the map."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Any:
        order = torch.randperm(input_ids.shape[1], generator=torch.Generator().manual_seed(0))
        return self.model(input_ids=input_ids[:, order])


def _map_claims(size: Size) -> list[Claim]:
    """P11 between two depths of byte models."""
    windows = held_out_windows(size.windows)
    diagonals, errors, shuffled, untrained = [], [], [], []
    for seed in SEEDS:
        shallow = byte_model(size.depths[0], seed, size.steps)
        deep = byte_model(size.depths[1], seed + 100, size.steps)
        found = map_layers(shallow, deep, windows, random_state=seed).summary
        diagonals.append(found["diagonal"])
        errors.append(found["error_mean"])
        control = map_layers(shallow, Shuffled(deep), windows, random_state=seed)
        shuffled.append(control.summary["error_mean"])
        bare = [byte_model(depth, seed, 0) for depth in size.depths]
        found = map_layers(bare[0], bare[1], windows, random_state=seed).summary
        untrained.append(found["diagonal"])
    explanation = "The paper's pair are Qwen 2.5 1.5B and 14B; these are small models trained here."
    if judge(_known(untrained), margin=0.5) == "holds":
        explanation += (
            " Untrained models show the diagonal too, so that it is no trace of training."
        )
    models = f"byte models of {size.depths[0]} and {size.depths[1]} blocks"
    return [
        Claim(
            "map-diagonal",
            f"Between {models}, the best source depth rises with the target's: Spearman above 0.5.",
            judge(_known(diagonals), margin=0.5),
            {"spearman": diagonals, "spearman_untrained": untrained}, SEEDS,
            explanation,
        ),
        Claim(
            "map-beats-shuffled",
            f"Between {models}, the map's error is below that of a map from shuffled tokens.",
            judge([b - a for a, b in zip(errors, shuffled)]),
            {"error": errors, "error_shuffled": shuffled}, SEEDS,
        ),
    ]  # fmt: skip


def _known(correlations: list[float]) -> list[float]:
    """Correlations, with -1 where one best source serves all depths and there is none."""
    return [-1.0 if np.isnan(value) else value for value in correlations]


def _not_testable() -> list[Claim]:
    return [
        Claim(
            "shared-layers-use-more-depth",
            "MoEUT, whose layers are shared, uses more of its depth than a transformer.",
            "not testable at this scale",
            explanation="Needs two models of 244M parameters trained for 100,000 steps each.",
        ),
        Claim(
            "depth-helps-benchmarks",
            "Over 132 base models, depth predicts the leaderboard score beside width and family.",
            "not testable at this scale",
            explanation="Needs the scores of 132 models, which no package carries.",
        ),
    ]


def picture(record: dict[str, Any]) -> "Figure":
    """Four signs of wasted depth in SmolLM2-135M and in the same network with random weights, which
    shows them too; a dot a draw of inputs, right of the line the sign is there.
    """
    rows = {
        "writes-less": "late blocks write less",
        "unread-later": "late blocks matter less later",
        "matters-now": "... but still for this token",
        "refines": "late blocks refine the answer",
    }
    shown = {}
    for claim, words in rows.items():
        numbers = numbers_of(record, claim)
        shown[words] = {
            "trained": numbers["difference"],
            "random weights": numbers["difference_random_weights"],
        }
    return dots(shown, label="difference between late and early blocks", zero=True)
