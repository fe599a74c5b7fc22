"""Do frozen stacks of experts add skills to a network one by one, and are the earlier ones kept?

A small MLP learns scikit-learn's digits as they are. Four domains follow, each a change of the
pictures: turned by 40 degrees, inverted, mirrored, shifted. A domain's stacks see its training rows
alone; rounds end by its validation rows, which also teach the router; the test rows are scored
once, at the end. LoRA of as many numbers gets the same steps, rate and looks; a single round of
twice as many steps is the control that a second round needs.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from stackwise import data
from stackwise.adapt import all_off, deltas_on
from stackwise.adapt.brainstacks import Switch, brainstacks, dpo_loss
from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.evidence.pictures import numbers_of
from stackwise.training import ArrayBatches, Backprop, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"seeds": (0,), "steps": 10, "epochs": 2, "width": 24, "domains": 2, "train": 120,
              "hidden": 16, "router_epochs": 1},
    "cpu": {"seeds": (0, 1, 2), "steps": 250, "epochs": 40, "width": 64, "domains": 4,
            "train": 900, "hidden": 64, "router_epochs": 8},
    "gpu": {"seeds": (0, 1, 2), "steps": 2000, "epochs": 100, "width": 512, "domains": 4,
            "train": 900, "hidden": 256, "router_epochs": 16},
}  # fmt: skip
LEFT_OUT = {
    "smoke": "Two domains and few steps: this only shows that the measurement runs.",
    "cpu": "An MLP of 64 units and changed digits in place of language models of 1 and 12 billion "
    "parameters and text domains.",
    "gpu": "A wider MLP and changed digits in place of language models and text domains.",
}
RANK, EXPERTS = 4, 4
LAYERS = ["0", "2", "4"]
HELD = 300
MODES = ("off", "train-only", "fold")
Rows = tuple[Tensor, Tensor]


def domains() -> dict[str, Any]:
    """name -> what it does to (n, 8, 8) pictures of 0 to 255."""
    image: Any = ndimage  # whose functions a type checker does not see
    return {
        "turned": lambda x: image.rotate(x, 40, axes=(1, 2), reshape=False, order=1),
        "inverted": lambda x: 255 - x,
        "mirrored": lambda x: x[:, :, ::-1].copy(),
        "shifted": lambda x: image.shift(x, (0, 2, 1), order=0),
    }


class Digits:
    """The pictures of one seed in three parts, as they are and changed."""

    def __init__(self, seed: int, train: int, count: int) -> None:
        pictures, labels = data.images("digits")
        order = np.random.default_rng(seed).permutation(len(pictures))
        x, y = pictures[order].astype(np.float32), torch.from_numpy(labels[order]).long()
        cut = {"train": slice(0, train), "validation": slice(train, train + HELD),
               "test": slice(train + HELD, None)}  # fmt: skip
        changes = {"clean": lambda x: x} | dict(list(domains().items())[:count])
        self.names = list(changes)[1:]
        self.parts: dict[str, dict[str, Rows]] = {}
        for name, change in changes.items():
            flat = torch.from_numpy(change(x)).float().flatten(1) / 255
            self.parts[name] = {part: (flat[rows], y[rows]) for part, rows in cut.items()}

    def rows(self, name: str, part: str) -> Rows:
        """Of a domain, or of the clean pictures."""
        return self.parts[name][part]


def base(width: int, digits: Digits, epochs: int, seed: int) -> nn.Module:
    """An MLP of three hidden layers, trained on the pictures as they are; for 0 epochs not."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for place in range(3):
        layers += [nn.Linear(width if place else 64, width), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(width, 10))
    if epochs:
        x, y = digits.rows("clean", "train")
        rule = Backprop(lambda m, b: functional.cross_entropy(m(b["x"]), b["y"]), lr=2e-3)
        train(model, rule, ArrayBatches({"x": x, "y": y}, 64, seed=seed), max_epochs=epochs)
    return model.eval()


@torch.no_grad()
def loss_on(model: nn.Module, rows: Rows) -> float:
    """Mean cross-entropy, nats."""
    return float(functional.cross_entropy(model(rows[0]), rows[1]))


class Study:
    """What is measured of one seed."""

    def __init__(self, settings: dict[str, Any], seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.digits = Digits(seed, settings["train"], settings["domains"])
        self.names = self.digits.names
        self.model = base(settings["width"], self.digits, settings["epochs"], seed)
        self.numbers: dict[str, float] = {}

    def learn(self, model: nn.Module, name: str, **knobs: Any) -> Any:
        """A domain's stack beside what is on the model."""
        every = max(self.settings["steps"] // 5, 1)
        given = {"rank": RANK, "experts": EXPERTS, "alpha": 4.0, "rounds": 1, "lr": 3e-3,
                 "steps": self.settings["steps"], "evaluate_every": every, "spike": None,
                 "min_gain": 0.0, "precision_frozen": "float32", "targets": LAYERS,
                 "null_dirs": self.settings["width"] // 8, "batch_size": 64,
                 "loss": functional.cross_entropy}  # fmt: skip
        given |= {"validation": self.digits.rows(name, "validation"), "name": name,
                  "random_state": self.seed}  # fmt: skip
        return brainstacks(model, self.digits.rows(name, "train"), **given | knobs)

    def alone(self) -> None:
        """Each domain by itself: experts against LoRA, and what a second round is worth."""
        made: dict[str, dict[str, Any]] = {
            "experts": {}, "lora": {"experts": 1, "top_k": 1, "rank": RANK * EXPERTS,
                                    "alpha": 8.0},  # the same scale: 8 / sqrt(16) = 4 / sqrt(4)
            "two rounds": {"rounds": 2}, "twice as long": {"steps": 2 * self.settings["steps"]},
        }  # fmt: skip
        for kind, knobs in made.items():
            found = []
            for name in self.names:
                with self.learn(self.model, name, **knobs).on(self.model):
                    found.append(loss_on(self.model, self.digits.rows(name, "test")))
            self.numbers[kind] = float(np.mean(found))

    def in_turn(self, mode: str) -> None:
        """All domains one after another, and each one's loss after each step."""
        for place, name in enumerate(self.names):
            self.learn(self.model, name, null_space=mode).put(self.model)
            for earlier in self.names[: place + 1]:
                loss = loss_on(self.model, self.digits.rows(earlier, "test"))
                self.numbers[f"{mode}: {earlier} after {place + 1}"] = loss
        last = self.names[-1]
        with Switch.of(self.model).only({last: 1.0}):
            loss = loss_on(self.model, self.digits.rows(last, "test"))
            self.numbers[f"{mode}: {last} alone"] = loss
        if mode == "fold":
            self.routed()
        for delta in reversed(deltas_on(self.model)):
            delta.take_off(self.model)

    def routed(self) -> None:
        """A router, learned on validation rows; all rows of all domains are scored."""
        held = {name: self.digits.rows(name, "validation") for name in self.names}
        router: Any = brainstacks(
            self.model, held, learn="router", loss=functional.cross_entropy, samples=HELD,
            hidden=self.settings["hidden"], router_epochs=self.settings["router_epochs"],
            random_state=self.seed, batch_size=64,
        )  # fmt: skip
        test = {name: self.digits.rows(name, "test") for name in self.names}

        def mean(weights: Any) -> float:
            found = []
            for name, rows in test.items():
                with Switch.of(self.model).only(weights(name)):
                    found.append(loss_on(self.model, rows))
            return float(np.mean(found))

        def prefix(name: str) -> dict[str, float]:
            return dict.fromkeys(self.names[: self.names.index(name) + 1], 1.0)

        self.numbers["base"] = mean(lambda name: {})
        self.numbers["all on"] = mean(lambda name: dict.fromkeys(self.names, 1.0))
        self.numbers["by label"] = mean(lambda name: {name: 1.0})
        self.numbers["by label, with what came before"] = mean(prefix)
        with router.on(self.model):
            found = [loss_on(self.model, rows) for rows in test.values()]
            likeliest = [
                max(weights, key=lambda one: float(weights[one].mean()))
                for weights in (router.weights_of(self.model, rows[0]) for rows in test.values())
            ]
        self.numbers["routed"] = float(np.mean(found))
        right = [a == b for a, b in zip(likeliest, self.names, strict=True)]
        self.numbers["domains that the router weighs most where it should"] = float(np.mean(right))

    def boundary(self) -> None:
        """The same stack beside a base that learned nothing, and a preference learned by DPO."""
        first = self.names[0]
        blank = base(self.settings["width"], self.digits, 0, self.seed)
        for kind, model in (("untrained base", blank), ("trained base", self.model)):
            with self.learn(model, first).on(model):
                self.numbers[f"stack beside a {kind}"] = loss_on(
                    model, self.digits.rows(first, "test")
                )
        self.preference(first)

    def preference(self, name: str) -> None:
        """Pairs of the right label and the likeliest wrong one; half as good is even odds."""

        def likelihood(model: nn.Module, answers: Rows) -> Tensor:
            x, y = answers
            return model(x).log_softmax(-1).gather(1, y[:, None])[:, 0]

        @torch.no_grad()
        def pairs(part: str) -> dict[str, Rows]:
            x, y = self.digits.rows(name, part)
            wrong = self.model(x).scatter(1, y[:, None], -torch.inf).argmax(1)
            return {"chosen": (x, y), "rejected": (x, wrong)}

        def preferred(both: dict[str, Rows]) -> float:
            with torch.no_grad():
                chosen, rejected = (likelihood(self.model, both[k]) for k in ("chosen", "rejected"))
            return 100 * float((chosen > rejected).double().mean())

        learned, held, test = (pairs(part) for part in ("train", "validation", "test"))
        with all_off(self.model):
            before = preferred(test)
            delta = self.learn_pairs(name, learned, held, dpo_loss(likelihood, beta=0.1))
            with delta.on(self.model):
                after = preferred(test)
        self.numbers |= {"preferred before": before, "preferred after": after}

    def learn_pairs(self, name: str, learned: Any, held: Any, loss: Any) -> Any:
        """A stack from pairs, in batches of 64."""

        def batches(both: dict[str, Rows]) -> list[dict[str, Rows]]:
            count = len(both["chosen"][0])
            return [
                {key: (x[n : n + 64], y[n : n + 64]) for key, (x, y) in both.items()}
                for n in range(0, count, 64)
            ]

        steps = self.settings["steps"]
        return brainstacks(
            self.model, batches(learned), validation=batches(held), loss=loss, name=name,
            rank=RANK, alpha=4.0, rounds=1, steps=steps, evaluate_every=max(steps // 5, 1),
            lr=3e-3, targets=LAYERS, precision_frozen="float32", random_state=self.seed,
        )  # fmt: skip


def measure(scale: Scale) -> list[Claim]:
    """The claims of brainstacks."""
    settings = SETTINGS[scale]
    seeds = list(settings["seeds"])
    found: list[dict[str, float]] = []
    for seed in seeds:
        study = Study(settings, seed)
        study.alone()
        for mode in MODES:
            study.in_turn(mode)
        study.boundary()
        found.append(study.numbers)
        names = study.names
    return _claims(found, names, seeds, scale)


def _claims(
    found: list[dict[str, float]], names: list[str], seeds: list[int], scale: Scale
) -> list[Claim]:
    first, last, count = names[0], names[-1], len(names)
    made = []

    def claim(
        id: str, statement: str, worse: str, better: str, *also: str, margin: float = 0.0,
        unit: str = "nats a digit", why: str = "",
    ) -> None:  # fmt: skip
        differences = [one[worse] - one[better] for one in found]
        keys = dict.fromkeys([worse, better, *also])
        numbers: dict[str, Any] = {"unit": unit, "margin": margin} | {
            key: [round(one[key], 4) for one in found] for key in keys
        }
        numbers["differences"] = [round(value, 4) for value in differences]
        verdict = judge(differences, margin=margin)
        left_out = LEFT_OUT[scale] if verdict == "holds" else f"{LEFT_OUT[scale]} {why}".strip()
        made.append(Claim(id, statement, verdict, numbers, seeds, left_out))

    claim(
        "experts-beat-lora",
        "At equal steps, four experts of rank 4 end at a smaller loss than LoRA of rank 16.",
        "lora", "experts",
        why="A digit teaches two of four experts, LoRA's matrices learn from each one: at "
        "so few steps that counts for more than the choice. (Best guess; not tested "
        "apart.)",
    )  # fmt: skip
    claim(
        "second-round", "A second round on top of the frozen first makes the loss smaller.",
        "experts", "two rounds",
    )  # fmt: skip
    claim(
        "second-round-beats-longer",
        "Two rounds are better than one of twice as many steps.",
        "twice as long", "two rounds",
        why="What a second round brings are its steps; a single one uses them as well.",
    )  # fmt: skip
    matrix = [
        f"{mode}: {name} after {place + 1}"
        for mode in MODES for place in range(count) for name in names[: place + 1]
    ]  # fmt: skip
    claim(
        "null-space-keeps",
        f"With all {count} domains on, the first keeps a smaller loss where the later ones were "
        "kept out of its directions.",
        f"off: {first} after {count}", f"fold: {first} after {count}", *matrix,
        why="The layers between are not linear: what is added in open directions of one "
        "still changes what the next one reads, and with it what the first domain gets. "
        "(Best guess; not tested apart.)",
    )  # fmt: skip
    claim(
        "folding-keeps-more",
        "Folded into the stacks, the projection keeps more than where training alone makes it.",
        f"train-only: {first} after {count}", f"fold: {first} after {count}",
        why="Where closing directions keeps little, folding what was closed cannot keep "
        "more.",
    )  # fmt: skip
    claim(
        "null-space-is-free",
        "The last domain itself is learned as well (to 0.02) with directions closed as without.",
        f"off: {last} after {count}", f"fold: {last} after {count}", margin=-0.02,
        why="Directions that are closed are missing to the later domains: they pay for what the "
        "earlier ones keep.",
    )  # fmt: skip
    claim(
        "alone-nothing-is-forgotten",
        "A later domain's stack alone is as good (to 0.02) as with those it was learned over.",
        f"fold: {last} after {count}", f"fold: {last} alone", margin=-0.02,
        why="It was learned on top of the others and makes up for what they do: without them it "
        "does what nobody trained. Only the first domain, and prefixes, give their loss again.",
    )  # fmt: skip
    routes = ("base", "all on", "by label", "by label, with what came before",
              "domains that the router weighs most where it should")  # fmt: skip
    claim(
        "router-beats-all-on", "The router is better than all domains on.",
        "all on", "routed", *routes,
    )  # fmt: skip
    claim("router-beats-base", "The router is better than the base alone.", "base", "routed")
    claim(
        "router-matches-labels",
        "The router is no worse (to 0.02) than switching each row's own domain on by its label.",
        "by label", "routed", margin=-0.02,
        why="A soft weight of several stacks is no set that was trained.",
    )  # fmt: skip
    claim(
        "needs-a-base",
        "Beside a base that learned nothing the same stack ends at a larger loss, by 0.1.",
        "stack beside a untrained base", "stack beside a trained base", margin=0.1,
    )  # fmt: skip
    claim(
        "dpo",
        "DPO against the model without the stack makes the right answer the likelier one more "
        "often.",
        "preferred after", "preferred before", unit="% of test pairs",
    )  # fmt: skip
    return made


def picture(record: dict[str, Any]) -> "Figure":
    """The forgetting matrix, without and with directions closed, the mean over the seeds."""
    from matplotlib.figure import Figure

    numbers = numbers_of(record, "null-space-keeps")
    keys = [key for key in numbers if key.startswith("fold: ") and " after " in key]
    names = list(dict.fromkeys(key.removeprefix("fold: ").partition(" after ")[0] for key in keys))
    figure = Figure(figsize=(7.6, 3.4), layout="constrained")
    panels = {"off": "nothing closed", "fold": "earlier directions closed"}
    for place, (mode, title) in enumerate(panels.items()):
        axes = figure.add_subplot(1, 2, place + 1)
        grid = np.full((len(names), len(names)), np.nan)
        for column, name in enumerate(names):
            for row in range(column, len(names)):
                grid[row, column] = np.mean(numbers[f"{mode}: {name} after {row + 1}"])
        axes.imshow(np.log(grid), cmap="OrRd", vmin=np.log(0.1), vmax=np.log(40))
        for (row, column), value in np.ndenumerate(grid):
            if np.isfinite(value):
                axes.text(column, row, f"{value:.2g}", ha="center", va="center", fontsize=10)
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(names)), [f"+ {name}" for name in names])
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("loss of this domain's digits")
        axes.set_title(title, fontsize=11)
    figure.axes[0].set_ylabel("learned one after another")
    return figure
