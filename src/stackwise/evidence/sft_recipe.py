"""What is claimed of the recipe (one mix, a large batch, a low constant rate) and of early signs.

A small decoder is pretrained on patients' reviews and then learns three composed kinds of
instructions made from words of that text, as three phases: follow (copy, reverse, upper case of
two words), knowledge (the word that comes after another in a fixed list of pairs), skills (two of
these chained). Runs are compared at equal samples seen; the model is chosen on validation chats
and judged once on the test part; forgetting is the rise of the loss on reviews that were kept
out.
"""

import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import spearmanr

from stackwise import data
from stackwise.evidence.claims import Claim, judge
from stackwise.evidence.pictures import BLUE, ORANGE, canvas, numbers_of
from stackwise.tasks.instructions.task import InstructionsTask
from stackwise.tasks.text.decoder import DecoderLearner
from stackwise.tasks.text.task import TextTask
from stackwise.train.sft_recipe import FineTuned, Untuned, early_rank

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"chats": 45, "characters": 20_000, "width": 16, "heads": 2, "layers": 2,
              "epochs": 1, "seeds": [0], "batches": [8, 16], "rates": [1e-3, 1e-2], "written": 3},
    "cpu": {"chats": 1500, "characters": 250_000, "width": 96, "heads": 4, "layers": 4,
            "epochs": 6, "seeds": [0, 1, 2], "batches": [16, 64, 256],
            "rates": [3e-4, 1e-3, 3e-3], "written": 60},
    "gpu": {"chats": 6000, "characters": 270_000, "width": 256, "heads": 8, "layers": 6,
            "epochs": 8, "seeds": [0, 1, 2], "batches": [16, 128, 512],
            "rates": [1e-4, 3e-4, 1e-3], "written": 200},
}  # fmt: skip
PRETRAINED: dict[str, dict[str, Any]] = {
    "smoke": {}, "cpu": {"model": "smollm2-135m", "chats": 130},
    "gpu": {"model": "smollm2-135m", "chats": 1300},
}  # fmt: skip
"""A truly pretrained model and chats for it; none at scale smoke, where it would be too slow."""
NOT_LIKE_THE_PAPERS = (
    "The runs of the grid differ tenfold in rate, and the slow ones have not converged when they "
    "end: they have low norms and high losses early and late, and so end last. The paper's runs "
    "all converge."
)
WORDS = [
    "pain", "sleep", "day", "week", "dose", "pill", "night", "mood", "skin", "acne", "weight",
    "doctor", "month", "sick", "felt", "tired", "good", "bad", "help", "work", "start", "stop",
    "time", "year", "body", "head", "heart", "blood", "side", "effect",
]  # fmt: skip


def composed(count: int, seed: int) -> list[dict[str, str]]:
    """Composed instructions in three phases."""
    generator = random.Random(seed)
    listed = WORDS[:]
    random.Random(0).shuffle(listed)
    follows = dict(zip(listed, listed[1:] + listed[:1], strict=True))
    tricks = {
        "copy": lambda pair: pair,
        "reverse": lambda pair: pair[::-1],
        "upper": lambda pair: [word.upper() for word in pair],
    }
    made = []
    for place in range(count):
        pair = generator.sample(WORDS, 2)
        name = generator.choice(sorted(tricks))
        kind = ("0 follow", "1 knowledge", "2 skills")[place % 3]
        if kind == "0 follow":
            asked, said = f"{name} {' '.join(pair)}", tricks[name](pair)
        elif kind == "1 knowledge":
            asked, said = f"after {pair[0]}", [follows[pair[0]]]
        else:
            asked = f"{name} after {pair[0]} {pair[1]}"
            said = tricks[name]([follows[word] for word in pair])
        made.append({"prompt": asked, "response": " ".join(said), "phase": kind})
    return made


class Bench:
    """A pretrained base, the instructions, and runs at equal samples seen."""

    def __init__(self, given: dict[str, Any], seed: int, folder: Path) -> None:
        reviews = data.text("drug-reviews")[: given["characters"]]
        cut = len(reviews) * 9 // 10
        self.remember = folder / "kept.txt"
        self.remember.write_text(reviews[cut:], encoding="utf-8")
        text = TextTask.load([reviews[:cut]], length=64, vocabulary=512)
        base = DecoderLearner(
            layers=given["layers"], width=given["width"], heads=given["heads"], random_state=seed,
            max_epochs=2,
        ).fit(text)  # fmt: skip
        base.save(folder / f"base-{seed}")
        self.model = str(folder / f"base-{seed}" / "model")
        chats = composed(given["chats"], seed)
        self.task = InstructionsTask.load(
            chats, split_seed=seed, written=given["written"], test=0.2
        )
        self.shared = {"model": self.model, "remember": str(self.remember), "random_state": seed,
                       "max_epochs": given["epochs"], "recipe": "tulu"}  # fmt: skip
        self.done: dict[str, dict[str, Any]] = {}

    def run(self, **knobs: Any) -> dict[str, Any]:
        """One fine-tuning: its scores and its curves; the same one is not trained twice."""
        key = repr(sorted(knobs.items()))
        if key not in self.done:
            self.done[key] = self._run(knobs)
        return self.done[key]

    def _run(self, knobs: dict[str, Any]) -> dict[str, Any]:
        learner = FineTuned(**self.shared | knobs).fit(self.task)
        scores = self.task.judge(learner, "test").scores
        history = [line["metrics"]["validation_loss"] for line in learner.history_]
        return {"test": scores, "monitor": learner.monitor_, "history": history}


def measure(scale: str) -> list[Claim]:
    """The main runs and the grid of batches and rates, over seeds."""
    given = SETTINGS[scale]
    seeds = given["seeds"]
    middle = given["batches"][-2]
    found: list[dict[str, dict[str, Any]]] = []
    grids: list[dict[str, dict[str, Any]]] = []
    with tempfile.TemporaryDirectory() as name:
        for seed in seeds:
            bench = Bench(given, seed, Path(name))
            rate = _rate(bench, given, middle)
            plain: dict[str, Any] = {
                "batch_size": middle,
                "lr": rate,
                "schedule": "constant",
                "warmup": 0.0,
            }
            found.append(
                {
                    "stacked": bench.run(**plain),
                    "phased": bench.run(**plain, order="phased"),
                    "by difficulty": bench.run(**plain, order="difficulty"),
                    "warm-up and decay": bench.run(**plain | {"warmup": 0.1, "schedule": "linear"}),
                    "small batch": bench.run(**plain | {"batch_size": given["batches"][0]}),
                    "untuned": _untuned(bench),
                }
            )
            grids.append({
                f"batch {size}, rate {lr:g}": bench.run(
                    batch_size=size, lr=lr, schedule="constant", warmup=0.0
                )
                for size in given["batches"] for lr in given["rates"]
            })  # fmt: skip
    claims = [*_claims(found, seeds), *_early_signs(grids, seeds)]
    return claims + ([_pretrained(**PRETRAINED[scale], seeds=seeds)] if PRETRAINED[scale] else [])


def _pretrained(model: str, chats: int, seeds: list[int]) -> Claim:
    """One pass over chats with a pretrained model."""
    before: list[float] = []
    after: list[float] = []
    steps = 0
    for seed in seeds:
        drawn = random.Random(seed).sample(data.chats("chatterbot"), chats)
        task = InstructionsTask.load(drawn, split_seed=seed, test=0.2)
        shared: dict[str, Any] = {"model": model, "remember": "none"}
        untuned = Untuned(**shared).fit(task)
        tuned = FineTuned(**shared, max_epochs=1, random_state=seed).fit(task)
        steps = len(tuned.monitor_.rows)
        for losses, learner in ((before, untuned), (after, tuned)):
            losses.append(task.judge(learner, "test").scores["loss"])
    return Claim(
        "pretrained",
        "one pass by the recipe over some dozens of chats lowers the loss of a pretrained model on "
        "answers that it has not seen",
        judge([old - new for old, new in zip(before, after, strict=True)]),
        {"model": model, "chats": chats, "steps": steps, "test loss before": before,
         "test loss after": after},
        seeds, "Recipe lab with its batch capped; answers of an everyday dialogue corpus.",
    )  # fmt: skip


def _rate(bench: Bench, given: dict[str, Any], size: int) -> float:
    """The rate at which the stacked run has the least validation loss; the same for all others."""
    tried = {
        lr: min(bench.run(batch_size=size, lr=lr, schedule="constant", warmup=0.0)["history"])
        for lr in given["rates"]
    }
    return min(tried, key=lambda lr: tried[lr])


def _untuned(bench: Bench) -> dict[str, Any]:
    learner = Untuned(model=bench.model, remember=str(bench.remember)).fit(bench.task)
    return {"test": bench.task.judge(learner, "test").scores}


def _claims(found: list[dict[str, dict[str, Any]]], seeds: list[int]) -> list[Claim]:
    def exact(name: str) -> list[float]:
        return [one[name]["test"]["exact_match"] for one in found]

    def loss(name: str) -> list[float]:
        return [one[name]["test"]["loss"] for one in found]

    def ahead(better: str, worse: str) -> list[float]:
        return [b - a for a, b in zip(loss(better), loss(worse), strict=True)]

    def scores(*names: str) -> dict[str, Any]:
        return {f"{name}, {what}": of(name) for name in names for what, of in
                (("test loss", loss), ("exact match", exact))}  # fmt: skip

    return [
        Claim(
            "stacked-over-phased", "one mix of all data is at least as good as phase after phase",
            judge(ahead("stacked", "phased")),
            {**scores("stacked", "phased", "untuned"), "by seed": ahead("stacked", "phased"),
             "curves": {name: [one[name]["history"] for one in found]
                        for name in ("stacked", "phased")}},
            seeds, "At equal samples seen, one rate, chosen on validation chats for the mix.",
        ),
        Claim(
            "stacked-over-difficulty", "and than short answers first",
            judge(ahead("stacked", "by difficulty")), scores("stacked", "by difficulty"), seeds,
        ),
        Claim(
            "plain-schedule",
            "a constant rate without warm-up is within a hundredth of warm-up and decay",
            judge([0.01 - gap for gap in ahead("warm-up and decay", "stacked")]),
            scores("stacked", "warm-up and decay"), seeds,
        ),
        Claim(
            "large-batch", "a larger batch at the same rate is better than a small one",
            judge(ahead("stacked", "small batch")),
            {**scores("stacked", "small batch"),
             "forgetting, larger": [one["stacked"]["test"]["forgetting"] for one in found],
             "forgetting, small": [one["small batch"]["test"]["forgetting"] for one in found]},
            seeds, "At equal samples seen the small batch takes more steps.",
        ),
    ]  # fmt: skip


def _early_signs(grids: list[dict[str, dict[str, Any]]], seeds: list[int]) -> list[Claim]:
    """What the first tenth of a run says of its end, over the runs of each seed's grid."""
    signs = [early_rank({name: run["monitor"] for name, run in grid.items()}, at=0.1)
             for grid in grids]  # fmt: skip
    forgot = [{name: run["test"]["forgetting"] for name, run in grid.items()} for grid in grids]
    final = [{name: run["test"]["loss"] for name, run in grid.items()} for grid in grids]

    def correlation(column: str, sign: float, with_: list[dict[str, float]]) -> list[float]:
        return [
            float(spearmanr(sign * table[column], [values[name] for name in table.index])[0])
            for table, values in zip(signs, with_, strict=True)
        ]

    norms = correlation("grad_norm", 1.0, forgot)
    early = correlation("score", -1.0, final)
    confound = correlation("movement", -1.0, final)
    half = (len(signs[0]) + 1) // 2
    best = [min(losses, key=lambda name: losses[name]) for losses in final]
    places = [list(table.index).index(name) + 1 for table, name in zip(signs, best, strict=True)]
    return [
        Claim(
            "norm-tells-forgetting",
            "runs with a lower early gradient norm forget less (a rank correlation above 0.5)",
            judge(norms, margin=0.5),
            {"rank correlation by seed": norms, "forgetting": forgot[0],
             "early gradient norm": signs[0]["grad_norm"].to_dict()},
            seeds, "" if judge(norms, margin=0.5) == "holds" else NOT_LIKE_THE_PAPERS,
        ),
        Claim(
            "early-score", "a low early norm and a high early loss mark the runs that end best",
            judge(early),
            {"rank correlation with the final test loss, turned": early,
             "of large movement alone (the confound)": confound,
             "test loss": final[0], "score": signs[0]["score"].to_dict()},
            seeds,
            "The score ranks runs that hardly move first: small rates have low norms and high "
            "losses too. " + ("" if judge(early) == "holds" else NOT_LIKE_THE_PAPERS),
        ),
        Claim(
            "sweep", "stopping the worse half after a tenth keeps the best run",
            judge([half + 0.5 - place for place in places]),
            {"best run": best, "its place in the early ranking": places, "runs": len(signs[0]),
             "kept": half, "training saved": 0.9 * (1 - half / len(signs[0]))},
            seeds, "" if max(places) <= half else NOT_LIKE_THE_PAPERS,
        ),
    ]  # fmt: skip


def picture(record: dict[str, Any]) -> "Figure":
    """Fine-tuning: loss on held-out answers over the samples seen, all data at once and phase after
    phase, three seeds each.
    """
    figure, axes = canvas()
    colours = {"stacked": BLUE, "phased": ORANGE}
    for name, curves in numbers_of(record, "stacked-over-phased")["curves"].items():
        for number, curve in enumerate(curves):
            share = np.arange(1, len(curve) + 1) / len(curve)
            label = {"stacked": "all at once", "phased": "phase after phase"}[name]
            axes.plot(
                share, curve, color=colours[name], lw=1.6, label=label if number == 0 else None
            )
    axes.set_xlabel("share of the samples seen")
    axes.set_ylabel("validation loss (nats a token)")
    axes.legend(frameon=False)
    return figure
