"""Do dilated convolutions carry what attention in chunks cannot see, and do they replace an EMA?

Three measurements, each with equal steps for all: associative recall (`tcnca_recall`), where
answers from other chunks can only come through the operator; three sets of real series; and small
language models of bytes on Python's own sources. The networks are those of the method with one
part exchanged: the operator (convolutions, MEGA's moving average, none), attention (none), or the
form (gated, simple). Nothing is tuned: one set of sizes and one learning rate for all.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from stackwise import data
from stackwise.build.tcnca import TCNCAClassifier, TCNCALanguageLearner
from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.evidence.pictures import dots, numbers_of
from stackwise.evidence.tcnca_recall import ALONE, BLIND, EMA, GATED, SIMPLE, SYSTEMS, recalled
from stackwise.tasks.series.baselines.linear import LinearSeriesClassifier
from stackwise.tasks.series.baselines.mini_rocket import MiniRocketClassifier
from stackwise.tasks.series.task import SeriesTask
from stackwise.tasks.text.task import TextTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"seeds": (0,), "steps": 1, "rows": 2, "keys": 10, "asked": 64, "rocket": 84,
              "sets": ("basic-motions",), "epochs": 1, "least": 0, "width": 4, "bytes": 6000,
              "length": 32, "lm_width": 4, "batch": 16},
    "cpu": {"seeds": (0, 1, 2), "steps": 1000, "rows": 32, "keys": 10, "asked": 2048,
            "rocket": 9996, "sets": ("basic-motions", "italy-power-demand", "japanese-vowels"),
            "epochs": 60, "least": 1500, "width": 16, "bytes": 300_000, "length": 256,
            "lm_width": 48, "batch": 8},
    "gpu": {"seeds": (0, 1, 2), "steps": 3000, "rows": 64, "keys": 40, "asked": 8192,
            "rocket": 9996, "sets": ("basic-motions", "italy-power-demand", "japanese-vowels"),
            "epochs": 150, "least": 1500, "width": 64, "bytes": 10_000_000, "length": 1024,
            "lm_width": 256, "batch": 16},
}  # fmt: skip
LEFT_OUT = {
    "smoke": "A few steps and one seed: this only shows that the measurement runs.",
    "cpu": "Networks of some ten thousand parameters and minutes of training; the paper has enwik8 "
    "with 39 million, the Long Range Arena, and recall over more keys and lengths.",
    "gpu": "Python's sources in place of enwik8, and no Long Range Arena.",
}


def measure(scale: Scale) -> list[Claim]:
    """All claims of TCNCA."""
    return [claim for part in PARTS.values() for claim in part(scale)]


def recall(scale: Scale) -> list[Claim]:
    """Associative recall."""
    own = SETTINGS[scale]
    sizes = {name: own[name] for name in ("steps", "rows", "keys", "asked")}
    found = {
        system: [recalled(system, seed, **sizes) for seed in own["seeds"]] for system in SYSTEMS
    }

    def of(system: str, part: str = "all") -> list[float]:
        return [one[part] for one in found[system]]

    accuracy = {
        part: {system: of(system, part) for system in SYSTEMS}
        for part in ("all", "same chunk", "other chunk")
    }
    shown = {"accuracy": accuracy, "keys": own["keys"], "steps": own["steps"], "chance": 0.1}
    chance = [0.05 - abs(value - 0.1) for value in of(BLIND, "other chunk")]
    more = (
        ("recall-simple-beside-ema",
         "TCNCA-simple recalls at least as well as MEGA's average (0.02 allowed).",
         _over(of(SIMPLE), of(EMA)), -0.02),
        ("recall-other-chunks",
         "Convolutions bring answers from other chunks: 0.1 above attention alone.",
         _over(of(GATED, "other chunk"), of(BLIND, "other chunk")), 0.1),
        ("recall-chance-without-operator",
         "Without an operator nothing passes between chunks: chance, within 0.05.", chance, 0.0),
        ("recall-needs-attention",
         "Recall needs attention too: TCNCA is 0.1 above its convolutions alone.",
         _over(of(GATED), of(ALONE)), 0.1),
    )  # fmt: skip
    return _claims(more, shown, scale)


def series(scale: Scale) -> list[Claim]:
    """Real series, their own test part, a seed for the validation series and the network."""
    own = SETTINGS[scale]
    fitted: dict[str, Any] = {
        "width": own["width"], "blocks": 1, "chunk": 16, "max_epochs": own["epochs"],
        "min_steps": own["least"], "threads": 1,
    }  # fmt: skip
    builds: dict[str, Callable[[int], Any]] = {
        GATED: lambda seed: TCNCAClassifier(**fitted, random_state=seed),
        EMA: lambda seed: TCNCAClassifier(**fitted, operator="ema", random_state=seed),
        "MiniRocket": lambda seed: MiniRocketClassifier(
            features=own["rocket"], threads=1, random_state=seed
        ),
        "linear": lambda seed: LinearSeriesClassifier(threads=1),
    }
    accuracy: dict[str, dict[str, list[float]]] = {name: {} for name in builds}
    for name in own["sets"]:
        for seed in own["seeds"]:
            task = SeriesTask.load(name, split_seed=seed)
            for system, build in builds.items():
                learner = task.fit(build(seed))
                score = task.judge(learner, "test").scores["accuracy"]
                accuracy[system].setdefault(name, []).append(round(100 * score, 2))
    mean = {
        system: np.mean(list(sets.values()), axis=0).round(3).tolist()
        for system, sets in accuracy.items()
    }
    shown = {"test_accuracy_percent": accuracy, "mean_by_seed": mean}
    more = (
        ("series-beside-ema",
         "On real series TCNCA is at most 1 point below MEGA's average, in the mean of the sets.",
         _over(mean[GATED], mean[EMA]), -1.0),
        ("series-beats-linear",
         "On real series it beats a linear model on summary statistics, in the mean.",
         _over(mean[GATED], mean["linear"]), 0.0),
        ("series-beside-mini-rocket",
         "On real series it is at most 1 point below MiniRocket with a ridge, in the mean.",
         _over(mean[GATED], mean["MiniRocket"]), -1.0),
    )  # fmt: skip
    return _claims(more, shown, scale)


def language(scale: Scale) -> list[Claim]:
    """Bytes of Python's sources: bits a byte on text that follows."""
    own = SETTINGS[scale]
    source = _sources(own["bytes"] * len(own["seeds"]))
    bits: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    operators = {GATED: "tcn", EMA: "ema", BLIND: "none"}
    for seed in own["seeds"]:
        text = source[seed * own["bytes"] : (seed + 1) * own["bytes"]]
        task = TextTask.load([text], vocabulary=257, length=own["length"], most_judged=100)
        for system, operator in operators.items():
            began = time.process_time()
            learner = TCNCALanguageLearner(
                width=own["lm_width"], blocks=2, chunk=own["length"] // 4, operator=operator,
                batch_size=own["batch"], threads=1, random_state=seed,
            )  # fmt: skip
            task.fit(learner)
            seconds.setdefault(system, []).append(round(time.process_time() - began, 1))
            score = task.judge(learner, "test").scores["bits_per_byte"]
            bits.setdefault(system, []).append(round(score, 4))
    shown = {"bits_per_byte": bits, "seconds_of_training": seconds}
    more = (
        ("bytes-beside-ema",
         "On bytes TCNCA is at most 0.02 bits a byte above MEGA's average.",
         _over(bits[EMA], bits[GATED]), -0.02),
        ("bytes-need-the-operator",
         "On bytes it is 0.05 bits a byte below the same network without an operator.",
         _over(bits[BLIND], bits[GATED]), 0.05),
    )  # fmt: skip
    return _claims(more, shown, scale)


def _sources(length: int) -> str:
    """So much of Python's sources."""
    return data.text("python-source")[:length]


PARTS: dict[str, Callable[[Scale], list[Claim]]] = {
    "recall": recall, "series": series, "language": language,
}  # fmt: skip


def _over(ours: list[float], others: list[float]) -> list[float]:
    return [round(a - b, 4) for a, b in zip(ours, others, strict=True)]


def _claims(more: Any, shown: dict[str, Any], scale: Scale) -> list[Claim]:
    """Claims of one measurement; the first holds all its numbers."""
    made = []
    seeds = list(SETTINGS[scale]["seeds"])
    for place, (id, statement, differences, margin) in enumerate(more):
        numbers = {"differences": differences, "margin": margin} | (shown if not place else {})
        verdict = judge(differences, margin=margin)
        why = WHY.get(id, "") if verdict != "holds" else ""
        made.append(
            Claim(id, statement, verdict, numbers, seeds, f"{LEFT_OUT[scale]} {why}".strip())
        )
    return made


WHY: dict[str, str] = {}
"""Why a claim does not hold, as far as it is known."""


def picture(record: dict[str, Any]) -> "Figure":
    """Associative recall by where the key stood before: in the chunk of the last key (attention can
    find it), or in earlier chunks alone (only the operator can bring it); a dot a seed, chance is
    0.1.
    """
    found = numbers_of(record, "recall-simple-beside-ema")["accuracy"]
    rows = {
        system: {part: found[part][system] for part in ("same chunk", "other chunk")}
        for system in SYSTEMS
    }
    return dots(rows, label="accuracy at the last key")
