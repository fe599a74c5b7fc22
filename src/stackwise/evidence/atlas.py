"""Do learned coefficients mix fine-tuned models better than one number for all of them?

MNIST digits at 14 x 14 in eight renderings: plain, turned, mirrored, inverted, moved, transposed.
A small MLP learns a little of all; a donor a rendering goes on from it, its head frozen. Each seed
parts the pictures anew: those that the base learned from, those of the donors, few from which
coefficients learn, as many that choose (the learning rate on the first seed, the epoch in each),
and test pictures, on which a model is scored once. Every baseline has the same pictures, steps and
choices.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from stackwise.adapt.atlas import atlas, coefficients_of
from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.evidence.pictures import numbers_of
from stackwise.evidence.rendered_digits import Reader, Rows, World, renderings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"seeds": (0,), "width": 16, "base": 160, "donor": 160, "few": 40, "test": 200,
              "epochs": 2, "steps": 4, "lrs": (0.1,), "targets": 1, "shots": (1, 4), "parts": 4},
    "cpu": {"seeds": (0, 1, 2), "width": 128, "base": 1000, "donor": 1000, "few": 250,
            "test": 1500, "epochs": 20, "steps": 100, "lrs": (0.03, 0.1, 0.3), "targets": 2,
            "shots": (1, 16), "parts": 20},
    "gpu": {"seeds": (0, 1, 2, 3, 4), "width": 1024, "base": 1000, "donor": 2000, "few": 250,
            "test": 1500, "epochs": 60, "steps": 400, "lrs": (0.01, 0.03, 0.1, 0.3), "targets": 8,
            "shots": (1, 2, 4, 8, 16), "parts": 80},
}  # fmt: skip
LEFT_OUT = {
    "smoke": "Dozens of pictures and one seed: this only shows that the measurement runs.",
    "cpu": "A small MLP on digits in eight renderings in place of CLIP encoders on 22 data sets.",
    "gpu": "An MLP on digits in eight renderings in place of CLIP encoders on 22 data sets.",
}
TARGETS = ("vertical", "transposed", "inverted", "left", "right", "horizontal", "moved", "plain")
"""In the order in which they are taken for new work."""
CONTROL = "plain"
UNLABELLED_LR = 1e-3
"""That of the authors' code; nothing may choose it."""
TUNING = (1e-4, 1e-3, 1e-2)
"""Learning rates among which fine-tuning chooses."""


class Bench:
    """Numbers by what was measured and how, a value a seed."""

    def __init__(self, scale: Scale) -> None:
        self.settings = SETTINGS[scale]
        self.seeds = list(self.settings["seeds"])
        self.found: dict[str, dict[str, list[float]]] = {}
        self.chosen: dict[str, float] = {}
        self.tables: list[Any] = []
        self.open: dict[tuple[str, str], list[float]] = {}

    def note(self, what: str, how: str, value: float) -> None:
        """Keep a number."""
        self.found.setdefault(what, {}).setdefault(how, []).append(round(value, 3))

    def choose(
        self, what: str, make: Callable[[float], nn.Module], score: Callable[[nn.Module], float],
        lrs: tuple[float, ...],
    ) -> nn.Module:  # fmt: skip
        """The network of the learning rate that is best on the pictures that choose; chosen on the
        first seed, it stays.
        """
        if what in self.chosen:
            return make(self.chosen[what])
        tried = {lr: make(lr) for lr in lrs}
        self.chosen[what] = max(tried, key=lambda lr: score(tried[lr]))
        return tried[self.chosen[what]]

    def measure(self) -> None:
        """Every seed."""
        for seed in self.seeds:
            world = World(seed, self.settings)
            self.addition(world)
            for name in TARGETS[: self.settings["targets"]]:
                self.few_shots(world, name)
                self.without_labels(world, name)
                if name != CONTROL:
                    self.negation(world, name)
            self.close()

    def each(self, what: str, how: str, value: float) -> None:
        """Keep a number of one rendering: the mean over renderings is the seed's."""
        self.open.setdefault((what, how), []).append(value)

    def close(self) -> None:
        """Note the means of a seed."""
        for (what, how), values in self.open.items():
            self.note(what, how, float(np.mean(values)))
        self.open.clear()

    def addition(self, world: World) -> None:
        """One model for all renderings."""
        names = list(renderings())
        rows = [world.rows(name) for name in names]
        lrs = self.settings["lrs"]
        together = partial(world.scaled, rows[0], world.donors, control=rows[1:])

        def held(network: nn.Module) -> float:
            return float(np.mean([world.held(network, name) for name in names]))

        both = Rows(*(torch.cat(parts) for parts in zip(*(vars(r).values() for r in rows))))
        search = Reader(world.base, world.seed)
        donors: Any = world.donors
        searched: Reader = atlas(search, both, donors=donors, alpha="search")
        self.note("addition", "base", world.mean(world.base))
        self.note("addition", "search", world.mean(searched.network_))
        for how, knobs in (("a donor", {"scaling": "donor"}), ("a block", {}),
                           ("matrices alone", {"scaling": "weights"})):  # fmt: skip
            made = self.choose(f"addition {how}", partial(together, **knobs), held, lrs)
            self.note("addition", how, world.mean(made))
            if how == "a block":
                self.tables.append(coefficients_of(made).tables["coefficients"])
        own = [world.test(world.donors[name], name) for name in names]
        self.note("addition", "each donor on its own", float(np.mean(own)))

    def few_shots(self, world: World, name: str) -> None:
        """A rendering that no donor learned, from few of its pictures, and from many."""
        lrs = self.settings["lrs"]
        held = partial(world.held, name=name)
        self.each("few shots", "base", world.test(world.base, name))
        donors, noise = world.others(name), world.others(name, world.random_bases)
        for count in self.settings["shots"]:
            rows = world.shots(name, count)
            ways: dict[str, Any] = {
                "a block": (partial(world.scaled, rows, donors), lrs),
                "random bases": (partial(world.scaled, rows, noise), lrs),
                "fine-tuning": (partial(world.tuned, rows, head=False), TUNING),
                "head": (partial(world.tuned, rows, head=True), (*TUNING, 0.1)),
            }
            for how, (make, rates) in ways.items():
                made = self.choose(f"{how} {count}", make, held, rates)
                self.each("few shots", f"{how}, {count}", world.test(made, name))
            last = world.scaled(rows, donors, self.chosen[f"a block {count}"], keep="last")
            self.each("few shots", f"a block, last epoch, {count}", world.test(last, name))
        most = max(self.settings["shots"])
        for select in ("grad-block", "grad", "random"):
            made = self.choose(
                f"budget {select}",
                partial(world.scaled, world.shots(name, most), donors, budget=1, select=select),
                held, lrs,
            )  # fmt: skip
            self.each("budget", select, world.test(made, name))
        for amount, rows in (("few", world.shots(name, 4)), ("many", world.rows(name, "donor"))):
            for parts in (1, self.settings["parts"]):
                made = self.choose(
                    f"parts {parts} {amount}",
                    partial(world.scaled, rows, donors, parts=parts), held, lrs,
                )  # fmt: skip
                self.each("parts", f"{parts}, {amount}", world.test(made, name))

    def without_labels(self, world: World, name: str) -> None:
        """Unlabelled pictures of a rendering; nothing is chosen, for that would take labels."""
        rows = world.rows(name, "donor")
        self.each("without labels", "base", world.test(world.base, name))
        for objective in ("ufm", "entropy", "simclr"):
            made = world.scaled(rows, world.others(name), UNLABELLED_LR, objective=objective)
            self.each("without labels", objective, world.test(made, name))

    def negation(self, world: World, name: str) -> None:
        """Forget a rendering and keep the plain one."""
        target, control = world.rows(name), world.rows(CONTROL)
        donor: Any = {name: world.donors[name]}
        keeps = 0.95 * world.held(world.base, CONTROL)

        def score(network: nn.Module) -> float:
            lost = world.held(network, CONTROL) < keeps
            return -world.held(network, name) - 1000.0 * lost

        found = [world.base]
        for step in range(1, 21):
            made: Reader = atlas(Reader(world.base, world.seed), donors=donor, alpha=-0.05 * step)
            found.append(made.network_)
        ours = self.choose(
            "negation",
            partial(world.scaled, target, donor, objective="negate", control=[control]),
            score, self.settings["lrs"],
        )  # fmt: skip
        for how, network in (("base", world.base), ("search", max(found, key=score)),
                             ("a block", ours)):  # fmt: skip
            self.each("negation", f"{how}, target", world.test(network, name))
            self.each("negation", f"{how}, control", world.test(network, CONTROL))


def measure(scale: Scale) -> list[Claim]:
    """The claims of aTLAS."""
    bench = Bench(scale)
    bench.measure()
    return _claims(bench, scale)


def _claims(bench: Bench, scale: Scale) -> list[Claim]:
    settings, made = bench.settings, []

    def minus(what: str, left: str, right: str) -> list[float]:
        pairs = zip(bench.found[what][left], bench.found[what][right], strict=True)
        return [a - b for a, b in pairs]

    def claim(
        id: str, statement: str, what: str, differences: list[float], why: str = "", *,
        rates: str | tuple[str, ...] = (), margin: float = 0.0, curves: Any = None,
    ) -> None:  # fmt: skip
        verdict = judge(differences, margin=margin)
        numbers: dict[str, Any] = {
            "test_accuracy_percent": bench.found[what],
            "chosen_lr": {n: lr for n, lr in bench.chosen.items() if n.startswith(rates)},
            "differences": [round(one, 3) for one in differences],
        }
        numbers |= {"curves": curves} if curves else {}
        left_out = LEFT_OUT[scale] if verdict == "holds" else f"{LEFT_OUT[scale]} {why}".strip()
        made.append(Claim(id, statement, verdict, numbers, bench.seeds, left_out))

    mean_table = bench.tables[0].copy()
    for column in mean_table.columns[1:]:
        mean_table[column] = np.mean([table[column] for table in bench.tables], axis=0).round(4)
    claim("addition-block", "One model for all eight renderings is better with a coefficient a "
          "block than with one a donor.", "addition", minus("addition", "a block", "a donor"),
          rates="addition", curves=mean_table.to_dict("list"))  # fmt: skip
    claim("addition-donor", "And with one a donor at least as good as with the best single number.",
          "addition", minus("addition", "a donor", "search"), ONE_NUMBER, rates="addition",
          margin=-0.5)  # fmt: skip
    lost = minus("negation", "search, target", "a block, target")
    claim("negation", "Forgetting one rendering while the plain one keeps 95 % leaves less of it "
          "with learned coefficients than with the best single number.", "negation", lost, CONTROLS,
          rates="negation")  # fmt: skip
    shots = [str(count) for count in settings["shots"]]

    def worst(right: str) -> list[float]:
        each = [
            minus("few shots", f"a block, {n}", f"{right}, {n}" if right != "base" else "base")
            for n in shots
        ]
        return [min(values) for values in zip(*each, strict=True)]

    claim("few-shot-base", f"On a rendering that no donor learned, {', '.join(shots)} pictures a "
          "digit make it better than the base.", "few shots", worst("base"), LITTLE,
          rates="a block")  # fmt: skip
    claim("few-shot-random", "Task vectors serve better than random directions as long.",
          "few shots", worst("random bases"), LITTLE, rates=("a block", "random"))  # fmt: skip
    claim("few-shot-tuning", "They serve better than fine-tuning all weights in as many steps.",
          "few shots", worst("fine-tuning"), SMALL_NET, rates=("a block", "fine"))  # fmt: skip
    claim("budget", "With one donor a block, chosen block by block it is better than one donor "
          "for all.", "budget", minus("budget", "grad-block", "grad"), FEW_BLOCKS,
          rates="budget")  # fmt: skip
    parts = settings["parts"]
    grows = [
        many - few
        for many, few in zip(
            minus("parts", f"{parts}, many", "1, many"),
            minus("parts", f"{parts}, few", "1, few"),
            strict=True,
        )
    ]
    claim("parts", f"{parts} coefficients a block gain more over one where there are more data.",
          "parts", grows, rates="parts")  # fmt: skip
    claim(
        "ufm",
        "Without labels, FixMatch on the coefficients makes a new rendering better than the base.",
        "without labels",
        minus("without labels", "ufm", "base"),
        WRONG_LABELS,
    )
    claim("ufm-entropy", "And better than making answers sure (SAR).", "without labels",
          minus("without labels", "ufm", "entropy"), WRONG_LABELS, rates="none")  # fmt: skip
    return made


ONE_NUMBER = (
    "The best single number is chosen among 21 on as many pictures as the others learn from."
)
CONTROLS = "With one donor of three layers there are six numbers, and the seeds differ by more."
LITTLE = "Eight renderings of digits have less in common than data sets of photographs."
SMALL_NET = (
    "A small MLP is not the pretrained encoder of the paper: all of its weights are learned in a "
    "second, and there is little in the base that fine-tuning could spoil."
)
FEW_BLOCKS = "Three layers have six blocks, where the paper's encoder has 152."
WRONG_LABELS = "What the base answers to a new rendering is often wrong, and the trusted are too."


def picture(record: dict[str, Any]) -> "Figure":
    """Coefficients by donor and block of the one model for all eight renderings of digits, the mean
    of three seeds.
    """
    import pandas as pd

    from stackwise.adapt.atlas import heat_map

    figure = heat_map(pd.DataFrame(numbers_of(record, "addition-block")["curves"]))
    figure.set_size_inches(5, 3.6)
    return figure
