"""Do movements choose better entries than chance, and do sparse fine-tunings add up where dense
ones do not?

One body of an MLP, pretrained on digits by filling in hidden pixels, and two jobs on it: which
digit a picture shows, and by how many quarter-turns it is turned. Each job is fine-tuned by itself,
at several densities; then both changes are put on one body and each job is judged under its own
head. A fine-tuning without a first phase (random, biases, dense) takes the steps of both phases.
Nothing is selected on the test part, which is scored once for each fine-tuning and composition.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise import data
from stackwise.adapt.composable_sft import SparseFineTuning, composable_sft
from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.evidence.pictures import BLUE, GREY, ORANGE, canvas, numbers_of
from stackwise.training import ArrayBatches, Backprop, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"source": "digits", "rows": 200, "width": 32, "pretrain": 2, "epochs": 1,
              "seeds": (0,)},
    "cpu": {"source": "digits", "rows": 1797, "width": 128, "pretrain": 60, "epochs": 10,
            "seeds": (0, 1, 2)},
    "gpu": {"source": "mnist-5k", "rows": 5000, "width": 512, "pretrain": 100, "epochs": 20,
            "seeds": (0, 1, 2, 3, 4)},
}  # fmt: skip
DENSITIES = (0.02, 0.1, 0.3, 1.0)
CHOSEN = 0.1
"""The density at which selections are compared."""
SPARSE = 0.02
"""The density of the compositions that the claim is about."""
JOBS = {"digit": 10, "turn": 4}
TEST = 0.3
LEFT_OUT = {
    "smoke": "Hundreds of rows and one seed: this only shows that the measurement runs.",
    "cpu": "Two jobs on small digits and an MLP in place of languages and tasks on multilingual "
    "BERT; densities in place of the paper's 4.3 % and 8 %.",
    "gpu": "Two jobs on digits and an MLP in place of languages and tasks on multilingual BERT.",
}
LANGUAGE_WHY = (
    "It takes an encoder that was pretrained on many languages and text of several of them; no "
    "package brings both. The command is the same: apply on a language's text, apply on a task, "
    "merge both."
)
ORDER_WHY = "The selections differ by less than the seeds do."


class Body(nn.Module):
    """Three layers over flat pixels, and a head."""

    def __init__(self, pixels: int, width: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, width), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, pixels) -> (B, outputs)."""
        found: Tensor = self.head(self.body(x))
        return found


class Jobs:
    """A pretrained body, and rows of both jobs in two parts."""

    def __init__(self, settings: dict[str, Any], seed: int) -> None:
        self.settings, self.seed = settings, seed
        images, labels = data.images(settings["source"])
        order = np.random.default_rng(seed).permutation(len(images))[: settings["rows"]]
        pictures = torch.from_numpy(images[order]).float() / 255
        turns = torch.arange(len(order)) % 4
        turned = torch.stack([one.rot90(int(k)) for one, k in zip(pictures, turns, strict=True)])
        self.x = {"digit": pictures.flatten(1), "turn": turned.flatten(1)}
        self.y = {"digit": torch.from_numpy(labels[order]).long(), "turn": turns}
        self.cut = round((1 - TEST) * len(order))
        self.body = self._pretrained()

    def _pretrained(self) -> nn.Module:
        """A body that fills in hidden pixels of upright training pictures."""
        x, pixels = self.x["digit"][: self.cut], self.x["digit"].shape[1]
        torch.manual_seed(self.seed)
        model = Body(pixels, self.settings["width"], pixels)

        def loss(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
            hidden = torch.rand_like(batch["x"]) < 0.3
            return functional.mse_loss(network(batch["x"].masked_fill(hidden, 0)), batch["x"])

        batches = ArrayBatches({"x": x}, 64, seed=self.seed)
        epochs = self.settings["pretrain"]
        return train(model, Backprop(loss), batches, max_epochs=epochs, seed=self.seed).model

    def model(self, job: str) -> nn.Module:
        """The pretrained body under a fresh head of a job."""
        torch.manual_seed(self.seed + 1)
        made = Body(self.x[job].shape[1], self.settings["width"], JOBS[job])
        made.body.load_state_dict(self.body.body.state_dict())  # type: ignore[operator, union-attr]
        return made.eval()

    def tuned(self, job: str, **knobs: Any) -> SparseFineTuning:
        """A fine-tuning for a job, with the steps of two phases in all."""
        epochs = self.settings["epochs"]
        alone = knobs["k"] == 1.0 or knobs.get("select") in ("random", "biases")
        budget = {"epochs": epochs, "sparse_epochs": 2 * epochs if alone else epochs}
        rows = (self.x[job][: self.cut], self.y[job][: self.cut])
        found: SparseFineTuning = composable_sft(
            self.model(job), rows, loss=functional.cross_entropy, heads=["head"], batch_size=64,
            lr=1e-3, random_state=self.seed, **budget | knobs,
        )  # fmt: skip
        return found

    @torch.no_grad()
    def score(self, job: str, *fine_tunings: SparseFineTuning) -> float:
        """Test accuracy in %, with fine-tunings on; the first is the job's own."""
        model = self.model(job)
        own, *others = fine_tunings
        own.put(model)
        for one in others:
            one.without_head().put(model)
        answers = model(self.x[job][self.cut :]).argmax(1)
        return 100 * float((answers == self.y[job][self.cut :]).double().mean())


def measure(scale: Scale) -> list[Claim]:
    """The claims of composable sparse fine-tuning."""
    settings = SETTINGS[scale]
    seeds = list(settings["seeds"])
    found: dict[str, list[float]] = {}

    def note(what: str, value: float) -> None:
        found.setdefault(what, []).append(round(value, 3))

    for seed in seeds:
        jobs = Jobs(settings, seed)
        for k in DENSITIES:
            made = {job: jobs.tuned(job, k=k) for job in JOBS}
            digit, turn = made["digit"], made["turn"]
            note(f"overlap {k:.0%}", 100 * digit.overlap(turn) / max(digit.count, 1))
            for job, other in (("digit", turn), ("turn", digit)):
                note(f"alone {job} {k:.0%}", jobs.score(job, made[job]))
                note(f"composed {job} {k:.0%}", jobs.score(job, made[job], other))
        for select in ("random", "biases", "denoised"):
            for job in JOBS:
                one = jobs.tuned(job, k=CHOSEN, select=select)
                note(f"{select} {job}", jobs.score(job, one))
        for job in JOBS:
            note(f"two rounds {job}", jobs.score(job, jobs.tuned(job, k=CHOSEN, iterations=2)))
    return _claims(found, seeds, scale)


def _claims(found: dict[str, list[float]], seeds: list[int], scale: Scale) -> list[Claim]:
    def mean(*names: str) -> np.ndarray:
        """(seeds,) mean over the jobs."""
        return np.mean([found[name] for name in names], axis=0)

    def both(what: str) -> np.ndarray:
        return mean(*(what.format(job=job) for job in JOBS))

    def lost(k: float) -> np.ndarray:
        return both(f"alone {{job}} {k:.0%}") - both(f"composed {{job}} {k:.0%}")

    made = []

    def claim(id: str, statement: str, differences: Any, why: str = "") -> None:
        values = [round(float(value), 3) for value in differences]
        verdict = judge(values)
        numbers = {"unit": "accuracy in %", "differences": values, **found}
        left_out = LEFT_OUT[scale] if verdict == "holds" else f"{LEFT_OUT[scale]} {why}".strip()
        made.append(Claim(id, statement, verdict, numbers, seeds, left_out))

    chosen = both(f"alone {{job}} {CHOSEN:.0%}")
    claim(
        "movement-beats-random",
        f"At {CHOSEN:.0%} of the entries those that moved most learn a job better than as many at "
        "random with the same steps.",
        chosen - both("random {job}"),
    )
    claim(
        "sparse-adds-up",
        f"Two jobs added up at {SPARSE:.0%} each lose less accuracy than two dense fine-tunings "
        "added up.",
        lost(1.0) - lost(SPARSE),
    )
    sparser = np.max([both(f"composed {{job}} {k:.0%}") for k in DENSITIES[:-1]], axis=0)
    claim(
        "dense-is-not-best",
        "Of the densities some sparse one composes better than the dense one.",
        sparser - both(f"composed {{job}} {DENSITIES[-1]:.0%}"),
    )
    claim(
        "movement-beats-biases",
        f"At {CHOSEN:.0%} of the entries it learns a job better than all biases alone.",
        chosen - both("biases {job}"),
        ORDER_WHY,
    )
    claim(
        "denoised-is-no-worse",
        "Denoised movements choose entries that learn a job better than movements as they are.",
        both("denoised {job}") - chosen,
        ORDER_WHY,
    )
    made.append(
        Claim(
            "language-with-task",
            "A task learned in one language works better in another with that language's "
            "fine-tuning added.",
            "not testable at this scale",
            explanation=LANGUAGE_WHY,
        )
    )
    return made


def picture(record: dict[str, Any]) -> "Figure":
    """Accuracy alone and added up, by the density of the fine-tunings."""
    numbers = numbers_of(record, "sparse-adds-up")
    figure, axes = canvas(height=3.2)
    places = range(len(DENSITIES))
    for job, style in zip(JOBS, ("-", "--"), strict=True):
        for what, colour in (("alone", BLUE), ("composed", ORANGE)):
            values = np.array([numbers[f"{what} {job} {k:.0%}"] for k in DENSITIES])
            label = f"{job}, {'alone' if what == 'alone' else 'both added up'}"
            axes.plot(places, values.mean(1), style, color=colour, marker="o", label=label)
            axes.fill_between(places, values.min(1), values.max(1), color=colour, alpha=0.12)
    axes.set_xticks(list(places), [f"{k:.0%}" for k in DENSITIES])
    axes.set_xlabel("entries that each fine-tuning changes")
    axes.set_ylabel("test accuracy in %")
    axes.grid(axis="y", color=GREY, alpha=0.25, lw=0.6)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=2, frameon=False,
                fontsize="small")  # fmt: skip
    return figure
