"""Do convolutions that choose their families beat one family, chance and plain convolutions?

Handwritten digits. Networks of three blocks; every one takes as many epochs on as many pictures and
keeps the weights that do best on the same validation pictures; test pictures are used once a
network. "Best family" is the family whose own network does best on validation pictures: the honest
rival, at as many times the cost. Plain convolutions have the same form with ReLU, as many
parameters, and a learning rate that validation pictures choose among three. The race that chooses
families takes further steps: its candidates are trained and thrown away.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from stackwise.build.skan import SConvKANClassifier
from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.evidence.pictures import dots, numbers_of
from stackwise.layers.arguments import keeps_arguments
from stackwise.learning.labelled_network import LabelledNetwork
from stackwise.tasks.images.estimators.learner import ImageRows
from stackwise.tasks.images.small import small_pictures
from stackwise.tasks.images.task import ImagesTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POOL = ("bspline", "rbf", "cheby", "wavelet", "relu")
LRS = (1e-2, 3e-3, 1e-3)
SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"data": None, "side": None, "rows": None, "seeds": (0,), "epochs": 4,
              "widths": [2, 2, 2], "pool": ("rbf", "cheby")},
    "cpu": {"data": "mnist-5k", "side": 14, "rows": 1000, "seeds": (0, 1, 2), "epochs": 12,
            "widths": [6, 12, 24], "pool": POOL},
    "gpu": {"data": "mnist-5k", "side": None, "rows": None, "seeds": (0, 1, 2, 3, 4), "epochs": 60,
            "widths": [16, 32, 64], "pool": POOL},
}  # fmt: skip
LEFT_OUT = {
    "smoke": "Bars and squares, and one seed: this only shows that the measurement runs.",
    "cpu": "1,000 training pictures of one data set, brought to 14 x 14, networks of three blocks "
    "of 6, 12 and 24 channels, 12 epochs, one learning rate for all networks of edge functions, no "
    "colour pictures.",
    "gpu": "One data set of grey pictures, networks of three blocks, one learning rate for all "
    "networks of edge functions.",
}


@keeps_arguments
class PlainBlocks(nn.Module):
    """Convolution, batch normalisation, ReLU and largest values of 2 x 2 in blocks like those of
    `SConvKAN`.
    """

    arguments: dict[str, Any]

    def __init__(self, *, channels: int, n_outputs: int, widths: list[int]) -> None:
        super().__init__()
        sides = [channels, *widths]
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in zip(sides, widths, strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        self.head = nn.Linear(widths[-1], n_outputs)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, n_outputs)."""
        x = pixels
        for place, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            x = norm(layer(x)).relu()
            x = F.max_pool2d(x, 2, ceil_mode=True) if place < len(self.layers) - 1 else x
        output: Tensor = self.head(x.mean((2, 3)))
        return output


class PlainConvolutions(SConvKANClassifier):
    """The same estimator around plain convolutions, which have no choice and one phase."""

    build_phases = LabelledNetwork.build_phases  # type: ignore[assignment]

    def build_network(self, rows: ImageRows) -> nn.Module:
        """Plain blocks of the widths that `channels` says."""
        self._check_memory(rows)
        return PlainBlocks(
            channels=rows.channels, n_outputs=rows.n_outputs, widths=list(self.channels)
        )


class Bench:
    """Fits every network on every seed; keeps accuracies on test and validation, and sizes."""

    def __init__(self, scale: Scale) -> None:
        self.settings = SETTINGS[scale]
        self.test: dict[str, list[float]] = {}
        self.held: dict[str, list[float]] = {}
        self.size: dict[str, list[int]] = {}
        self.won: list[str] = []

    def measure(self) -> None:
        """All seeds."""
        for seed in self.settings["seeds"]:
            self._seed(seed)

    def _task(self, seed: int) -> ImagesTask:
        source = self.settings["data"] or small_pictures(60)
        return ImagesTask.load(
            source, split_seed=seed, max_rows=self.settings["rows"], validation=0.2, test=0.3,
            image_size=self.settings["side"],
        )  # fmt: skip

    def _seed(self, seed: int) -> None:
        task, settings = self._task(seed), self.settings
        shared = {"max_epochs": settings["epochs"], "batch_size": 64, "random_state": seed,
                  "channels": settings["widths"], "min_steps": 0}  # fmt: skip
        pool = settings["pool"]
        for family in pool:
            self._keep(family, task, SConvKANClassifier(**shared, pool=[family]))
        best = max(pool, key=lambda family: self.held[family][-1])
        for kept in (self.test, self.held):
            kept.setdefault("best family", []).append(kept[best][-1])
        kan: dict[str, Any] = shared | {"pool": list(pool)}
        self._keep("all kept", task, SConvKANClassifier(**kan, keep="all"))
        self._keep("by chance", task, SConvKANClassifier(**kan, keep=1, select_by="random"))
        pruned = SConvKANClassifier(**kan, keep=1)
        self._keep("pruned", task, pruned)
        network: Any = pruned.network_
        self.won.append(str(network.arguments["selection"]["score"]))
        for name, wanted in (("plain, final size", "pruned"), ("plain, peak size", "all kept")):
            plain = shared | {"channels": self._widths(task, self.size[wanted][-1])}
            raced = [task.fit(PlainConvolutions(**plain, lr=lr)) for lr in LRS]
            self._note(name, task, max(raced, key=lambda one: _accuracy(task, one, "validation")))

    def _keep(self, name: str, task: ImagesTask, learner: Any) -> None:
        self._note(name, task, task.fit(learner))

    def _note(self, name: str, task: ImagesTask, learner: Any) -> None:
        self.held.setdefault(name, []).append(_accuracy(task, learner, "validation"))
        self.test.setdefault(name, []).append(_accuracy(task, learner, "test"))
        self.size.setdefault(name, []).append(_size(learner.network_))

    def _widths(self, task: ImagesTask, parameters: int) -> list[int]:
        """Widths in the proportion of ours with about as many parameters."""
        about = {
            "channels": task.part("train")[0].shape[1],
            "n_outputs": len(task.describe()["classes"]),
        }
        found = [
            [factor * width // 8 for width in self.settings["widths"]] for factor in range(8, 200)
        ]
        sizes = [_size(PlainBlocks(**about, widths=widths)) for widths in found]
        return found[int(np.abs(np.array(sizes) - parameters).argmin())]

    def ahead(self, ours: str, others: str) -> list[float]:
        """Points of test accuracy by which one is ahead, by seed."""
        return [round(a - b, 2) for a, b in zip(self.test[ours], self.test[others], strict=True)]


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _accuracy(task: ImagesTask, learner: Any, part: Any) -> float:
    """Per cent."""
    X, y = task.part(part)
    return round(100 * float((learner.predict(X) == y).mean()), 2)


def measure(scale: Scale) -> list[Claim]:
    """The claims of S-KAN that are about convolutions."""
    bench = Bench(scale)
    bench.measure()
    seeds, pool = list(bench.settings["seeds"]), bench.settings["pool"]
    families = np.mean([bench.test[family] for family in pool], axis=0)
    over_mean = [round(float(n), 2) for n in np.array(bench.test["pruned"]) - families]

    def claim(id: str, statement: str, points: list[float], margin: float, *of: str) -> Claim:
        numbers = {
            "points_ahead_by_seed": points,
            "test_accuracy_percent": {name: bench.test[name] for name in of},
            "validation_accuracy_percent": {name: bench.held[name] for name in of},
            "parameters": {name: bench.size[name] for name in of if name in bench.size},
        }
        verdict = judge(points, margin=margin)
        return Claim(id, statement, verdict, numbers, seeds, LEFT_OUT[scale])

    def against(id: str, statement: str, ours: str, others: str) -> Claim:
        return claim(id, statement, bench.ahead(ours, others), 0.0, ours, others)

    claims = [
        claim("pictures-beat-the-mean-family", "On pictures, pruned to one family a channel by "
              "validation pictures, test accuracy is more than 0.3 points above the mean of the "
              "single families.", over_mean, 0.3, "pruned", *pool),
        against("pictures-beat-the-best-family", "On pictures, pruned by validation pictures, it "
                "is more accurate than the single family that validation pictures prefer.",
                "pruned", "best family"),
        against("pictures-all-families-beat-one", "On pictures, with all families kept, it is more "
                "accurate than the single family that validation pictures prefer.",
                "all kept", "best family"),
        against("pictures-choice-beats-chance", "On pictures, pruned by validation pictures, it "
                "is more accurate than with families drawn at random.", "pruned", "by chance"),
        against("pictures-beat-plain-convolutions", "On pictures, pruned by validation pictures, "
                "it is more accurate than plain convolutions with as many parameters.",
                "pruned", "plain, final size"),
        against("pictures-all-families-beat-plain-convolutions", "On pictures, with all families "
                "kept, it is more accurate than plain convolutions with as many parameters.",
                "all kept", "plain, peak size"),
    ]  # fmt: skip
    claims[0].numbers["choice_that_won_by_seed"] = bench.won
    return claims


def picture(record: dict[str, Any]) -> "Figure":
    """Test accuracy on handwritten digits, a dot a seed: convolutions of one family, of a family a
    channel, of all, and plain ones of as many parameters.
    """
    shown: dict[str, Any] = {}
    for claim in (
        "beat-the-mean-family",
        "choice-beats-chance",
        "all-families-beat-one",
        "beat-plain-convolutions",
        "all-families-beat-plain-convolutions",
    ):
        shown |= numbers_of(record, f"pictures-{claim}")["test_accuracy_percent"]
    rows = {**{family: family for family in POOL}, "pruned": "S-ConvKAN, a family a channel",
            "by chance": "the same, drawn at random", "all kept": "S-ConvKAN, all families",
            "plain, final size": "plain, as many as pruned",
            "plain, peak size": "plain, as many as all"}  # fmt: skip
    return dots(
        {words: {"": shown[name]} for name, words in rows.items()}, label="test accuracy, per cent"
    )
