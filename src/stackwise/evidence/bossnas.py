"""Do block-wise ratings without labels rank networks as they rank when trained alone?

Digits (1,797 pictures of 8 x 8; 40 % of them are for the test). Truth: random architectures of a
space, each trained alone over two seeds, by test accuracy. The ceiling comes first: how well one
seed of the truth ranks the other. No rating can be trusted to do better.

    A   widths 2, 4, 8, 16 of four convolutions, in two blocks: 256 networks
    B   four operations of one width at four layers, in two blocks: 256 networks

Every search trains four paths a step for as many steps in all, of the same learning rate; the
one-shot rival trains whole paths, so that a step of it costs more. Parameters, multiply-adds and
two scores without training rank beside them. Searches see training pictures and, to rate,
validation pictures; test pictures score the truth alone.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.evidence.pictures import BLUE, GREY, ORANGE, canvas, numbers_of
from stackwise.tasks.images.task import ImagesTask
from stackwise.train.bossnas import BossNAS
from stackwise.train.bossnas.outcomes.peers import (
    OneShotRule,
    SuperNetwork,
    naswot,
    one_shot_ratings,
    synflow,
)
from stackwise.train.bossnas.outcomes.truth import Truths, agreement, different, opponents, truth_of
from stackwise.train.bossnas.spaces.space import Architecture
from stackwise.training.loop import train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPACES: dict[str, dict[str, Any]] = {
    "A": {"space": "size", "widths": (2, 4, 8, 16), "blocks": 2, "layers": 2},
    "B": {"space": "operations", "width": 8, "blocks": 2, "layers": 2},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"rows": 120, "seeds": (0,), "networks": 3, "epochs": 1, "truth": 1, "top": 1,
              "spaces": {"A": SPACES["A"] | {"widths": (2, 4), "layers": 1}},
              "hidden": 16, "projection": 8},
    "cpu": {"rows": None, "seeds": (0, 1, 2), "networks": 12, "epochs": 20, "truth": 16, "top": 3,
            "spaces": SPACES, "hidden": 128, "projection": 64},
    "gpu": {"rows": None, "seeds": (0, 1, 2), "networks": 40, "epochs": 60, "truth": 40, "top": 5,
            "spaces": SPACES | {"HyTra": {"space": "hytra", "width": 8, "blocks": 2, "layers": 4}},
            "hidden": 4096, "projection": 256},
}  # fmt: skip
LEFT_OUT = {
    "smoke": "One seed and few rows: this only shows that the measurement runs.",
    "cpu": "8 x 8 digits, 12 networks of 16 epochs, 20 epochs of 11 steps a block, the paper "
    "has 20 to 30 epochs of ImageNet or CIFAR, projections of 64; no HyTra, no blocks apart, and "
    "in space B no blocks that learn labels. The number of epochs of a block and its learning rate "
    "were set after a look at the first seed of space A, whose truth uses test pictures: read the "
    "other seeds and space B as the measurement.",
    "gpu": "8 x 8 digits, not ImageNet or CIFAR.",
}
SEARCHED: dict[str, dict[str, tuple[str, ...]]] = {
    "smoke": {"A": ("ensemble", "plain", "supervised", "apart")},
    "cpu": {"A": ("ensemble", "plain", "supervised", "short"), "B": ("ensemble", "plain")},
    "gpu": dict.fromkeys(("A", "B", "HyTra"), ("ensemble", "plain", "supervised", "apart")),
}
SEARCHES: dict[str, dict[str, Any]] = {
    "ensemble": {},
    "plain": {"objective": "plain"},
    "supervised": {"objective": "supervised"},
    "apart": {"order": "apart"},
    "short": {"max_epochs": 4},
}
BATCH, LR, TRUTH_LR, TRUTH_SEEDS = 64, 2e-3, 5e-3, 2


class Bench:
    """Everything that is measured of one space.

    Attributes:
        table: ranking -> Spearman's correlation with the truth, a value a seed, or one alone.
        ceiling: of the truth, between its seeds. seconds: of each ranking, a value a seed.
        tops: the mean truth of the best by rating less the median of random ones, by seed.
        points: rating and accuracy of each random network, of the first seed.
    """

    def __init__(self, scale: Scale, name: str) -> None:
        self.name, self.settings = name, SETTINGS[scale]
        self.searches: tuple[str, ...] = SEARCHED[scale][name]
        self.knobs = self.settings["spaces"][name]
        self.task = ImagesTask.load("digits", test=0.4, max_rows=self.settings["rows"])
        self.table: dict[str, list[float]] = {}
        self.other: dict[str, list[float]] = {}
        self.seconds: dict[str, list[float]] = {}
        self.tops: list[float] = []
        self.points: dict[str, list[float]] = {}
        self.ceiling = 0.0
        self.truth = np.zeros((0, TRUTH_SEEDS))

    def measure(self) -> None:
        """The truth first, then every ranking over every seed."""
        first = self._search("ensemble", 0)
        space = first._space()
        chosen = different(space, self.settings["networks"], 0)
        self.truth = self._trained(first, chosen, TRUTH_SEEDS)
        self._rank("parameters", 0.0, opponents(space, chosen, 10)["parameters"])
        self._rank("multiply-adds", 0.0, opponents(space, chosen, 10)["multiply-adds"])
        pixels = first.pixels(self.task.part("train")[0])[slice(0, BATCH)]
        for seed in self.settings["seeds"]:

            def alike(a: Architecture, seed: int = seed) -> float:
                return naswot(space, a, {"pixels": pixels}, seed)

            def flow(a: Architecture, seed: int = seed) -> float:
                return synflow(space, a, seed)

            self._timed("naswot", chosen, alike)
            self._timed("synflow", chosen, flow)
            for name in self.searches:
                found = first if (name, seed) == ("ensemble", 0) else self._search(name, seed)
                self._rank(name, self.seconds[name][-1] if self.seconds.get(name) else 0.0,
                           [found.rate(one) for one in chosen], timed=True)  # fmt: skip
                if name == "ensemble":
                    if self.name == "A":
                        self._top(found)
                    if seed == self.settings["seeds"][0]:
                        self.points = {"rating": [round(found.rate(a), 4) for a in chosen],
                                       "accuracy": self._accuracy()}  # fmt: skip
            self._one_shot(first, chosen, seed)

    def _accuracy(self) -> list[float]:
        return [round(100 * float(a), 2) for a in self.truth.mean(1)]

    def _search(self, name: str, seed: int) -> BossNAS:
        settings = self.settings
        began = time.process_time()
        learner = BossNAS(
            **{"max_epochs": settings["epochs"]} | self.knobs | SEARCHES[name], min_steps=0,
            lr=LR, batch_size=BATCH, projection=settings["projection"], hidden=settings["hidden"],
            threads=1, random_state=seed,
        )  # fmt: skip
        self.task.fit(learner)
        self.seconds.setdefault(name, []).append(round(time.process_time() - began, 2))
        return learner

    def _trained(self, model: BossNAS, chosen: list[Architecture], seeds: int) -> np.ndarray:
        """Test accuracies of networks that are trained alone."""
        wanted = [(one, seed) for one in chosen for seed in range(seeds)]
        truths = Truths(
            names=[str(i) for i in range(len(wanted))], model=model, data=self.task, wanted=wanted,
            part="test", batch_size=BATCH,
            recipe={"epochs": self.settings["truth"], "lr": TRUTH_LR, "weight_decay": 5e-4},
        )  # fmt: skip
        return truth_of(truths, seeds)

    def _rank(self, name: str, seconds: float, values: list[float], *, timed: bool = False) -> None:
        found = agreement(self.truth, {name: values})
        self.ceiling = round(float(found["spearman"].iloc[0]), 4)
        self.table.setdefault(name, []).append(round(float(found.loc[name, "spearman"]), 4))
        self.other.setdefault(name, []).append(round(float(found.loc[name, "kendall"]), 4))
        if not timed:
            self.seconds.setdefault(name, []).append(round(seconds, 2))

    def _timed(
        self, name: str, chosen: list[Architecture], score: Callable[[Architecture], float]
    ) -> None:
        began = time.process_time()
        values = [score(one) for one in chosen]
        self._rank(name, time.process_time() - began, values)

    def _top(self, found: BossNAS) -> None:
        """The best by rating, trained as the truth is."""
        best = self._trained(found, found.top(self.settings["top"]), 1)
        gain = 100 * (float(best.mean()) - float(np.median(self.truth[:, 0])))
        self.tops.append(round(gain, 3))

    def _one_shot(self, model: BossNAS, chosen: list[Architecture], seed: int) -> None:
        """The rival that trains one supernet for all blocks, with labels."""
        began = time.process_time()
        space = model._space()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = SuperNetwork(space, 10)
        joined = model.trainable(self.task, batch_size=BATCH, seed=seed)
        rule = OneShotRule(["pixels"], 4, seed, lr=LR, schedule="cosine", warmup=0.1)
        epochs = self.settings["epochs"] * len(space.depths)  # as many steps as all blocks together
        made: Any = train(network, rule, joined.batches, max_epochs=epochs, seed=seed).model
        few = model.pixels(self.task.part("train")[0])[slice(0, 256)]
        X, y = self.task.part("validation")
        target = torch.as_tensor(model._encode(y))
        held = {"pixels": model.pixels(X)[slice(None)]}
        ratings = one_shot_ratings(made, chosen, {"pixels": few}, held, target)
        self._rank("one-shot", time.process_time() - began, ratings)

    def numbers(self) -> dict[str, Any]:
        """All of it, for a claim."""
        return {
            "spearman": self.table, "kendall": self.other, "ceiling_spearman": self.ceiling,
            "processor_seconds": self.seconds, "accuracy_of_random_networks": self._accuracy(),
            "points": self.points,
        }  # fmt: skip


def measure(scale: Scale) -> list[Claim]:
    """The claims of BossNAS."""
    settings = SETTINGS[scale]
    seeds = list(settings["seeds"])
    benches = {name: Bench(scale, name) for name in settings["spaces"]}
    for bench in benches.values():
        bench.measure()
    claims = []

    def claim(
        id: str, statement: str, differences: list[float], numbers: dict[str, Any], note: str = ""
    ) -> None:
        verdict = judge(differences) if scale != "smoke" else "not testable at this scale"
        more = {"difference_by_seed": [round(one, 4) for one in differences]} | numbers
        claims.append(
            Claim(id, statement, verdict, more, seeds, f"{note} {LEFT_OUT[scale]}".strip())
        )

    for name, bench in benches.items():
        t, low = bench.table, name.lower()

        def ahead(one: str, other: str, t: dict[str, list[float]] = t) -> list[float]:
            rivals = t[other] * len(t[one]) if len(t[other]) == 1 else t[other]
            return [a - b for a, b in zip(t[one], rivals, strict=True)]

        both = {"ensemble": t["ensemble"]}
        claim(f"noise-ceiling-{low}", f"Space {name}: the truth ranks itself from one seed to "
              "another with Spearman's correlation above 0.7.", [bench.ceiling - 0.7],
              bench.numbers())  # fmt: skip
        claim(f"ensemble-beats-plain-{low}", f"Space {name}: paths that chase their common average "
              "are ranked better than paths that chase each its own teacher.",
              ahead("ensemble", "plain"), both | {"plain": t["plain"]})  # fmt: skip
        claim(f"ranks-{low}", f"Space {name}: Spearman's correlation of ratings with the truth is "
              "at least 0.4.", [one - 0.4 for one in t["ensemble"]], both)  # fmt: skip
        for rival, words in (
            ("parameters", "the number of parameters"), ("multiply-adds", "multiply-adds"),
            ("naswot", "NASWOT"), ("synflow", "SynFlow"),
            ("supervised", "the same blocks trained with labels"),
            ("one-shot", "one supernet trained with labels, of as many steps"),
        ):  # fmt: skip
            if rival not in t:
                continue
            claim(f"beats-{rival}-{low}", f"Space {name}: ratings rank better than {words}.",
                  ahead("ensemble", rival), both | {rival: t[rival]})  # fmt: skip
        if "short" in t:
            claim(f"steps-count-{low}", f"Space {name}: a search of a fifth of the steps ranks "
                  "worse.", ahead("ensemble", "short"), both | {"short": t["short"]},
                  "Not in the paper: after few steps all paths say nearly the same.")  # fmt: skip
        if "apart" in t:
            claim(f"apart-is-as-good-{low}", f"Space {name}: blocks that are searched apart rank "
                  "at most 0.1 worse than blocks behind one another.",
                  [d + 0.1 for d in ahead("apart", "ensemble")], both | {"apart": t["apart"]},
                  "Not in the paper.")  # fmt: skip
        if bench.tops:
            claim(f"top-beats-median-{low}", f"Space {name}: the best {settings['top']} by "
                  "rating, trained, are better than the median of random networks.", bench.tops,
                  {"points_by_seed": bench.tops}, "Test accuracy in points.")  # fmt: skip
    return claims


def picture(record: dict[str, Any]) -> "Figure":
    """Ratings of random networks (less is better) against what they reach when trained alone: space
    A, widths, in blue; space B, operations of one width, in orange; the search of the first seed.
    """
    figure, axes = canvas()
    for name, colour in (("a", BLUE), ("b", ORANGE)):
        found = numbers_of(record, f"noise-ceiling-{name}")["points"]
        axes.scatter(found["rating"], found["accuracy"], s=24, color=colour, alpha=0.8,
                     label=f"space {name.upper()}")  # fmt: skip
    axes.axvline(0, color=GREY, lw=0)
    axes.set_xlabel("rating (less is better)")
    axes.set_ylabel("test accuracy trained alone (%)")
    axes.legend(frameon=False, fontsize=8)
    return figure
