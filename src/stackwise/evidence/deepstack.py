"""What are fine tokens worth where they cost no length, and does anything else change?

Two measurements. Letters that are too small for the low view are read off a bidirectional stack of
blocks at the picture's positions (`deepstack_cells`), beside the ceilings of template matching in
both views: a ranking of readers says something only where the low view's reader is near its own.
And the learner itself, with a causal language model and questions, takes ten steps on letter
mosaics in each variant: exactness and that it learns at all, no ranking.
"""

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stackwise.build.deepstack import DeepStack, DeepStackVQA
from stackwise.data.mosaics import letter_mosaics
from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.evidence.deepstack_cells import SYSTEMS, Found, measured
from stackwise.evidence.pictures import dots, numbers_of
from stackwise.tasks.vqa.task import VQATask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"seeds": (0,), "steps": 2, "batch": 8, "layers": 6, "width": 16,
              "systems": ("low view", "DeepStack", "dummy stacks"), "variants": ("L",),
              "tested": 32, "pictures": 6},
    "cpu": {"seeds": (0, 1, 2), "steps": 256, "batch": 32, "layers": 6, "width": 48,
            "systems": ("low view", "DeepStack", "dummy stacks", "all tokens", "concat",
                        "late start"),
            "variants": ("L", "V", "taps"), "tested": 512, "pictures": 20},
    "gpu": {"seeds": (0, 1, 2), "steps": 2000, "batch": 128, "layers": 8, "width": 96,
            "systems": tuple(SYSTEMS), "variants": ("L", "V", "taps", "concat", "dummy"),
            "tested": 2048, "pictures": 20},
}  # fmt: skip
LEFT_OUT = {
    "smoke": "One seed and two steps: this only shows that the measurement runs.",
    "cpu": "Made letters in place of photographs and documents, a reader of six blocks and 48 "
    "numbers, no pretrained model; the other two samplings are measured at gpu scale.",
    "gpu": "Made letters in place of photographs and documents; no pretrained model.",
}
NEAR_CEILING, WON, ALIKE = 3.0, 10.0, 3.0
"""Points: the low view's reader below its ceiling at most, what stacks win at least, and by how
much what sees nothing new may differ from the low view.
"""
CHEAP, DEAR = 1.3, 2.0
"""How much of the low view's step (tower included) stacks may cost, and how much the long sequence
costs at least."""
STEPS = 10
AT_ITS_PLACE = (
    "Likely, not measured: each letter is read at the place of its own tokens, so that whatever "
    "brings all of them there at once has all that is needed. "
)
RIVALS = {
    "concat": "Stacks read better than one projection of all tokens that lie at a place.",
    "late start": "Stacks on early blocks read better than all of them at once on the last block.",
}


def measure(scale: Scale) -> list[Claim]:
    """The claims of DeepStack."""
    settings = SETTINGS[scale]
    names = ("seeds", "steps", "batch", "layers", "width", "systems", "tested")
    found = measured(**{name: settings[name] for name in names})
    seeds = list(settings["seeds"])
    made = [*_of_cells(found, seeds, scale), *_of_time(settings, seeds, scale)]
    return [*made, *_of_learner(settings, seeds, scale)]


def _of_cells(found: Found, seeds: list[int], scale: Scale) -> list[Claim]:
    accuracy, ceilings = found.accuracy, found.ceilings
    low = accuracy["low view"]

    def over(one: str, other: list[float]) -> list[float]:
        return [round(a - b, 2) for a, b in zip(accuracy[one], other, strict=True)]

    short = [round(c - a, 2) for c, a in zip(ceilings["low view"], low, strict=True)]
    reached = all(gap <= NEAR_CEILING for gap in short)
    note = "" if reached else (
        "The low view's reader is not near its ceiling, so that more steps may change this. "
    )  # fmt: skip
    claims = [
        Claim(
            "low-view-reaches-its-ceiling",
            f"The reader of the low view is within {NEAR_CEILING:.0f} points of a template matcher "
            "on the low view: it has learned what there is to see.",
            judge([NEAR_CEILING - gap for gap in short]),
            {"points_below": short, "accuracy": accuracy, "ceilings": ceilings,
             "seconds_a_step": found.seconds}, seeds, LEFT_OUT[scale],
        ),
        Claim(
            "stacks-see-more",
            f"With four stacks, letters are read at least {WON:.0f} points better than from the "
            "low view, in as many positions.",
            judge(over("DeepStack", low), margin=WON), {"points": over("DeepStack", low)}, seeds,
            f"{note}{LEFT_OUT[scale]}",
        ),
        Claim(
            "nothing-beats-the-ceiling",
            "No reader is more than 3 points above the template matcher of the view that it sees.",
            judge([
                3.0 - (value - ceilings["low view" if name in ("low view", "dummy stacks")
                                        else "fine view"][place])
                for name, values in accuracy.items() for place, value in enumerate(values)
            ]),
            {"ceilings": ceilings}, seeds, LEFT_OUT[scale],
        ),
    ]  # fmt: skip
    if "dummy stacks" in accuracy:
        gaps = over("dummy stacks", low)
        claims.append(Claim(
            "new-tokens-count-and-not-the-sum",
            f"The low view's own tokens as stacks change accuracy by {ALIKE:.0f} points at most: "
            "what is won is what is seen.",
            judge([ALIKE - abs(gap) for gap in gaps]), {"points": gaps}, seeds,
            f"{note}{LEFT_OUT[scale]}",
        ))  # fmt: skip
    if "grid stacks" in accuracy:
        gains = [round(a - b, 2) for a, b in
                 zip(accuracy["DeepStack"], accuracy["grid stacks"], strict=True)]  # fmt: skip
        claims.append(Claim(
            "place-counts", "Stacks of neighbours are at least a point better than whole crops as "
            "stacks, of the same tokens.", judge(gains, margin=1.0), {"points": gains}, seeds,
            f"Reading at the tokens' own positions favours this by design. {LEFT_OUT[scale]}",
        ))  # fmt: skip
    for name, statement in RIVALS.items():
        if name in accuracy:
            gains = [round(a - b, 2) for a, b in
                     zip(accuracy["DeepStack"], accuracy[name], strict=True)]  # fmt: skip
            claims.append(Claim(
                f"beats-{name.replace(' ', '-')}", statement, judge(gains), {"points": gains},
                seeds, f"{'' if judge(gains) == 'holds' else AT_ITS_PLACE}{note}{LEFT_OUT[scale]}",
            ))  # fmt: skip
    if "all tokens" in accuracy:
        gains = over("DeepStack", accuracy["all tokens"])
        claims.append(Claim(
            "as-good-as-the-long-sequence",
            "Stacks are within a point of a sequence that holds every token of both views.",
            judge([1.0 + gain for gain in gains]), {"points": gains}, seeds,
            f"{note}{LEFT_OUT[scale]}",
        ))  # fmt: skip
    return claims


def _of_time(settings: dict[str, Any], seeds: list[int], scale: Scale) -> list[Claim]:
    """A step of the language model alone, the tower's tokens given, a new model a seed."""
    middle: dict[str, list[float]] = {}
    for seed in seeds:
        for name, seconds in _step_seconds(seed, scale).items():
            middle.setdefault(name, []).append(round(seconds, 5))
    ratios = {
        name: [round(a / b, 3) for a, b in zip(middle[name], middle["low view"], strict=True)]
        for name in ("DeepStack", "all tokens")
    }
    margins = [CHEAP - ratio for ratio in ratios["DeepStack"]]
    return [Claim(
        "no-length-no-cost",
        f"A training step of the language model costs at most {CHEAP} times that of the low view "
        f"with stacks, and at least {DEAR:.0f} times with every token in the sequence.",
        judge([*margins, *(ratio - DEAR for ratio in ratios["all tokens"])]),
        {"over_low_view": ratios, "seconds": middle}, seeds,
        "64 tokens a view and 16 of text, the vision tower left out: it reads every crop in both.",
    )]  # fmt: skip


def _step_seconds(seed: int, scale: Scale) -> dict[str, float]:
    """CPU seconds of a forward and backward pass, the median of runs in turn, by system."""
    from stackwise.tasks.language.decoder import new_decoder

    width, repeats = (128, 5) if scale != "smoke" else (32, 1)
    torch.manual_seed(seed)
    decoder = new_decoder(300, layers=6, width=width, heads=4, length=512)
    deep = DeepStack(decoder)
    text, tokens = 16, 64
    steps: dict[str, list[float]] = {"low view": [], "DeepStack": [], "all tokens": []}
    for _ in range(repeats):
        for name, taken in steps.items():
            length = text + tokens * (5 if name == "all tokens" else 1)
            embeds = torch.randn(8, length, width, requires_grad=True)
            given: dict[str, Any] = {}
            if name == "DeepStack":
                positions = torch.zeros(8, length, dtype=torch.bool)
                positions[:, 1 : 1 + tokens] = True
                given = {"stacks": torch.randn(4, 8, tokens, width), "positions": positions}
            began = time.process_time()
            deep(inputs_embeds=embeds, use_cache=False, **given).logits.square().mean().backward()
            taken.append(time.process_time() - began)
            decoder.zero_grad()
    return {name: float(np.median(taken)) for name, taken in steps.items()}


def _of_learner(settings: dict[str, Any], seeds: list[int], scale: Scale) -> list[Claim]:
    """Ten steps on one batch of letter mosaics: the loss at the first and after the last."""
    sizes: dict[str, dict[str, Any]] = {"V": {"vision_layers": 8}, "taps": {"vision_layers": 4}}
    falls: dict[str, list[float]] = {}
    for variant in settings["variants"]:
        for seed in seeds:
            task = VQATask.load(
                letter_mosaics(count=settings["pictures"], seed=seed), split_seed=seed
            )
            learner = DeepStackVQA(
                variant=variant, **sizes.get(variant, {}), layers=5, width=32, heads=2,
                vision_width=32, vocabulary=300, max_epochs=STEPS, batch_size=64,
                schedule="constant", warmup=0.0, threads=1, random_state=seed,
            ).fit(task)  # fmt: skip
            losses = [float(line["metrics"]["train_loss"]) for line in learner.history_]
            falls.setdefault(variant, []).append(round(losses[0] - losses[-1], 4))
    least = [min(values) for values in zip(*falls.values(), strict=True)]
    return [Claim(
        "ten-steps-learn",
        "Ten steps on one batch of questions make the loss smaller by more than a nat, in "
        "every variant.",
        judge(least, margin=1.0), {"nats_by_variant": falls}, seeds,
        "No answer is counted: at this size a causal model has to learn which cell a question "
        "means, which takes far more steps than to read letters.",
    )]  # fmt: skip


def picture(record: dict[str, Any]) -> "Figure":
    """Letters read right in made mosaics, a dot a seed; grey is what a template matcher reaches in
    each view. Stacks of fine tokens see what the low view cannot, in as many positions.
    """
    numbers = numbers_of(record, "low-view-reaches-its-ceiling")
    shown = {name: {"accuracy": values} for name, values in numbers["accuracy"].items()}
    figure = dots(shown, label="letters read right, %")
    axes = figure.axes[0]
    for name, values in numbers["ceilings"].items():
        axes.axvline(float(np.mean(values)), color="#8a8f98", lw=1, zorder=1)
        axes.annotate(name, (float(np.mean(values)), -0.45), fontsize=7, color="#8a8f98",
                      ha="right", va="top", rotation=90)  # fmt: skip
    return figure
