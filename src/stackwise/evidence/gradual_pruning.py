"""Is a large sparse network better than a small dense one with as many weights?

An MLP and a small CNN on MNIST digits, and a stacked LSTM that predicts the next character of
Python source. The small dense networks get the same epochs, learning rate and batches. Masks at
random, and pruning at once with the same extra training, are the controls. Nothing is selected
on the test part; it is scored once, at the end of each run.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise import data
from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.evidence.pictures import BLUE, GREY, ORANGE, canvas, numbers_of
from stackwise.shrink.gradual_pruning import (
    GradualRule,
    Schedule,
    attach,
    detach,
    gradual_pruning,
    prunable,
    small_dense,
    sparsity,
)
from stackwise.training import ArrayBatches, Backprop, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"rows": 300, "epochs": 2, "seeds": (0,), "shares": (0.9,), "width": 32,
              "characters": 8000, "units": 16, "channels": 16},
    "cpu": {"rows": 4000, "epochs": 10, "seeds": (0, 1, 2), "shares": (0.9, 0.95, 0.98),
            "width": 512, "characters": 200_000, "units": 128, "channels": 16},
    "gpu": {"rows": 4000, "epochs": 30, "seeds": (0, 1, 2), "shares": (0.8, 0.9, 0.95, 0.98),
            "width": 1024, "characters": 4_000_000, "units": 512, "channels": 64},
}  # fmt: skip
LEFT_OUT = {
    "smoke": "Hundreds of rows and one seed: this only shows that the measurement runs.",
    "cpu": "MNIST digits and 200,000 characters in place of ImageNet, translation and the Penn "
    "Treebank.",
    "gpu": "Small pictures and source code in place of ImageNet and translation.",
}
LSTM_WHY = (
    "The language model takes few passes over a short text and is far from converged when it is "
    "pruned: weights go before their size means anything, and the small dense model learns faster. "
    "The paper prunes models that train for tens of passes."
)
LITTLE_WHY = "The seeds differ by more than the margin on a test part of 1,000 digits."
VOCABULARY, WINDOW = 128, 32


def mlp(width: int) -> nn.Module:
    """784-w-w/2-10."""
    half = max(width // 2, 1)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, half), nn.ReLU(),
        nn.Linear(half, 10),
    )  # fmt: skip


def cnn(channels: int) -> nn.Module:
    """Two strided convolutions and a linear head."""
    return nn.Sequential(
        nn.Conv2d(1, channels, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv2d(channels, 2 * channels, 5, stride=2, padding=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(2 * channels * 49, 10),
    )  # fmt: skip


class CharacterLSTM(nn.Module):
    """Two stacked LSTM layers over characters; (B, T) int64 -> (B, V, T)."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, units)
        self.lstm = nn.LSTM(units, units, num_layers=2, batch_first=True)
        self.head = nn.Linear(units, VOCABULARY)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(x))[0]).transpose(1, 2)


class RandomRule(GradualRule):
    """The same schedule with masks that do not look at the weights."""

    def prune(self, step: int) -> None:
        """Rank a fixed random tensor in place of |W|."""
        for name, mask in self.masks.items():
            weight = self.places[name].parameter
            generator = torch.Generator().manual_seed(len(name))
            order = torch.rand(weight.shape, generator=generator).flatten().argsort()
            share = self.plan.sparsity(step, initial=self.initial, final=self.targets[name])
            kept = max(1, round(weight.numel() * (1 - share)))
            flat = torch.zeros(weight.numel(), dtype=torch.bool)
            flat[order[:kept]] = True
            mask.set(flat.view(weight.shape))
        self.frozen = {}


class Case:
    """A network, its data, and a score where larger is better."""

    def __init__(
        self,
        build: Callable[[int], nn.Module],
        size: int,
        x: Tensor,
        y: Tensor,
        score: Callable[[Tensor, Tensor], float],
        epochs: int,
        seed: int,
    ) -> None:
        self.build, self.size, self.score = build, size, score
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        cut = round(0.8 * len(x))
        self.train, self.test = order[:cut], order[cut:]
        self.x, self.y, self.epochs, self.seed = x, y, epochs, seed

    def fresh(self, size: int) -> nn.Module:
        """A new network of this size."""
        torch.manual_seed(self.seed)
        return self.build(size)

    def dense(self, size: int) -> nn.Module:
        """A dense network, trained."""
        batches = self.batches
        return train(
            self.fresh(size), Backprop(self.loss), batches, max_epochs=self.epochs, seed=self.seed
        ).model

    @property
    def batches(self) -> ArrayBatches:
        """The training rows."""
        rows = {"x": self.x[self.train], "y": self.y[self.train]}
        return ArrayBatches(rows, 64, seed=self.seed)

    @staticmethod
    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Cross entropy."""
        return functional.cross_entropy(model(batch["x"]), batch["y"])

    def prune(self, model: nn.Module, share: float, **knobs: Any) -> nn.Module:
        """`gradual_pruning` on the training rows."""
        options = {"sparsity": share, "epochs": self.epochs, "every": 20, "batch_size": 64}
        rows = (self.x[self.train], self.y[self.train])
        made: nn.Module = gradual_pruning(
            model, rows, loss=functional.cross_entropy, random_state=self.seed, **options | knobs
        )
        return made

    def random(self, share: float) -> nn.Module:
        """Train with random masks on the same schedule."""
        model = self.fresh(self.size)
        places = prunable(model)
        batches = self.batches
        plan = Schedule.within(
            self.epochs * len(batches), start=0.1, end=0.7, every=20, exponent=3, kind="gradual"
        )
        rule = RandomRule(
            self.loss, masks=attach(places), places=places,
            targets=dict.fromkeys(places, share), schedule=plan, lr=1e-3,
        )  # fmt: skip
        train(model, rule, batches, max_epochs=self.epochs, seed=self.seed)
        detach(places)
        return model

    def judge(self, model: nn.Module) -> float:
        """The score on the test rows."""
        model.eval()
        with torch.no_grad():
            outputs = torch.cat([model(part) for part in self.x[self.test].split(256)])
        return self.score(outputs, self.y[self.test])


def _accuracy(output: Tensor, y: Tensor) -> float:
    return 100 * float((output.argmax(1) == y).double().mean())


def _negative_bits(output: Tensor, y: Tensor) -> float:
    return -float(functional.cross_entropy(output, y)) / math.log(2)


def _digits(rows: int) -> tuple[Tensor, Tensor]:
    images, labels = data.images("mnist-5k")
    order = np.random.default_rng(0).permutation(len(images))[: round(rows / 0.8)]
    x = torch.from_numpy(images[order]).float()[:, None] / 255
    return x, torch.from_numpy(labels[order])


def _characters(count: int) -> tuple[Tensor, Tensor]:
    text = data.text("python-source")[:count].encode("ascii", "replace")
    codes = torch.from_numpy(np.frombuffer(text, np.uint8).astype(np.int64))
    windows = codes[: (len(codes) - 1) // WINDOW * WINDOW + 1]
    return windows[:-1].view(-1, WINDOW), windows[1:].view(-1, WINDOW)


def _count(model: nn.Module) -> int:
    """Non-zeros of the weights, and every bias."""
    return sum(int(parameter.count_nonzero()) for parameter in model.parameters())


def measure(scale: Scale) -> list[Claim]:
    """The claims of gradual pruning."""
    settings = SETTINGS[scale]
    seeds = list(settings["seeds"])
    digits, text = _digits(settings["rows"]), _characters(settings["characters"])
    found: dict[str, dict[str, list[float]]] = {}

    def note(case: str, what: str, value: float) -> None:
        found.setdefault(case, {}).setdefault(what, []).append(round(value, 4))

    for seed in seeds:
        cases = {
            "mlp": Case(mlp, settings["width"], *digits, _accuracy, settings["epochs"], seed),
            "cnn": Case(cnn, settings["channels"], *digits, _accuracy, settings["epochs"], seed),
            "lstm": Case(
                CharacterLSTM, settings["units"], *text, _negative_bits,
                max(settings["epochs"] // 3, 2), seed,
            ),
        }  # fmt: skip
        for name, case in cases.items():
            whole = case.dense(case.size)
            note(name, "dense", case.judge(whole))
            for share in settings["shares"] if name == "mlp" else settings["shares"][:1]:
                tag = f"{share:.0%}"
                sparse = case.prune(case.fresh(case.size), share)
                note(name, f"sparse {tag}", case.judge(sparse))
                note(name, f"non-zeros {tag}", _count(sparse))
                note(name, f"reached {tag}", sparsity(sparse)["total"][2])
                width = small_dense(case.build, _count(sparse))
                note(name, f"small width {tag}", width)
                note(name, f"small dense {tag}", case.judge(case.dense(width)))
                if name == "mlp":
                    note(name, f"random {tag}", case.judge(case.random(share)))
                    at_once = case.prune(whole, share, epochs=0)
                    note(name, f"at once {tag}", case.judge(at_once))
                    extra = max(round(0.3 * case.epochs), 1)
                    tuned = case.prune(whole, share, schedule="one-shot", start=0.0, epochs=extra)
                    note(name, f"at once, tuned {tag}", case.judge(tuned))
    return _claims(found, settings, seeds, scale)


def _claims(
    found: dict[str, dict[str, list[float]]],
    settings: dict[str, Any],
    seeds: list[int],
    scale: Scale,
) -> list[Claim]:
    tags = [f"{share:.0%}" for share in settings["shares"]]

    def minus(case: str, left: str, right: str) -> list[float]:
        pairs = zip(found[case][left], found[case][right], strict=True)
        return [a - b for a, b in pairs]

    def over_tags(left: str, right: str) -> list[float]:
        """The smallest difference over the sparsities, by seed."""
        each = [minus("mlp", f"{left} {tag}", f"{right} {tag}") for tag in tags]
        return [min(values) for values in zip(*each, strict=True)]

    first, last = tags[0], tags[-1]
    units = {"mlp": "accuracy in %", "cnn": "accuracy in %", "lstm": "minus bits a character"}
    made = []

    def claim(
        id: str,
        statement: str,
        case: str,
        differences: list[float],
        margin: float = 0.0,
        why: str = "",
    ) -> None:
        numbers = {"unit": units[case], "margin": margin, **found[case]}
        numbers["differences"] = [round(value, 4) for value in differences]
        verdict = judge(differences, margin=margin)
        left_out = LEFT_OUT[scale] if verdict == "holds" else f"{LEFT_OUT[scale]} {why}".strip()
        made.append(Claim(id, statement, verdict, numbers, seeds, left_out))

    claim(
        "mlp-large-sparse",
        f"A large MLP pruned to {', '.join(tags)} beats a small dense one with as many weights.",
        "mlp",
        over_tags("sparse", "small dense"),
    )
    claim(
        "cnn-large-sparse",
        f"The same holds for a CNN at {first}.",
        "cnn",
        minus("cnn", f"sparse {first}", f"small dense {first}"),
    )
    claim(
        "lstm-large-sparse",
        f"The same holds for a stacked LSTM language model at {first}.",
        "lstm",
        minus("lstm", f"sparse {first}", f"small dense {first}"),
        why=LSTM_WHY,
    )
    claim(
        "little-is-lost",
        f"At {first} the MLP loses at most 0.5 points against the dense one.",
        "mlp",
        minus("mlp", f"sparse {first}", "dense"),
        -0.5,
        why=LITTLE_WHY,
    )
    claim(
        "magnitude-matters",
        "Magnitude masks beat random masks on the same schedule.",
        "mlp",
        over_tags("sparse", "random"),
    )
    claim(
        "training-matters",
        "Gradual pruning beats pruning at once without training, by 10 points.",
        "mlp",
        over_tags("sparse", "at once"),
        10.0,
    )
    claim("gradual-matters", f"At {last} gradual pruning beats pruning at once with tuning.",
          "mlp", minus("mlp", f"sparse {last}", f"at once, tuned {last}"))  # fmt: skip
    return made


def picture(record: dict[str, Any]) -> "Figure":
    """Accuracy on digits by the share of weights that are zero: pruned gradually, pruned at once
    and tuned, and dense networks of as many weights; mean and range of three seeds.
    """
    numbers = numbers_of(record, "mlp-large-sparse")
    shares = [90, 95, 98]
    figure, axes = canvas()
    for name, colour, words in (
        ("sparse", BLUE, "pruned gradually"),
        ("at once, tuned", ORANGE, "pruned at once, tuned"),
        ("small dense", GREY, "small and dense"),
    ):
        found = np.array([numbers[f"{name} {share}%"] for share in shares])
        axes.plot(shares, found.mean(1), "o-", color=colour, lw=1.6, label=words)
        axes.fill_between(shares, found.min(1), found.max(1), color=colour, alpha=0.15, lw=0)
    axes.axhline(np.mean(numbers["dense"]), color="black", lw=1, ls=":", label="large and dense")
    axes.set_xticks(shares)
    axes.set_xlabel("weights that are zero, in %")
    axes.set_ylabel("test accuracy, in %")
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    return figure
