"""Is every truncation of one network as good as a network of its size that was trained alone?

Pictures: digits, a residual MLP with 16 sub-models (4 widths, 4 depths) and with 160 (40 widths),
all schemes for the same steps, rate and seeds; nothing is held out to choose by, and the test part
is scored once a sub-model. Text: a Llama of bytes whose exits learn together, beside one that
learns at its full depth alone, and models of the other depths trained alone; then the shallow exit
drafts.
"""

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stackwise.evidence.byte_models import byte_model, device, held_out_windows
from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.evidence.pictures import BLUE, GREY, ORANGE, canvas, numbers_of
from stackwise.tasks.images.task import ImagesTask
from stackwise.train.sortednet import (
    Choice,
    Drawing,
    SelfSpeculation,
    SortedNetImageClassifier,
    SortedRule,
    submodel,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"rows": 80, "seeds": (0,), "epochs": 2, "share": 2, "width": 16, "many": 2,
              "more": (), "layers": 4, "exits": (1, 2, 4), "steps": 2, "text_width": 16,
              "windows": 4, "prompts": 1, "tokens": 8},
    "cpu": {"rows": None, "seeds": (0, 1, 2), "epochs": 16, "share": 3, "width": 128, "many": 40,
            "more": (), "layers": 6, "exits": (2, 4, 6), "steps": 60, "text_width": 64,
            "windows": 64, "prompts": 4, "tokens": 48},
    "gpu": {"rows": None, "seeds": (0, 1, 2), "epochs": 100, "share": 3, "width": 256, "many": 40,
            "more": ("same-batch", "progressive"), "layers": 24, "exits": (6, 12, 18, 24),
            "steps": 2000, "text_width": 384, "windows": 256, "prompts": 16, "tokens": 200},
}  # fmt: skip
LEFT_OUT = {
    "smoke": "One seed, few rows and steps: this only shows that the measurement runs.",
    "cpu": "3,000 digits of MNIST and a residual MLP in place of CIFAR-10, GLUE and LLaMA; text "
    "models of six narrow blocks that saw 60 batches; no same-batch and no progressive draws.",
    "gpu": "Digits in place of CIFAR-10 and GLUE; a text model of 24 blocks in place of LLaMA.",
}
UNIT = "test accuracy in %"
WIDTHS = [0.125, 0.25, 0.5, 1.0]
DEFAULT = "sampled, whole in a quarter"


def measure(scale: Scale) -> list[Claim]:
    """The claims of sorted training."""
    return pictures(scale) + text(scale)


def schemes(settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What is compared, as knobs."""
    return {
        "truncate": {"scheme": "truncate"},
        "sampled": {},
        "sampled, accumulating 4": {"accumulate": 4},
        DEFAULT: {"full_probability": 0.25},
        "sandwich": {"scheme": "sandwich"},
        "sandwich, in the time": {
            "scheme": "sandwich",
            "max_epochs": settings["epochs"] // settings["share"],
        },
        **{name: {"scheme": name} for name in settings["more"]},
    }


def pictures(scale: Scale) -> list[Claim]:
    """The claims on pictures."""
    settings = SETTINGS[scale]
    scores: dict[str, list[list[float]]] = {}
    seconds: dict[str, list[float]] = {}
    alone: list[list[float]] = []
    many: list[list[float]] = []
    sizes: list[dict[str, int]] = []
    for seed in settings["seeds"]:
        task = ImagesTask.load("mnist-5k", max_rows=settings["rows"], split_seed=seed)
        test = task.part("test")
        for name, knobs in schemes(settings).items():
            began = time.process_time()
            model = _fitted(settings, task, seed, **knobs)
            seconds.setdefault(name, []).append(round(time.process_time() - began, 2))
            scores.setdefault(name, []).append(_scores(model, test))
            sizes = list(model.space_.sizes)
        began = time.process_time()
        small = [_alone(settings, task, seed, sizes[place]) for place in diagonal(sizes)[:-1]]
        seconds.setdefault("three sizes alone", []).append(round(time.process_time() - began, 2))
        alone.append(_percent(one.score(*test) for one in small))
        widths = np.linspace(1 / settings["many"], 1, settings["many"]).tolist()
        found = _fitted(settings, task, seed, widths=widths, full_probability=0.25)
        many.append(_scores(found, test))
    costs = model.submodels(latency=False)["multiply_adds"].tolist()
    return _picture_claims(
        settings, scale, sizes=sizes, costs=costs, scores=scores, seconds=seconds, alone=alone,
        many=many,
    )  # fmt: skip


def _fitted(
    settings: dict[str, Any], task: ImagesTask, seed: int, **knobs: Any
) -> SortedNetImageClassifier:
    given: dict[str, Any] = {
        "network": "mlp", "width": settings["width"], "depth": 4, "widths": WIDTHS,
        "full_probability": 0.0, "max_epochs": settings["epochs"], "lr": 1e-3,
        "weight_decay": 0.01, "batch_size": 128, "augment": "none", "validation": 0.0,
        "min_steps": 0, "threads": 1, "random_state": seed,
    }  # fmt: skip
    return SortedNetImageClassifier(**given | knobs).fit(*task.part("train"))


def _alone(settings: dict[str, Any], task: ImagesTask, seed: int, sizes: dict[str, int]) -> Any:
    """A network of this size, trained in the ordinary way for the same steps."""
    return _fitted(
        settings, task, seed, scheme="truncate", width=sizes["width"], depth=sizes["depth"],
        widths=[1.0],
    )  # fmt: skip


def diagonal(sizes: list[dict[str, int]]) -> list[int]:
    """The places of the narrowest at depth 1, the next at depth 2, ... the whole network."""
    widths = sorted({one["width"] for one in sizes})
    wanted = [(width, depth) for depth, width in enumerate(widths, 1)]
    return [[(one["width"], one["depth"]) for one in sizes].index(one) for one in wanted]


def _scores(model: SortedNetImageClassifier, test: Any) -> list[float]:
    """Test accuracy of every sub-model."""
    return _percent(model.extract(**sizes).score(*test) for sizes in model.space_.sizes)


def _percent(values: Any) -> list[float]:
    return [round(100 * float(value), 2) for value in values]


def _mean(rows: list[list[float]]) -> list[float]:
    """Of each seed the mean over sub-models."""
    return [round(float(np.mean(row)), 3) for row in rows]


def _less(one: list[float], other: list[float]) -> list[float]:
    return [round(a - b, 3) for a, b in zip(one, other, strict=True)]


def _picture_claims(
    settings: dict[str, Any], scale: Scale, *, sizes: list[dict[str, int]], costs: list[int],
    scores: dict[str, list[list[float]]], seconds: dict[str, list[float]],
    alone: list[list[float]], many: list[list[float]],
) -> list[Claim]:  # fmt: skip
    means = {name: _mean(rows) for name, rows in scores.items()}
    dense = [row[-1] for row in scores["truncate"]]
    whole = {name: [row[-1] for row in rows] for name, rows in scores.items()}
    few = diagonal(sizes)[:-1]
    wide = [i for i, one in enumerate(sizes) if one["width"] * 4 >= settings["width"]]
    shared: dict[str, Any] = {
        "unit": UNIT,
        "mean over 16 sub-models": means,
        "whole network": whole,
    }

    def claim(
        id: str, statement: str, differences: list[float], margin: float, why: str = "",
        **numbers: Any,
    ) -> Claim:  # fmt: skip
        verdict = judge(differences, margin=margin)
        return Claim(
            id, statement, verdict, {**numbers, "differences": differences, "margin": margin},
            list(settings["seeds"]),
            LEFT_OUT[scale] if verdict == "holds" else f"{LEFT_OUT[scale]} {why}".strip(),
        )  # fmt: skip

    def least_of_dense(rows: list[list[float]], places: list[int]) -> list[float]:
        pairs = zip(rows, dense, strict=True)
        return [round(min(row[place] for place in places) / best, 4) for row, best in pairs]

    reached = [
        round(float(np.mean([one >= 0.96 * best for one in row])), 3)
        for row, best in zip(many, dense, strict=True)
    ]
    sampled = np.array(scores["sampled"])
    curves = {"sizes": sizes, "multiply_adds": costs, "scores": scores, "alone": alone}
    return [
        claim("sampled-beats-truncate",
              "The mean over 16 sub-models is at least 10 points above that of a network that was "
              "trained whole and cut.",
              _less(means["sampled"], means["truncate"]), 10.0, **shared, curves=curves),
        claim("within-four-percent",
              "Each sub-model of at least a quarter of the width has 96 % of the accuracy of the "
              "whole network trained alone.",
              [round(one - 0.96, 4) for one in least_of_dense(scores["sampled"], wide)], 0.0,
              "With few steps each sub-model sees a small part of them.",
              least={name: least_of_dense(rows, wide) for name, rows in scores.items()}),
        claim("160-submodels",
              "All of 160 sub-models (40 widths, 4 depths) have 96 % of the accuracy of the whole "
              "network trained alone.",
              [round(one - 1.0, 4) for one in reached], -1e-9,
              "The narrowest have three or six numbers a stream.",
              share_that_does=reached, mean=_mean(many), least=[min(row) for row in many]),
        claim("close-to-alone",
              "Sub-models are at most 2 points below networks of their size trained alone.",
              [round(min(a - b for a, b in zip([row[i] for i in few], own, strict=True)), 3)
               for row, own in zip(scores["sampled"], alone, strict=True)], -2.0,
              "One network of several sizes shares its steps among them.",
              sizes=[f"{sizes[i]['width']}x{sizes[i]['depth']}" for i in few], alone=alone,
              sampled=[[row[i] for i in few] for row in scores["sampled"]],
              default=[[row[i] for i in few] for row in scores[DEFAULT]]),
        claim("sorted-by-width",
              "At every depth accuracy does not fall with the width by more than 0.5 points.",
              [_least_step(row, sizes) for row in sampled], -0.5),
        claim("a-step-is-no-dearer",
              "Training through sub-models takes no longer than training the whole network.",
              [round(1 - a / b, 3) for a, b in
               zip(seconds["sampled"], seconds["truncate"], strict=True)], 0.0,
              cpu_seconds=seconds),
        claim("the-whole-loses-little",
              "With the whole network in a quarter of the steps it is at most 1 point below the "
              "one trained alone.",
              _less(whole[DEFAULT], dense), -1.0,
              "Its units that no other sub-model has learn in few of the steps.", **shared),
        claim("accumulation-helps",
              "Gradients of four sub-models on parts of the batch give a better mean than one "
              "sub-model, at equal steps and data.",
              _less(means["sampled, accumulating 4"], means["sampled"]), 0.0,
              "Each draw then sees a quarter of the rows.", **shared),
        claim("beats-sandwich",
              "In the time of sampled training, a third of the steps, the sandwich rule has "
              "a worse mean over the sub-models.",
              _less(means["sampled"], means["sandwich, in the time"]), 0.0,
              "Four passes a step teach more than four steps of one.",
              cpu_seconds={
                  name: seconds[name] for name in ("sampled", "sandwich, in the time", "sandwich")
              },
              **shared),
    ]  # fmt: skip


def _least_step(row: Any, sizes: list[dict[str, int]]) -> float:
    """The least change of accuracy from one width to the next, over all depths."""
    steps = []
    for depth in {one["depth"] for one in sizes}:
        places = [i for i, one in enumerate(sizes) if one["depth"] == depth]
        places.sort(key=lambda i: sizes[i]["width"])
        steps += np.diff([row[i] for i in places]).tolist()
    return round(min(steps), 3)


def text(scale: Scale) -> list[Claim]:
    """The claims on text."""
    settings = SETTINGS[scale]
    depth, exits, steps = settings["layers"], settings["exits"], settings["steps"]
    width = settings["text_width"]
    windows = torch.cat(held_out_windows(settings["windows"])).to(device())
    found: dict[str, list[Any]] = {}

    def note(name: str, value: Any) -> None:
        found.setdefault(name, []).append(value)

    def sorted_rule(inner: Any) -> SortedRule:
        return SortedRule(inner, Choice(depths=list(exits)), Drawing("all"))

    for seed in settings["seeds"]:
        plain = byte_model(depth, seed, steps, width)
        model = byte_model(depth, seed, steps, width, through=sorted_rule)
        note("exits of one trained whole", [_bits(plain, windows, d) for d in exits])
        note("exits trained together", [_bits(model, windows, d) for d in exits])
        alone = [byte_model(d, seed, steps, width) for d in exits[:-1]]
        note("trained alone", [_bits(one, windows) for one in alone])
        _decode(settings, model, note)
    seeds = list(settings["seeds"])
    together, cut = found["exits trained together"], found["exits of one trained whole"]
    numbers = {"unit": "bits per byte of held-out text", "exits": list(exits), **found}

    def claim(
        id: str, statement: str, differences: list[float], margin: float, why: str = ""
    ) -> Claim:
        verdict = judge(differences, margin=margin)
        words = LEFT_OUT[scale] if verdict == "holds" else f"{LEFT_OUT[scale]} {why}".strip()
        shown = {**numbers, "differences": differences, "margin": margin}
        return Claim(id, statement, verdict, shown, seeds, words)

    def least(one: list[list[float]], other: list[list[float]], count: int) -> list[float]:
        return [
            round(min(a - b for a, b in zip(x[:count], y[:count], strict=True)), 4)
            for x, y in zip(one, other, strict=True)
        ]

    few = len(exits) - 1
    return [
        claim("exits-beat-early-exit",
              "Each exit that learned with the others is better than the same exit of a model that "
              "learned at its full depth alone.",
              least(cut, together, few), 0.0),
        claim("exits-as-good-as-alone",
              "Each exit is at most 0.1 bits a byte worse than a model of its depth trained alone.",
              least(found["trained alone"], together, few), -0.1),
        claim("full-depth-loses-little",
              "The full depth is at most 0.1 bits a byte worse than trained alone.",
              [round(a[-1] - b[-1], 4) for a, b in zip(cut, together, strict=True)], -0.1,
              "The last exit has its share of the loss alone."),
        claim("the-same-text",
              "Self-speculative decoding writes the text of greedy decoding, token for token.",
              [float(same) - 1 for same in found["share of texts that are the same"]], -1e-9),
        claim("decoding-is-faster",
              "Drafts of the first exit make greedy decoding faster.",
              [round(one - 1, 3) for one in found["times as fast as greedy decoding"]], 0.0,
              "A pass through few narrow blocks takes hardly less time than one through all."),
    ]  # fmt: skip


@torch.no_grad()
def _bits(model: Any, windows: torch.Tensor, depth: int | None = None) -> float:
    """Bits per byte of windows, at a depth."""
    sizes = {} if depth is None else {"depth": depth}
    with submodel(model, **sizes) as opened:
        loss = opened(input_ids=windows, labels=windows, use_cache=False).loss
    return round(float(loss) / float(np.log(2)), 4)


@torch.no_grad()
def _decode(settings: dict[str, Any], model: Any, note: Any) -> None:
    """Greedy decoding with and without drafts, in turn."""
    windows = held_out_windows(2 * settings["prompts"], length=32)[settings["prompts"] :]
    drafting = SelfSpeculation(model, settings["exits"][0], draft_tokens=3)
    same, ratios = [], []
    for ids in windows:
        ids = ids.to(device())
        taken: dict[str, list[float]] = {"greedy": [], "drafted": []}
        for _ in range(3):
            began = time.perf_counter()
            whole = greedy(model, ids, settings["tokens"])
            taken["greedy"].append(time.perf_counter() - began)
            began = time.perf_counter()
            drafted = drafting.generate(ids, max_new_tokens=settings["tokens"])
            taken["drafted"].append(time.perf_counter() - began)
        same.append(torch.equal(whole, drafted))
        ratios.append(min(taken["greedy"]) / min(taken["drafted"]))
    note("share of texts that are the same", float(np.mean(same)))
    note("times as fast as greedy decoding", round(float(np.median(ratios)), 3))
    note("share of drafts that were kept", round(drafting.accepted / drafting.drafted, 3))


def greedy(model: Any, ids: torch.Tensor, tokens: int) -> torch.Tensor:
    """Greedy decoding as bare as it can be: one pass a token, with a cache."""
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    read, whole = ids, ids
    for _ in range(tokens):
        found = model(input_ids=read, past_key_values=cache, use_cache=True, logits_to_keep=1)
        read = found.logits[:, -1].argmax(-1, keepdim=True)
        whole = torch.cat([whole, read], 1)
    return whole


PARTS = {"pictures": pictures, "text": text}


def picture(record: dict[str, Any]) -> "Figure":
    """Test accuracy by multiply-adds of the 16 sub-models of one residual MLP on digits: trained
    sorted, trained whole and then cut, and networks of four sizes trained alone; mean of three
    seeds.
    """
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    curves = numbers_of(record, "sampled-beats-truncate")["curves"]
    costs = np.array(curves["multiply_adds"], float)
    figure, axes = canvas(height=3.6)
    for name, colour, words in (
        (DEFAULT, BLUE, "sub-models of one network, trained sorted"),
        ("truncate", GREY, "of one that was trained whole"),
    ):
        mean = np.mean(curves["scores"][name], axis=0)
        axes.scatter(costs, mean, s=26, color=colour, label=words, zorder=3)
    places = diagonal(curves["sizes"])
    dense = np.array(curves["scores"]["truncate"])[:, -1]
    alone = np.concatenate([np.array(curves["alone"]), dense[:, None]], axis=1).mean(0)
    axes.plot(
        costs[places], alone, "s--", color=ORANGE, ms=5, lw=1, label="trained alone", zorder=2
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("multiply-adds of one digit")
    axes.set_ylabel("test accuracy, in %")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure
