"""What is claimed of growing: at equal compute a grown model is ahead of one trained from scratch.

Decoders of 8 blocks are trained on Python's own source. All runs of a seed cost the same by the
paper's count, 6 (n d + N D) with the parameters of the blocks, and see the text in the same order.
The learning rate is chosen on validation rows for scratch training and is the same for all; it is
constant after warm-up, as the paper's runs stop long before their schedules end.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stackwise.data import text
from stackwise.evidence.claims import Claim, judge
from stackwise.evidence.pictures import BLUE, GREY, canvas, numbers_of
from stackwise.grow.gstack import GrownLanguageModel, growth_schedule, gstack
from stackwise.grow.gstack.entry import Operator
from stackwise.models import open_model
from stackwise.stack import Stack
from stackwise.tasks.language.tokens import StreamBatches, TokenBatches
from stackwise.tasks.text.decoder import DecoderLearner
from stackwise.tasks.text.task import TextTask
from stackwise.training import Backprop, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"characters": 30_000, "layers": 4, "width": 16, "heads": 2, "seeds": [0],
              "rates": [3e-3], "length": 32},
    "cpu": {"characters": 1_100_000, "layers": 8, "width": 64, "heads": 4, "seeds": [0, 1, 2],
            "rates": [1e-3, 3e-3, 1e-2], "length": 64},
    "gpu": {"characters": 11_000_000, "layers": 12, "width": 512, "heads": 8, "seeds": [0, 1, 2],
            "rates": [3e-4, 1e-3, 3e-3], "length": 256},
}  # fmt: skip
LEARNING = {"learn_steps": 10, "learn_lr": 7e-4}
"""The paper's 100 steps at 7e-5 are a thousandth of its runs and would be a third of these."""
LEARNED = (
    "Learning its maps takes 10 steps at 7e-4 here, which are paid for as steps of the grown model."
)
DEPTH: dict[str, dict[str, Any]] = {
    "stack": {},
    "zero": {"operator": "zero", "order": "interleave"},
    "random": {"operator": "random"},
    "learned": {"operator": "learned", **LEARNING},
    "interleave": {"order": "interleave"},
}
WIDTH: dict[str, dict[str, Any]] = {
    f"{operator}, width": {"operator": operator, "axis": "width", "factor": 2, **LEARNING}
    for operator in ("direct", "zero", "random", "learned")
}
ROWS = {"Llama3-8B": (8e9, 15e12, 6.58e9), "Llama2-7B": (7e9, 2e12, 11.11e9),
        "Llama2-13B": (13e9, 2e12, 15.84e9), "Llama2-70B": (70e9, 2e12, 42.48e9)}  # fmt: skip
"""The paper's table: parameters, tokens, tokens of the base."""

BEST_IN_DEPTH = (
    "With some hundred steps in all, an operator that keeps the base's function goes on from its "
    "loss at once, while the stacked model first makes up for its jump (see spike). The paper's "
    "budgets are a hundred thousand times longer. "
)
UNTRAINED = (
    "Blocks that repeat the same random weights are worse than fresh ones at this budget: copies "
    "begin alike and part slowly. What helps is the trained base."
)


PRETRAINED: dict[str, dict[str, Any]] = {
    "smoke": {},
    "cpu": {"reference": "smollm2-135m", "steps": 5, "rows": 4, "length": 64, "lr": 2e-5},
    "gpu": {"reference": "smollm2-135m", "steps": 200, "rows": 16, "length": 256, "lr": 2e-5},
}  # fmt: skip
"""A truly pretrained model, and the steps of it grown; the model itself takes twice as many."""
ALREADY_TRAINED = (
    "The model was trained to its end; its copies first make up for the jump in loss. The paper "
    "grows bases that have seen a few per cent of their tokens, with a rate that has not fallen. "
)


class Bench:
    """Runs at equal compute on one text."""

    def __init__(self, scale: str) -> None:
        given = SETTINGS[scale]
        self.seeds: list[int] = given["seeds"]
        source = text("python-source")[: given["characters"]]
        self.task = TextTask.load([source], length=given["length"], vocabulary=1024)
        self.knobs = {name: given[name] for name in ("layers", "width", "heads")}
        self.knobs |= {"schedule": "constant", "max_epochs": 1}
        self.rates: list[float] = given["rates"]
        self.lr = self.rates[0]
        self.tried: dict[float, float] = {}

    def choose_rate(self) -> None:
        """The learning rate at which scratch training has the least validation loss."""
        for rate in self.rates:
            self.tried[rate] = self.run("scratch", 0, rate)["validation"]
        self.lr = min(self.tried, key=lambda rate: self.tried[rate])

    def run(self, name: str, seed: int, lr: float | None = None) -> dict[str, Any]:
        """Train one model. Returns its test loss and its curve (compute, validation loss)."""
        knobs = self.knobs | {"lr": lr or self.lr, "random_state": seed}
        if name == "scratch":
            learner: Any = DecoderLearner(**knobs).fit(self.task)
        elif name == "untrained base":
            learner = GrownLanguageModel(**knobs, base_share=1e-9).fit(self.task)
        else:
            learner = GrownLanguageModel(**knobs | (DEPTH | WIDTH)[name]).fit(self.task)
        return {
            "test": self.task.judge(learner, "test").scores["loss"],
            "validation": self.task.judge(learner, "validation").scores["loss"],
            "curve": _curve(learner),
        }

    def right_after(self, seed: int) -> tuple[float, float, float]:
        """Validation losses of a base, of it stacked, and of it with zero blocks, untrained on."""
        knobs = self.knobs | {"layers": self.knobs["layers"] // 4, "lr": self.lr}
        base = DecoderLearner(**knobs, random_state=seed).fit(self.task)
        models = [base.model_, *(gstack(base.model_, factor=4, operator=operator)
                                 for operator in ("direct", "zero"))]  # fmt: skip
        first, second, third = (
            self.task.judge(Held(model, base.tokenizer_), "validation").scores["loss"]
            for model in models
        )
        return first, second, third


@dataclass(frozen=True)
class Held:
    """A model with its tokenizer, to be judged."""

    model_: Any
    tokenizer_: Any


def _curve(learner: Any) -> list[tuple[float, float, str]]:
    """(share of the compute of the whole, validation loss, phase) after each part."""
    grown = sum(p.numel() for block in Stack.of(learner.model_).blocks for p in block.parameters())
    ratio = 1.0
    if hasattr(learner, "base_steps_"):
        ratio = learner.base_parameters_ / grown
    spent, before, phase = 0.0, 0, ""
    found: list[tuple[float, float, str]] = []
    for line in learner.history_:
        if line["phase"] != phase:
            phase, before = line["phase"], 0
        spent += (line["step"] - before) * (ratio if phase == "base" else 1.0)
        before = line["step"]
        found.append((spent, line["metrics"]["validation_loss"], phase))
    return found


def speed_up(scratch: Sequence[Any], grown: Sequence[Any]) -> float:
    """Compute of scratch over that of growing at the loss that the worse of them ends with, - 1."""
    goal = max(min(loss for _, loss, _ in scratch), min(loss for _, loss, _ in grown))
    return _reaches(scratch, goal) / _reaches(grown, goal) - 1


def _reaches(curve: Sequence[Any], goal: float) -> float:
    """The compute at which a curve first is at the goal, between two points by a straight line."""
    before = None
    for spent, loss, phase in curve:
        if loss <= goal and phase != "base":
            if before is None or before[1] <= loss:
                return float(spent)
            share = (before[1] - goal) / (before[1] - loss)
            return float(before[0] + share * (spent - before[0]))
        before = (spent, loss)
    return math.nan


def measure(scale: str) -> list[Claim]:
    """Train every kind of growth at equal compute and judge what the paper says of them."""
    bench = Bench(scale)
    bench.choose_rate()
    names = ["scratch", "untrained base", *DEPTH, *WIDTH]
    runs = {name: [bench.run(name, seed) for seed in bench.seeds] for name in names}
    loss = {name: [run["test"] for run in runs[name]] for name in names}
    mean = {name: sum(values) / len(values) for name, values in loss.items()}
    seeds = bench.seeds

    def ahead(better: str, worse: str) -> list[float]:
        return [b - a for a, b in zip(loss[better], loss[worse], strict=True)]

    ups = [speed_up(s["curve"], g["curve"]) for s, g in
           zip(runs["scratch"], runs["stack"], strict=True)]  # fmt: skip
    spread = max(loss["scratch"]) - min(loss["scratch"])
    apart = [abs(gap) for gap in ahead("untrained base", "scratch")]
    moments = [bench.right_after(seed) for seed in seeds]
    table = {
        name: growth_schedule(size, tokens).base_tokens for name, (size, tokens, _) in ROWS.items()
    }
    off = max(abs(table[name] / ROWS[name][2] - 1) for name in ROWS)
    rate = {f"learning rate {lr:g}, scratch, validation": v for lr, v in bench.tried.items()}
    others = [name for name in DEPTH if name not in ("stack", "interleave")]
    pretrained = [_pretrained(**PRETRAINED[scale], seeds=seeds)] if PRETRAINED[scale] else []
    return [
        *pretrained,
        Claim(
            "ahead-of-scratch",
            "at equal compute the stacked model has a lower test loss than scratch training",
            judge(ahead("stack", "scratch")),
            {"scratch": mean["scratch"], "stacked": mean["stack"],
             "by seed": ahead("stack", "scratch"), "learning rate": bench.lr, **rate},
            seeds,
        ),
        Claim(
            "speed-up",
            "stacking reaches the loss of scratch training with less compute",
            judge(ups),
            {"speed-up by seed": ups, "mean": sum(ups) / len(ups),
             "curves": {name: [[[round(x, 1), round(y, 4)] for x, y, _ in run["curve"]]
                               for run in runs[name]] for name in ("scratch", "stack")}},
            seeds,
            "Compute of scratch over that of stacking, less 1, at the higher of the two last "
            "validation losses; the base is paid for. The paper has 0.49 at 1.1B parameters.",
        ),
        Claim(
            "best-in-depth",
            "copying whole blocks is the best of the four operators in depth",
            _worst([judge(ahead("stack", name)) for name in others]),
            {"stack": mean["stack"], **{name: mean[name] for name in others},
             **{f"{name} - stack, by seed": ahead("stack", name) for name in others}},
            seeds,
            BEST_IN_DEPTH + LEARNED,
        ),
        Claim(
            "depth-over-width",
            "stacking blocks is better than every operator in width",
            _worst([judge(ahead("stack", name)) for name in WIDTH]),
            {"stack": mean["stack"], **{name: mean[name] for name in WIDTH}},
            seeds,
            "The base in width has half of the heads and of the stream: a 2-fold growth, as in the "
            "paper, where the parameters are about a quarter. " + LEARNED,
        ),
        Claim(
            "stack-over-interleave",
            "stacking the whole list is better than repeating each block in place",
            judge(ahead("stack", "interleave")),
            {"stack": mean["stack"], "interleave": mean["interleave"],
             "by seed": ahead("stack", "interleave")},
            seeds,
        ),
        Claim(
            "untrained-base",
            "stacking random blocks does nothing: it differs from scratch by less than seeds do",
            judge([spread - gap for gap in apart])
            if len(seeds) > 1 else "not testable at this scale",
            {"scratch": loss["scratch"], "untrained base": loss["untrained base"],
             "spread of scratch over seeds": spread},
            seeds,
            UNTRAINED,
        ),
        Claim(
            "spike",
            "right after growth stacking has a higher loss than its base, zero blocks have its",
            judge([stacked - base for base, stacked, _ in moments])
            if all(zero == base for base, _, zero in moments) else "does not hold",
            {"validation loss of the base": [base for base, _, _ in moments],
             "stacked": [stacked for _, stacked, _ in moments],
             "with zero blocks": [zero for _, _, zero in moments]},
            seeds,
        ),
        Claim(
            "schedule",
            "the guideline gives the tokens of the base in the paper's table, to 1 %",
            "holds" if off < 0.01 else "does not hold",
            {**{f"{name}, base tokens": value for name, value in table.items()},
             "largest difference": off},
            seeds, "A formula, the same for every seed.",
        ),
    ]  # fmt: skip


def _pretrained(
    reference: str, steps: int, rows: int, length: int, lr: float, seeds: list[int]
) -> Claim:
    """A pretrained model trained on as it is, stacked twice over, and with zero blocks."""
    model = open_model(reference)
    reviews = text("drug-reviews")[:200_000]
    task = TextTask.load([reviews], tokenizer=reference, length=length, most_judged=40)
    tokenizer = task.tokenizer
    ways: tuple[tuple[str, Operator | None, int], ...] = (
        ("as it is", None, 2 * steps), ("stacked", "direct", steps), ("zero", "zero", steps),
    )  # fmt: skip
    found: dict[str, list[float]] = {}
    for seed in seeds:
        for name, operator, count in ways:
            grown = copy.deepcopy(model) if operator is None else gstack(model, operator=operator)
            if seed == seeds[0]:
                before = task.judge(Held(grown.eval(), tokenizer), "validation").scores["loss"]
                found[f"{name}, validation loss before"] = [before]
            tokens = task.tokens("train", tokenizer)
            piece = StreamBatches(TokenBatches(tokens, length, rows, seed=seed), 0, count)
            trained = train(grown, Backprop(task.loss, lr=lr), piece, max_epochs=1, seed=seed)
            scores = task.judge(Held(trained.model, tokenizer), "test").scores
            found.setdefault(f"{name}, test loss after", []).append(scores["loss"])
    ahead = [plain - grown for plain, grown in zip(
        found["as it is, test loss after"], found["stacked, test loss after"], strict=True
    )]  # fmt: skip
    return Claim(
        "pretrained",
        "a pretrained model that is stacked twice over and trained on is ahead of itself trained "
        "on at equal compute",
        judge(ahead),
        {"model": reference, "steps of the grown": steps, "rows of a step": rows, **found},
        seeds, ALREADY_TRAINED + "A handful of steps: what one sees first, not in the end.",
    )  # fmt: skip


def _worst(verdicts: Sequence[Any]) -> Any:
    """A claim to be ahead of all of several others: it is as true as against the best of them."""
    order = ("not testable at this scale", "does not hold", "holds in part", "holds")
    return min(verdicts, key=order.index)


def picture(record: dict[str, Any]) -> "Figure":
    """Growing: validation loss over compute, of scratch training and of a model that is trained
    shallow and then stacked, three seeds each.
    """
    figure, axes = canvas()
    curves = numbers_of(record, "speed-up")["curves"]
    for name, colour, label in (("scratch", GREY, "from scratch"), ("stack", BLUE, "grown")):
        for number, curve in enumerate(curves[name]):
            spent, loss = zip(*curve, strict=True)
            axes.plot(spent, loss, color=colour, lw=1.8, label=label if number == 0 else None)
    axes.set_xlabel("compute, in steps of the deep model")
    axes.set_ylabel("validation loss (nats a token)")
    axes.legend(frameon=False)
    return figure
