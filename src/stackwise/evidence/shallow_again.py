"""Does one broad layer do what a deep stack of as many parameters does, and can a deep one be cut?

The same residual layers, from the same first weights, one after the other and side by side: 1, 4
and 8 layers of 8 filters, 25 epochs, the last weights kept, so that validation rows choose nothing.
Then the deep stacks of 8 layers are cut at every order, and mended in 3 epochs. The test part is
scored once a network.
"""

from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.evidence.pictures import canvas, numbers_of
from stackwise.shrink.shallow_again import ShallowAgainClassifier, ShallowNet, shallow_again
from stackwise.tasks.images.task import ImagesTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"data": ("digits",), "rows": 150, "seeds": (0,), "epochs": 2, "depths": (1, 3),
              "filters": 4, "timed": 3},
    "cpu": {"data": ("digits", "mnist-5k"), "rows": 1500, "seeds": (0, 1, 2), "epochs": 25,
            "depths": (1, 4, 8), "filters": 8, "timed": 101},
    "gpu": {"data": ("digits", "mnist-5k"), "rows": None, "seeds": (0, 1, 2, 3, 4), "epochs": 60,
            "depths": (1, 4, 8, 16, 32), "filters": 32, "timed": 101},
}  # fmt: skip
LEFT_OUT = {
    "smoke": "One seed and few rows: this only shows that the measurement runs.",
    "cpu": "At most 1,500 training pictures of MNIST digits, 8 filters and 3 x 3 kernels; the "
    "paper's 6,912 networks vary filters, kernels and depth on MNIST and CIFAR-10.",
    "gpu": "No CIFAR-10, and one kernel size.",
}
MENDING = 3
JUMPS = (
    "At a constant learning rate a deep stack may end on a jump of its training loss, which the "
    "mean over seeds then shows; one that does not jump ends lower than the broad layer on digits."
)


class Bench:
    """Accuracies in per cent and losses, by data set and what was trained, a value a seed."""

    def __init__(self, scale: Scale) -> None:
        self.settings = SETTINGS[scale]
        self.accuracy: dict[str, dict[str, list[float]]] = {}
        self.train_loss: dict[str, dict[str, list[float]]] = {}
        self.cut: dict[str, list[list[float]]] = {}
        self.mended: dict[str, list[float]] = {}

    @property
    def deepest(self) -> int:
        """Layers of the stacks that are cut."""
        return min(8, int(max(self.settings["depths"])))

    def measure(self) -> None:
        """All data sets, seeds, depths and forms, and the cuts."""
        for data in self.settings["data"]:
            for seed in self.settings["seeds"]:
                task = ImagesTask.load(data, split_seed=seed, max_rows=self.settings["rows"])
                for depth in self.settings["depths"]:
                    for mode in ("sequential", "parallel"):
                        found = self._fit(task, seed, depth, mode)
                        self._add(data, f"{mode} {depth}", found, task)
                        if mode == "sequential" and depth == self.deepest:
                            self._cut(data, found, task, seed)

    def _fit(self, task: ImagesTask, seed: int, depth: int, mode: Any) -> ShallowAgainClassifier:
        return ShallowAgainClassifier(
            mode=mode, depth=depth, filters=self.settings["filters"], augment="none",
            max_epochs=self.settings["epochs"], min_steps=0, batch_size=64, patience=None,
            validation=0.0, weight_decay=0.0, threads=1, random_state=seed,
        ).fit(*task.part("train"))  # fmt: skip

    def _add(self, data: str, what: str, model: Any, task: ImagesTask) -> None:
        scores = {part: task.judge(model, part).scores for part in ("train", "test")}
        accuracy = self.accuracy.setdefault(data, {}).setdefault(what, [])
        accuracy.append(round(100 * scores["test"]["accuracy"], 3))
        loss = self.train_loss.setdefault(data, {}).setdefault(what, [])
        loss.append(round(scores["train"]["log_loss"], 6))

    def _cut(self, data: str, deep: Any, task: ImagesTask, seed: int) -> None:
        def right(model: Any) -> float:
            return round(100 * float(task.judge(model, "test").scores["accuracy"]), 3)

        orders = [right(shallow_again(deep, order=m)) for m in range(1, self.deepest + 1)]
        self.cut.setdefault(data, []).append(orders)
        mended = shallow_again(deep, task.part("train"), epochs=MENDING, random_state=seed)
        self.mended.setdefault(data, []).append(right(mended))

    def points(self, one: str, other: str) -> dict[str, list[float]]:
        """By data set, points of accuracy that one is above another, a value a seed."""
        return {
            data: [round(a - b, 3) for a, b in zip(found[one], found[other], strict=True)]
            for data, found in self.accuracy.items()
        }


def latency(filters: int, timed: int, seed: int, side: int = 28) -> dict[str, dict[str, float]]:
    """Median milliseconds of a pass of 8 layers, in turn: deep, side by side, and not fused."""
    found: dict[str, dict[str, float]] = {}
    for rows in (1, 64):
        torch.manual_seed(seed)
        pixels = torch.randn(rows, 1, side, side)
        made: dict[str, Any] = {}
        for name in ("sequential", "parallel"):
            torch.manual_seed(seed)
            made[name] = ShallowNet(
                channels=1, image_size=(side, side), n_outputs=10, depth=8, filters=filters,
                mode=name,  # type: ignore[arg-type]
            ).eval()  # fmt: skip
        made["parallel, not fused"] = shallow_again(made["sequential"], fuse=False)
        taken: dict[str, list[float]] = {name: [] for name in made}
        with torch.inference_mode():
            for _ in range(max(timed if rows == 1 else timed // 4, 3)):
                for name, network in made.items():
                    began = perf_counter()
                    network(pixels)
                    taken[name].append(1e3 * (perf_counter() - began))
        found[f"batch {rows}"] = {name: round(median(times), 4) for name, times in taken.items()}
    return found


def measure(scale: Scale) -> list[Claim]:
    """The claims of shallow-again."""
    return [claim for part in PARTS.values() for claim in part(scale)]


def measure_learning(scale: Scale) -> list[Claim]:
    """Both forms trained, and deep ones cut and mended."""
    bench = Bench(scale)
    bench.measure()
    seeds, depths = list(bench.settings["seeds"]), list(bench.settings["depths"])
    deep = [depth for depth in depths if depth > 1]
    left_out = LEFT_OUT[scale]

    gaps = {depth: bench.points(f"parallel {depth}", f"sequential {depth}") for depth in depths}
    apart = [abs(float(np.mean(values))) for found in gaps.values() for values in found.values()]
    as_good = Claim(
        "as-accurate",
        "Side by side and one after the other are within one point of test accuracy, in the mean "
        "over seeds, at every depth and on every data set.",
        judge([1.0 - gap for gap in apart]),
        {"points_by_depth": gaps, "accuracy": bench.accuracy}, seeds, left_out,
    )  # fmt: skip

    losses = bench.train_loss
    fits = [
        float(np.mean([
            np.mean([losses[data][f"parallel {depth}"][place] for data in losses])
            - np.mean([losses[data][f"sequential {depth}"][place] for data in losses])
            for depth in deep
        ]))
        for place in range(len(seeds))
    ]  # fmt: skip
    fits_better = Claim(
        "deep-fits-training-better",
        "With 4 layers or more, the deep stack ends with the lower training loss (mean over depths "
        "and data sets).",
        judge(fits), {"train_loss": losses}, seeds, f"{JUMPS} {left_out}",
    )  # fmt: skip

    whole = {data: [orders[-1] for orders in found] for data, found in bench.cut.items()}
    drop = [
        float(np.mean([whole[data][place] - bench.cut[data][place][0] for data in whole]))
        for place in range(len(seeds))
    ]
    hurts = Claim(
        "cutting-alone-hurts",
        f"A trained stack of {bench.deepest} layers that is cut after order 1, and not mended, "
        "loses at least five points.",
        judge(drop, margin=5.0), {"accuracy_by_order": bench.cut}, seeds, left_out,
    )  # fmt: skip
    rising = [
        1.0 - max(sum(b < a for a, b in pairwise(orders)) - 1, 0)
        for found in bench.cut.values() for orders in found
    ]  # fmt: skip
    rises = Claim(
        "accuracy-rises-with-the-order",
        "Accuracy rises with the order up to the deep stack's, with one exception at most.",
        judge(rising), {"accuracy_by_order": bench.cut}, seeds, left_out,
    )  # fmt: skip
    mends = [
        1.0 - float(np.mean([whole[data][place] - bench.mended[data][place] for data in whole]))
        for place in range(len(seeds))
    ]
    mended = Claim(
        "three-epochs-mend-it",
        f"{MENDING} epochs on labels and on the deep model's answers bring the cut stack back to "
        "within one point.",
        judge(mends), {"mended": bench.mended, "deep": whole}, seeds, left_out,
    )  # fmt: skip
    return [as_good, fits_better, hurts, rises, mended]


def measure_time(scale: Scale) -> list[Claim]:
    """What a pass takes."""
    settings = SETTINGS[scale]
    times = {
        seed: latency(settings["filters"], settings["timed"], seed) for seed in settings["seeds"]
    }
    won = [found["batch 1"]["sequential"] / found["batch 1"]["parallel"] - 1
           for found in times.values()]  # fmt: skip
    return [
        Claim(
            "faster-one-by-one",
            "Side by side, as one convolution, a picture takes less time than through the deep "
            "stack (8 layers, one thread, batch 1).",
            judge(won), {"milliseconds_by_seed": {str(s): found for s, found in times.items()}},
            list(settings["seeds"]),
            "Medians of passes in turn, on one machine. " + LEFT_OUT[scale],
        )
    ]  # fmt: skip


PARTS = {"learning": measure_learning, "time": measure_time}


def picture(record: dict[str, Any]) -> "Figure":
    """Test accuracy of trained deep stacks that are cut after each order, untrained (lines, one a
    seed) and mended by three epochs after order 1 (crosses).
    """
    cut = numbers_of(record, "cutting-alone-hurts")["accuracy_by_order"]
    mended = numbers_of(record, "three-epochs-mend-it")["mended"]
    figure, axes = canvas()
    for place, (data, seeds) in enumerate(cut.items()):
        colour = f"C{place}"
        for number, orders in enumerate(seeds):
            axes.plot(
                range(1, len(orders) + 1), orders, color=colour, marker="o", markersize=3,
                linewidth=1, label=data if number == 0 else None,
            )  # fmt: skip
        axes.plot([1] * len(mended[data]), mended[data], "x", color=colour)
    axes.set_xlabel("order of the expansion that is kept")
    axes.set_ylabel("test accuracy, %")
    axes.legend(frameon=False)
    return figure
