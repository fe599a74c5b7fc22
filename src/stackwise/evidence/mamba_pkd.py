"""What does a chain of small Mambas give for a share of its teacher's cost?

Digits as 28 rows of 28 numbers. A teacher of two blocks; seven students of one block, whose costs
grow from 1 % of the teacher's to 63 % together; the same students distilled each by itself, their
logits averaged; and one student of ordinary distillation at the cost of the seven. All students
have the same passes over the same digits. The test part is scored once a network.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.evidence.pictures import BLUE, GREY, ORANGE, canvas, numbers_of
from stackwise.shrink.mamba_pkd import MambaClassifier, mamba_pkd
from stackwise.tasks.images.task import ImagesTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"rows": 60, "seeds": (0,), "students": 2, "epochs": 1, "taught": 1, "width": 12,
              "state": 2, "modes": ()},
    "cpu": {"rows": None, "seeds": (0, 1, 2), "students": 7, "epochs": 6, "taught": 10,
            "width": 64, "state": 8, "modes": ("regress", "boosted")},
    "gpu": {"rows": None, "seeds": (0, 1, 2), "students": 7, "epochs": 40, "taught": 60,
            "width": 64, "state": 16, "modes": ("regress", "boosted")},
}  # fmt: skip
LEFT_OUT = {
    "smoke": "Few rows, two students and one seed: this only shows that the measurement runs.",
    "cpu": "3,000 digits of MNIST in place of 60,000, and no CIFAR-10; the modes regress and "
    "boosted with one seed.",
    "gpu": "3,000 digits of MNIST in place of 60,000, and no CIFAR-10.",
}
DIP = 0.3
"""Points by which accuracy may fall from one student to the next and still count as rising."""
NEAR = 1.0
"""Points below the teacher that the paper's chain loses at most on CIFAR-10; on MNIST none."""
WEAK = 72.0
"""Per cent that the paper's weakest student reaches on MNIST at 1 % of the teacher's cost."""


def measure(scale: Scale) -> list[Claim]:
    """The claims of progressive distillation with Mambas."""
    settings = SETTINGS[scale]
    found: dict[str, list[Any]] = {}

    def note(name: str, value: Any) -> None:
        found.setdefault(name, []).append(value)

    for seed in settings["seeds"]:
        _one_seed(settings, seed, note)
    return _claims(found, settings, scale)


def _one_seed(settings: dict[str, Any], seed: int, note: Any) -> None:
    task = ImagesTask.load("mnist-5k", max_rows=settings["rows"], split_seed=seed)
    X, y = task.part("test")

    def accuracy(labels: np.ndarray) -> float:
        return round(100 * float(np.mean(labels == y)), 2)

    shared: dict[str, Any] = {"d_state": settings["state"], "threads": 1, "random_state": seed}
    teacher = MambaClassifier(
        width=settings["width"], augment="none", max_epochs=settings["taught"], **shared
    )
    task.fit(teacher)
    note("teacher", accuracy(teacher.predict(X)))

    def taught(mode: Any) -> Any:
        return mamba_pkd(
            teacher, task, students=settings["students"], mode=mode, epochs=settings["epochs"],
            lr=5e-3, weight_decay=0.01, **shared,
        )  # fmt: skip

    chain = taught("residual")
    note("cost of each student", [round(cost, 4) for cost in chain.chain_.costs()])
    note("chain", [accuracy(labels) for labels in chain.staged_predict(X)])
    alone = taught("independent")
    note("independent, averaged", [accuracy(labels) for labels in alone.staged_predict(X)])
    classic = taught("classic")
    note("classic", accuracy(classic.predict(X)))
    note("cost of classic", round(classic.cost() / chain.chain_.reference, 4))
    for mode in settings["modes"] if seed == settings["seeds"][0] else ():
        note(mode, [accuracy(labels) for labels in taught(mode).staged_predict(X)])
    _adaptive(chain, X, accuracy, note)


def _adaptive(chain: Any, X: Any, accuracy: Any, note: Any) -> None:
    """Pictures that stop when they are sure, at the cost that they took."""
    labels, used = chain.predict_adaptive(X, 0.95)
    costs = np.cumsum(chain.chain_.costs())
    note("adaptive", accuracy(labels))
    note("cost of adaptive", round(float(costs[used - 1].mean()), 4))


def _claims(found: dict[str, list[Any]], settings: dict[str, Any], scale: Scale) -> list[Claim]:
    seeds = list(settings["seeds"])
    chain = [list(map(float, stages)) for stages in found["chain"]]
    last = [stages[-1] for stages in chain]
    alone = [stages[-1] for stages in found["independent, averaged"]]

    def claim(
        id: str, statement: str, differences: list[float], margin: float, why: str = ""
    ) -> Claim:
        verdict = judge(differences, margin=margin)
        numbers = {
            "unit": "test accuracy in %; costs as shares of the teacher's multiply-adds", **found,
            "differences": [round(value, 3) for value in differences], "margin": margin,
        }  # fmt: skip
        left_out = LEFT_OUT[scale] if verdict == "holds" else f"{LEFT_OUT[scale]} {why}".strip()
        return Claim(id, statement, verdict, numbers, seeds, left_out)

    rises = [min(np.diff(stages), default=0.0) for stages in chain]
    against = [a - b for a, b in zip(last, found["classic"], strict=True)]
    return [
        claim("accuracy-rises",
              "Accuracy rises with each student that is added (dips of 0.3 points allowed).",
              rises, -DIP, "A chain that has learned what it can no longer rises evenly."),
        claim("as-good-as-the-teacher",
              f"The students together are at most {NEAR:g} point below the teacher.",
              [a - b for a, b in zip(last, found["teacher"], strict=True)], -NEAR,
              "Students of one block and few numbers add up to less than a network of the same "
              "cost; more passes a student help."),
        claim("weakest-student",
              f"The weakest student, at 1 % of the teacher's cost, reaches {WEAK:g} %.",
              [stages[0] for stages in chain], WEAK,
              "It has four numbers a token and sees 3,000 digits a few times."),
        claim("beats-independent",
              "The chain beats the same students, distilled each by itself and averaged.",
              [a - b for a, b in zip(last, alone, strict=True)], 0.0),
        claim("beats-classic",
              "The chain beats one student of ordinary distillation at the same cost, in training "
              "and in use.",
              against, 0.0,
              "One network of the whole cost learns more than its parts: what the chain has over "
              "it is that every prefix answers, not that it compresses better."),
    ]  # fmt: skip


def picture(record: dict[str, Any]) -> "Figure":
    """Accuracy by the share of the teacher's multiply-adds that is spent: each prefix of the chain,
    the same students distilled apart, one student of ordinary distillation, and pictures that stop
    when they are sure; mean and range of three seeds.
    """
    numbers = numbers_of(record, "accuracy-rises")
    costs = 100 * np.cumsum(np.mean(numbers["cost of each student"], axis=0))
    figure, axes = canvas()
    for name, colour, words in (
        ("chain", BLUE, "the chain"),
        ("independent, averaged", ORANGE, "distilled apart, averaged"),
    ):
        found = np.array(numbers[name])
        axes.plot(costs, found.mean(0), "o-", color=colour, lw=1.6, ms=4, label=words)
        axes.fill_between(costs, found.min(0), found.max(0), color=colour, alpha=0.15, lw=0)
    for name, marker, words in (
        ("classic", "s", "one student of the cost of all"),
        ("adaptive", "*", "stopping when sure"),
    ):
        at = 100 * float(np.mean(numbers[f"cost of {name}"]))
        axes.scatter([at] * len(numbers[name]), numbers[name], marker=marker, s=36,
                     color=GREY if name == "classic" else BLUE, label=words, zorder=3)  # fmt: skip
    axes.axhline(np.mean(numbers["teacher"]), color="black", lw=1, ls=":", label="the teacher")
    axes.set_xscale("log")
    ticks = [1, 3, 10, 30, 63]
    axes.set_xticks(ticks, [f"{tick} %" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("multiply-adds, as a share of the teacher's")
    axes.set_ylabel("test accuracy, in %")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure
