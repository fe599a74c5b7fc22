"""Do a few merged layers do what twelve did, and what do they save?

Vision transformers of one width on MNIST digits: 12 plain layers, fewer plain layers, and fewer
layers of branches that are joined in training and merged; then the 12 trained layers made
shallower by the transform. All train for the same passes with the same learning rate; branched
ones compute as much in them as the 12 layers do. The test part is scored once a network.

Latency is measured on networks of DeiT-Tiny's width, whose weights do not matter for it.
"""

import copy
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.evidence.pictures import BLUE, GREY, ORANGE, canvas, numbers_of
from stackwise.learning.network import computing_with
from stackwise.shrink.vit_reparam import (
    BranchedViT,
    BranchedViTClassifier,
    grouping_gap,
    merge,
    set_join,
    vit_reparam,
)
from stackwise.tasks.images.task import ImagesTask
from stackwise.tasks.labelled.onnx_file import write_onnx
from stackwise.training.rules import Backprop, Rule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"rows": 96, "epochs": 1, "seeds": (0,), "layers": 4, "depths": (2,), "width": 12,
              "patch": 14, "wide": 24, "picture": 32, "batches": (1,), "repeats": 1,
              "onnx": False},
    "cpu": {"rows": None, "epochs": 10, "seeds": (0, 1, 2), "layers": 12, "depths": (6, 4, 3),
            "width": 48, "patch": 7, "wide": 192, "picture": 112, "batches": (1, 64),
            "repeats": 9, "onnx": True},
    "gpu": {"rows": None, "epochs": 100, "seeds": (0, 1, 2), "layers": 12, "depths": (6, 4, 3),
            "width": 192, "patch": 4, "wide": 192, "picture": 224, "batches": (1, 64),
            "repeats": 15, "onnx": True},
}  # fmt: skip
LEFT_OUT = {
    "smoke": "Few rows, one seed, no ONNX: this only shows that the measurement runs.",
    "cpu": "3,000 digits and 10 passes in place of ImageNet and 300; width 48 in place of 192.",
    "gpu": "MNIST digits in place of ImageNet.",
}
LOST = 1.0
"""Points of accuracy that count as maintaining it."""
GOAL = 1.37
"""How many times as fast: 37 % more pictures in the same time."""


class Watched(BranchedViTClassifier):
    """Keeps the joined network beside the merged one."""

    joined_: nn.Module

    def merged(self, network: nn.Module) -> nn.Module:
        """As ever, after a copy."""
        self.joined_ = copy.deepcopy(network).eval()
        return super().merged(network)


class NeverJoined(BranchedViTClassifier):
    """Trains the branches side by side and leaves them apart."""

    def build_rule(self, **watched: Any) -> Rule:
        """Plain learning."""
        return Backprop(**self.rule_options(), **watched)

    def merged(self, network: nn.Module) -> nn.Module:
        """Nothing is merged."""
        return network


class Case:
    """What is trained and scored with one seed."""

    def __init__(self, settings: dict[str, Any], seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.task = ImagesTask.load("mnist-5k", max_rows=settings["rows"], split_seed=seed)
        self.pixels = torch.empty(0)

    def fit(self, kind: type[BranchedViTClassifier], depth: int, branches: int = 1, **more: Any):  # type: ignore[no-untyped-def]
        """A learner of the setting's size, fitted."""
        made = kind(
            depth=depth, branches=branches, width=self.settings["width"], mlp_ratio=2.0,
            patch=self.settings["patch"], max_epochs=self.settings["epochs"], lr=2e-3,
            batch_size=64, augment="none", threads=1, random_state=self.seed, **more,
        )  # fmt: skip
        return made.fit(self.task)

    def accuracy(self, learner: Any) -> float:
        """Of the test part, in %."""
        return round(100 * self.task.judge(learner, "test").scores["accuracy"], 3)

    def inputs(self, learner: Any, rows: int = 64) -> torch.Tensor:
        """Some test pictures as the network takes them."""
        pictures, _ = self.task.part("test")
        return torch.as_tensor(learner.pixels(pictures)[:rows])


def _accuracies(settings: dict[str, Any], seed: int, note: Any) -> None:
    """Train and score every network of one seed."""
    case, layers = Case(settings, seed), settings["layers"]
    deep = case.fit(BranchedViTClassifier, layers)
    note(f"{layers} layers", case.accuracy(deep))
    for depth in settings["depths"]:
        count = layers // depth
        note(f"{depth} layers", case.accuracy(case.fit(BranchedViTClassifier, depth)))
        taught = case.fit(BranchedViTClassifier, depth, distill_from=deep)
        note(f"{depth} layers, taught", case.accuracy(taught))
        joined = case.fit(Watched, depth, count)
        note(f"{depth} x {count} merged", case.accuracy(joined))
        for dtype in (torch.float32, torch.float64):
            note(f"{depth} x {count} error {str(dtype)[6:]}", _merging_error(case, joined, dtype))
        note(f"{depth} grouping gap", grouping_gap(deep.network_, depth, case.inputs(deep)))
        shallow = vit_reparam(
            deep, case.task, depth=depth, epochs=max(settings["epochs"] // 2, 1),
            random_state=seed,
        )  # fmt: skip
        note(f"{layers} to {depth}", case.accuracy(shallow))
    depth = settings["depths"][0]
    count = layers // depth
    apart = case.fit(NeverJoined, depth, count)
    note(f"{depth} x {count} never joined", case.accuracy(apart))
    forced = merge(apart.network_, force=True)
    note(f"{depth} x {count} merged abruptly", case.accuracy(apart.with_network(forced)))


@torch.no_grad()
def _merging_error(case: Case, learner: Any, dtype: torch.dtype) -> float:
    """Largest difference of merged and joined logits, over the largest logit."""
    pixels = case.inputs(learner).to(dtype)
    joined = copy.deepcopy(learner.joined_).to(dtype)
    set_join(joined, 1.0)
    wanted = joined(pixels)
    return float((merge(joined)(pixels) - wanted).abs().max() / wanted.abs().max())


@torch.no_grad()
def _latencies(settings: dict[str, Any], seed: int, note: Any) -> None:
    """Milliseconds of a pass of 12 and of fewer layers, in turn, one thread."""
    depths = (settings["layers"], *settings["depths"])
    torch.manual_seed(seed)
    networks = {
        depth: BranchedViT(
            channels=3, image_size=settings["picture"], n_outputs=10, patch=16,
            width=settings["wide"], heads=3, depth=depth,
        ).eval()
        for depth in depths
    }  # fmt: skip
    with computing_with(1), tempfile.TemporaryDirectory() as folder:
        if settings["onnx"]:
            opened = {
                depth: _onnx(net, settings["picture"], Path(folder) / f"{depth}.onnx")
                for depth, net in networks.items()
            }
        for batch in settings["batches"]:
            x = torch.randn(batch, 3, settings["picture"], settings["picture"])
            for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
                runs = {
                    depth: _caller(copy.deepcopy(net).to(dtype), x.to(dtype))
                    for depth, net in networks.items()
                }
                _times(runs, settings["repeats"], f"{name}, batch {batch}", note)
            if settings["onnx"]:
                runs = {depth: _called(session, x) for depth, session in opened.items()}
                _times(runs, settings["repeats"], f"ONNX, batch {batch}", note)


def _caller(network: nn.Module, x: torch.Tensor) -> Any:
    return lambda: network(x)


def _onnx(network: nn.Module, side: int, path: Path) -> Any:
    """A session of onnxruntime that runs the network on one thread."""
    import onnxruntime

    write_onnx(copy.deepcopy(network), {"pixels": torch.zeros(2, 3, side, side)}, "logits", path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _called(session: Any, x: torch.Tensor) -> Any:
    given = {"pixels": x.numpy()}
    return lambda: session.run(None, given)


def _times(runs: dict[int, Any], repeats: int, name: str, note: Any) -> None:
    """Median milliseconds of each, called in turn so that a slow moment meets all."""
    seconds: dict[int, list[float]] = {depth: [] for depth in runs}
    for turn in range((repeats if "64" in name else 7 * repeats) + 1):  # few short ones are noise
        for depth, run in runs.items():
            began = time.perf_counter()
            run()
            if turn:  # the first warms up
                seconds[depth].append(time.perf_counter() - began)
    for depth, found in seconds.items():
        note(f"{name}, {depth} layers", round(1000 * median(found), 4))


def measure(scale: Scale) -> list[Claim]:
    """The claims of reparametrised vision transformers."""
    settings = SETTINGS[scale]
    accuracy: dict[str, list[float]] = {}
    latency: dict[str, list[float]] = {}
    for seed in settings["seeds"]:
        _accuracies(settings, seed, lambda name, value: accuracy.setdefault(name, []).append(value))
        _latencies(settings, seed, lambda name, value: latency.setdefault(name, []).append(value))
    return [
        *_merge_claims(accuracy, settings, scale),
        *_transform_claims(accuracy, settings, scale),
        *_latency_claims(latency, settings, scale),
    ]


def _halves(depths: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Half of the layers, and fewer."""
    return [part for part in (depths[:1], depths[1:]) if part]


def _worst(found: dict[str, list[float]], pairs: list[tuple[str, str]]) -> list[float]:
    """By seed the least difference of the left from the right, over pairs."""
    each = [[a - b for a, b in zip(found[x], found[y], strict=True)] for x, y in pairs]
    return [round(min(values), 4) for values in zip(*each, strict=True)]


def _claim(
    id: str, statement: str, differences: list[float], margin: float, numbers: dict[str, Any],
    settings: dict[str, Any], scale: Scale, why: str = "",
) -> Claim:  # fmt: skip
    verdict = judge(differences, margin=margin)
    numbers = {**numbers, "differences": differences, "margin": margin}
    explanation = LEFT_OUT[scale] if verdict == "holds" else f"{LEFT_OUT[scale]} {why}".strip()
    return Claim(id, statement, verdict, numbers, list(settings["seeds"]), explanation)


def _merge_claims(
    found: dict[str, list[float]], settings: dict[str, Any], scale: Scale
) -> list[Claim]:
    layers, depths = settings["layers"], settings["depths"]
    names = {depth: f"{depth} x {layers // depth}" for depth in depths}
    spoken = ", ".join(map(str, depths))
    accuracies = {n: v for n, v in found.items() if "error" not in n and "gap" not in n}
    errors = {n: v for n, v in found.items() if "error" in n}
    least = [
        min(
            tolerance - errors[f"{names[depth]} error {dtype}"][place]
            for depth in depths for dtype, tolerance in (("float32", 1e-4), ("float64", 1e-10))
        )
        for place in range(len(settings["seeds"]))
    ]  # fmt: skip
    first = names[depths[0]]
    return [
        _claim(
            "merge-is-exact",
            "Trained and joined branches merge to one path with the same logits: to 1e-4 in "
            "float32 and 1e-10 in float64, relative.",
            least, 0.0, errors, settings, scale,
        ),
        _claim(
            "schedule-matters",
            f"{first} branches that are joined in training beat the same branches merged abruptly "
            "by 10 points.",
            _worst(found, [(f"{first} merged", f"{first} merged abruptly")]), 10.0, accuracies,
            settings, scale,
        ),
        *(
            _claim(
                f"keeps-accuracy-{'-'.join(map(str, some))}",
                f"Merged to {' and '.join(map(str, some))} layers, a network is at most {LOST:g} "
                f"point below {layers} plain layers, at equal cost of training.",
                _worst(found, [(f"{names[d]} merged", f"{layers} layers") for d in some]), -LOST,
                accuracies, settings, scale,
                "Few digits and passes: branches that are forced to agree for a third of the "
                "training have less of it as one layer, and the more of them the worse.",
            )
            for some in _halves(depths)
        ),
        _claim(
            "beats-plain-layers",
            f"Merged to {spoken} layers, it beats plain networks of as many layers, trained for "
            "as many passes.",
            _worst(found, [(f"{names[d]} merged", f"{d} layers") for d in depths]), 0.0,
            accuracies, settings, scale,
            "Depth does not pay at this size: 6 plain layers do as well as 12, and what branches "
            "learn beside each other cannot beat that.",
        ),
    ]  # fmt: skip


def _transform_claims(
    found: dict[str, list[float]], settings: dict[str, Any], scale: Scale
) -> list[Claim]:
    layers, depths = settings["layers"], settings["depths"]
    spoken = ", ".join(map(str, depths))
    accuracies = {n: v for n, v in found.items() if "error" not in n}
    why = "Grouping moves the answers far (the gap), and half the passes do not always mend it."
    return [
        *(
            _claim(
                f"shallower-keeps-accuracy-{'-'.join(map(str, some))}",
                f"{layers} trained layers made {' and '.join(map(str, some))} by the transform "
                f"lose at most {LOST:g} point.",
                _worst(found, [(f"{layers} to {d}", f"{layers} layers") for d in some]), -LOST,
                accuracies, settings, scale, why,
            )
            for some in _halves(depths)
        ),
        _claim(
            "shallower-beats-taught",
            f"The transform beats plain networks of {spoken} layers that learn from the "
            f"{layers} layers by distillation.",
            _worst(found, [(f"{layers} to {d}", f"{d} layers, taught") for d in depths]), 0.0,
            accuracies, settings, scale,
            f"{why} The plain network costs less to train and is as fast.",
        ),
    ]  # fmt: skip


def _latency_claims(
    found: dict[str, list[float]], settings: dict[str, Any], scale: Scale
) -> list[Claim]:
    layers = settings["layers"]
    cases = sorted({name.rpartition(", ")[0] for name in found})
    ratios = {
        f"{case}: {layers} over {depth} layers": [
            round(a / b, 3)
            for a, b in zip(
                found[f"{case}, {layers} layers"], found[f"{case}, {depth} layers"], strict=True
            )
        ]
        for case in cases for depth in settings["depths"]
    }  # fmt: skip
    numbers = {"unit": "ms a pass, one thread", **found, **ratios}
    least = [min(values) for values in zip(*ratios.values(), strict=True)]
    return [
        _claim(
            "merged-is-faster",
            f"At equal width merged networks are at least {GOAL} times as fast as {layers} layers, "
            "in batches of " + " and ".join(map(str, settings["batches"])) + ", in float32, "
            "bfloat16 and ONNX.",
            least, GOAL, numbers, settings, scale,
            "One picture at a time takes milliseconds, in which other work of the machine shows.",
        )
    ]  # fmt: skip


def picture(record: dict[str, Any]) -> "Figure":
    """Latency of a pass at the width of DeiT-Tiny, 12 layers over merged ones: one picture at a
    time and 64, in PyTorch (float32 and bfloat16) and ONNX; one thread, a dot a draw.
    """
    numbers = numbers_of(record, "merged-is-faster")
    figure, axes = canvas(height=3.6)
    depths = SETTINGS[record["scale"]]["depths"]
    layers = SETTINGS[record["scale"]]["layers"]
    batches = SETTINGS[record["scale"]]["batches"]
    kinds = {"float32": BLUE, "bfloat16": ORANGE, "ONNX": GREY}
    for kind, colour in kinds.items():
        for batch, marker in zip(batches, "o^", strict=True):
            shift = 0.07 * (list(kinds).index(kind) - 1) + 0.02 * batches.index(batch)
            for depth in depths:
                ratios = numbers[f"{kind}, batch {batch}: {layers} over {depth} layers"]
                axes.scatter(
                    [depth + 2 * shift] * len(ratios), ratios, s=22, color=colour, marker=marker,
                    alpha=0.8, label=f"{kind}, batch {batch}" if depth == depths[0] else None,
                )  # fmt: skip
    axes.plot(depths, [layers / depth for depth in depths], color="black", lw=1, ls=":",
              label=f"{layers} / layers")  # fmt: skip
    axes.axhline(GOAL, color=GREY, lw=1)
    axes.annotate("1.37: the paper's 37 %", (depths[-1], GOAL), fontsize=8, va="bottom")
    axes.set_xticks(depths, [str(depth) for depth in depths])
    axes.set_xlabel("layers after merging")
    axes.set_ylabel(f"times as fast as {layers} layers")
    axes.legend(frameon=False, fontsize=8)
    return figure
