"""Do machines as the last layer do as well as a softmax, and what does deciding by the sign cost?

One small network (two blocks of 3 x 3 convolutions, 128 hidden units) with each head, on the same
rows, from the same seed, for as many epochs; the last weights are kept, so that validation rows
choose nothing. The same scores are also decided as the paper's public code does it: the first class
whose sign is positive. Beside them stand support vector machines on the pixels, whose C is chosen
on validation rows.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.svm import SVC, LinearSVC

from stackwise.build.cnn_svm import CNNSVMClassifier
from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.evidence.pictures import dots, numbers_of
from stackwise.tasks.images.task import ImagesTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COSTS = (0.01, 0.1, 1.0, 10.0, 100.0)
SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"data": ("digits",), "rows": 200, "seeds": (0,), "epochs": 2, "costs": (1.0,),
              "network": {"channels": [4, 8], "kernel_size": 3, "hidden": 16}},
    "cpu": {"data": ("digits", "mnist-5k"), "rows": None, "seeds": (0, 1, 2), "epochs": 25,
            "costs": COSTS, "network": {"channels": [16, 32], "kernel_size": 3, "hidden": 128}},
    "gpu": {"data": ("digits", "mnist-5k"), "rows": None, "seeds": (0, 1, 2, 3, 4), "epochs": 400,
            "costs": COSTS, "network": {"channels": [32, 64], "kernel_size": 5, "hidden": 1024}},
}  # fmt: skip
LEFT_OUT = {
    "smoke": "One seed and few rows: this only shows that the measurement runs.",
    "cpu": "A third of the paper's widths with 3 x 3 kernels, 25 epochs, 5,000 pictures of MNIST "
    "and no Fashion-MNIST; C = 1 as in the paper, not searched.",
    "gpu": "5,000 pictures of MNIST and no Fashion-MNIST.",
}
HEADS: dict[str, dict[str, Any]] = {
    "softmax": {"head": "softmax"},
    "L2 margins": {"head": "svm-l2"},
    "L2 margins, sum": {"head": "svm-l2", "reduction": "sum"},
    "L1 margins": {"head": "svm-l1"},
    "L2 afterwards": {"head": "svm-l2", "fit_head": "posthoc"},
}


def first_positive(scores: np.ndarray) -> np.ndarray:
    """(n,) places of the decision argmax_c sign(s_c): ties go to the first class."""
    return np.sign(scores).argmax(1)


class Bench:
    """Test accuracy in per cent, by data set and by what decides, a value a seed."""

    def __init__(self, scale: Scale) -> None:
        self.settings = SETTINGS[scale]
        self.accuracy: dict[str, dict[str, list[float]]] = {}
        self.unclear: dict[str, list[float]] = {}

    def measure(self) -> None:
        """All data sets, seeds and heads."""
        for data in self.settings["data"]:
            for seed in self.settings["seeds"]:
                task = ImagesTask.load(data, split_seed=seed, max_rows=self.settings["rows"])
                self._heads(data, task, seed)
                self._pixels(data, task)

    def _heads(self, data: str, task: ImagesTask, seed: int) -> None:
        X, y = task.part("test")
        for what, knobs in HEADS.items():
            model = CNNSVMClassifier(
                **self.settings["network"], **knobs, max_epochs=self.settings["epochs"],
                min_steps=0, batch_size=64, patience=None, augment="none", validation=0.0,
                random_state=seed,
            ).fit(*task.part("train"))  # fmt: skip
            self._add(data, what, model.predict(X), y)
            if hasattr(model, "decision_function"):
                scores = model.decision_function(X)
                self._add(data, f"{what}, by sign", model.classes_[first_positive(scores)], y)
                if what == "L2 margins":
                    share = float(((scores > 0).sum(1) != 1).mean())
                    self.unclear.setdefault(data, []).append(round(100 * share, 2))

    def _pixels(self, data: str, task: ImagesTask) -> None:
        def flat(part: Any) -> tuple[np.ndarray, np.ndarray]:
            X, y = task.part(part)
            return np.asarray(X[np.arange(len(X))]).reshape(len(X), -1) / 255.0, y

        (X, y), held, (Z, z) = flat("train"), flat("validation"), flat("test")
        made = {"linear SVC on pixels": LinearSVC, "SVC (RBF) on pixels": SVC}
        for what, of in made.items():
            fits = [of(C=C, random_state=0).fit(X, y) for C in self.settings["costs"]]
            self._add(data, what, max(fits, key=lambda fit: fit.score(*held)).predict(Z), z)

    def _add(self, data: str, what: str, said: np.ndarray, truth: np.ndarray) -> None:
        right = 100 * float((said == truth).mean())
        self.accuracy.setdefault(data, {}).setdefault(what, []).append(round(right, 3))

    def gains(self, one: str, other: str) -> dict[str, list[float]]:
        """By data set, points of accuracy that one is above another, a value a seed."""
        return {
            data: [round(a - b, 3) for a, b in zip(found[one], found[other], strict=True)]
            for data, found in self.accuracy.items()
        }


def measure(scale: Scale) -> list[Claim]:
    """The claims of CNN-SVM."""
    bench = Bench(scale)
    bench.measure()
    seeds = list(bench.settings["seeds"])

    def claim(
        id: str, statement: str, one: str, other: str, margin: float = 0.0, note: str = "",
        **more: Any,
    ) -> Claim:  # fmt: skip
        gains = bench.gains(one, other)
        values = [float(np.mean(of_seed)) for of_seed in zip(*gains.values(), strict=True)]
        return Claim(
            id, statement, judge(values, margin=margin),
            {"points_by_seed": gains} | more, seeds, f"{note} {LEFT_OUT[scale]}".strip(),
        )  # fmt: skip

    between = bench.gains("L2 margins", "softmax")
    apart = [abs(float(np.mean(of_seed))) for of_seed in between.values()]
    equal = Claim(
        "as-good-as-softmax",
        "Squared-hinge machines, decided by the margin, are within one point of a softmax in the "
        "mean over seeds, on every data set.",
        judge([1.0 - gap for gap in apart]),
        {"points_by_seed": between, "mean_accuracy": _means(bench)}, seeds, LEFT_OUT[scale],
    )  # fmt: skip
    return [
        equal,
        claim("margin-beats-sign", "Deciding by the margin is at least one point better than by "
              "the sign, as the paper's code has it, from the same scores.",
              "L2 margins", "L2 margins, by sign", 1.0,
              per_cent_without_exactly_one_positive=bench.unclear),
        claim("softmax-beats-machines", "The paper's finding: softmax is ahead of machines (here "
              "decided by the margin).", "softmax", "L2 margins"),
        claim("squared-beats-plain-hinge", "The squared hinge is better than the plain hinge.",
              "L2 margins", "L1 margins"),
        claim("together-beats-afterwards", "Machines that learn with the network are better than "
              "machines put on the features of a softmax network.", "L2 margins", "L2 afterwards"),
        claim("sum-beats-mean", "With the sum in place of the mean, so that C = 1 is "
              "scikit-learn's, machines are better.", "L2 margins, sum", "L2 margins",
              note="Differences are of the size that seeds make. The mean at C is the sum at "
              "C d / (2 n): a heavier weight on the norm."),
        claim("better-than-machines-on-pixels", "They are better than an SVC with RBF kernel on "
              "the pixels, its C chosen on validation rows.", "L2 margins", "SVC (RBF) on pixels"),
    ]  # fmt: skip


def _means(bench: Bench) -> dict[str, dict[str, float]]:
    return {
        data: {what: round(float(np.mean(values)), 2) for what, values in found.items()}
        for data, found in bench.accuracy.items()
    }


def picture(record: dict[str, Any]) -> "Figure":
    """Test errors (mean of three seeds) of one network by its head and by how it decides; further
    left is better. Deciding by the sign throws away which positive margin is larger.
    """
    means = numbers_of(record, "as-good-as-softmax")["mean_accuracy"]
    names = {
        "softmax": "softmax", "L2 margins": "L2 machines, margin",
        "L2 margins, by sign": "L2 machines, sign", "L1 margins": "L1 machines, margin",
        "L2 afterwards": "L2 machines afterwards", "SVC (RBF) on pixels": "SVC on pixels",
    }  # fmt: skip
    shown = {
        words: {data: [100 - found[what]] for data, found in means.items()}
        for what, words in names.items()
    }
    return dots(shown, label="test errors, %")
