"""Does a threshold and a gain a neuron specialise a frozen network, with few neurons and numbers?

Digits, upright and turned by 45 degrees: a small MLP learns both from few pictures, its weights are
frozen, and it is specialised to turned ones, each method with the same pictures and steps. Its
learning rate is chosen on validation pictures from the same four, by each seed; the test pictures
are seen once, at the end. Then a small language model of patients' reviews, specialised to Python
source. LoRA and IA3 are peft's.
"""

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from stackwise import data
from stackwise.adapt.dopamine import TauGate, attribute, dopamine
from stackwise.evidence.byte_models import byte_model
from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.evidence.pictures import BLUE, GREY, ORANGE, numbers_of
from stackwise.training import ArrayBatches, Backprop, train
from stackwise.training.batches import ListBatches

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"seeds": (0,), "few": 60, "rows": 96, "epochs": 2, "width": 16, "rates": (1e-2,),
              "steps": 4, "blocks": 1, "base_steps": 4, "text": 4000, "language_rates": (1e-2,)},
    "cpu": {"seeds": (0, 1, 2), "few": 200, "rows": 1024, "epochs": 20, "width": 32,
            "rates": (1e-3, 3e-3, 1e-2, 3e-2), "steps": 80, "blocks": 2, "base_steps": 300,
            "text": 200_000, "language_rates": (1e-2, 3e-2),
            "adapters": ("LoRA r=1", "LoRA r=4", "full")},
    "gpu": {"seeds": (0, 1, 2, 3, 4), "few": 200, "rows": 2048, "epochs": 60, "width": 64,
            "rates": (1e-3, 3e-3, 1e-2, 3e-2), "steps": 2000, "blocks": 8, "base_steps": 8000,
            "text": 4_000_000, "language_rates": (1e-3, 3e-3, 1e-2, 3e-2)},
}  # fmt: skip
LEFT_OUT = {
    "smoke": "Few pictures, one seed: this only shows that the measurement runs.",
    "cpu": "Widths, budgets and rates of the paper are not known; pictures are 14 x 14.",
    "gpu": "Widths, budgets and rates of the paper are not known.",
}
ANGLE, OTHER_ANGLES = 45, (90, 180)
SPARSITIES = (0.1, 0.3, 1.0)
POINT = 1.0
WINDOW = 64
PICTURED = 0
"""The site whose neurons the picture shows: the first hidden layer."""


def mlp(width: int) -> nn.Sequential:
    """196-w-w-10."""
    return nn.Sequential(
        nn.Linear(196, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


class Digits:
    """A seed's pictures: few of both kinds for the base, turned ones for the modes."""

    def __init__(self, settings: dict[str, Any], seed: int) -> None:
        pictures, labels = data.images("mnist-5k")
        order = np.random.default_rng(seed).permutation(len(pictures))
        self.pictures, self.labels = pictures[order], torch.from_numpy(labels[order]).long()
        few, rows = settings["few"], settings["rows"]
        held = min(1000, rows)
        ends = np.cumsum([few, few, rows, held // 2, held])
        self.parts = dict(zip(
            ("upright", "turned", "train", "validation", "test"),
            (slice(a, b) for a, b in zip([0, *ends], ends, strict=False)), strict=True,
        ))  # fmt: skip
        self.seed, self.settings = seed, settings

    def rows(self, part: str, angle: int) -> tuple[Tensor, Tensor]:
        """(n, 196) pictures of a part, turned, and (n,) labels."""
        there = self.pictures[self.parts[part]].astype(np.float32) / 255
        turned = ndimage.rotate(  # type: ignore[attr-defined]  # its stubs lack it
            there, angle, axes=(1, 2), reshape=False, order=1
        )
        x = functional.avg_pool2d(torch.from_numpy(turned)[:, None], 2).flatten(1)
        return x, self.labels[self.parts[part]]

    def base(self) -> nn.Module:
        """A network that has learned a few upright and a few turned pictures."""
        torch.manual_seed(self.seed)
        both = [self.rows("upright", 0), self.rows("turned", ANGLE)]
        x, y = (torch.cat(parts) for parts in zip(*both, strict=True))
        return self._trained(mlp(self.settings["width"]), x, y, 1e-3)

    def _trained(self, model: nn.Module, x: Tensor, y: Tensor, lr: float) -> nn.Module:
        batches = ArrayBatches({"x": x, "y": y}, 64, seed=self.seed)
        rule = Backprop(_loss, lr=lr)
        epochs = self.settings["epochs"]
        return train(model, rule, batches, max_epochs=epochs, seed=self.seed, device="cpu").model

    def mode(self, base: nn.Module, lr: float, angle: int = ANGLE, **knobs: Any) -> TauGate:
        """A mode for turned pictures."""
        made: TauGate = dopamine(
            base, self.rows("train", angle), loss=functional.cross_entropy, lr=lr, batch_size=64,
            epochs=self.settings["epochs"], random_state=self.seed, device="cpu",
            **{"form": "soft"} | knobs,
        )  # fmt: skip
        return made

    def adapted(self, base: nn.Module, lr: float, config: Any) -> nn.Module:
        """The base with an adapter of peft that has learned turned pictures; None: all weights."""
        model = copy.deepcopy(base)
        if config is not None:
            from peft import get_peft_model

            torch.manual_seed(self.seed)
            made: Any = get_peft_model(model, config)  # type: ignore[arg-type]
            model = made
        return self._trained(model, *self.rows("train", ANGLE), lr)

    def accuracy(self, model: nn.Module, part: str, angle: int = ANGLE) -> float:
        """In percent."""
        x, y = self.rows(part, angle)
        with torch.no_grad():
            return 100 * float((model.eval()(x).argmax(1) == y).double().mean())


def _loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return functional.cross_entropy(model(batch["x"]), batch["y"])


def _peft_config(name: str) -> Any:
    """LoRA of every layer, or IA3 on the units of the hidden layers; None for all weights."""
    if name == "full":
        return None
    from peft import IA3Config, LoraConfig

    if name == "IA3":
        return IA3Config(target_modules=["2", "4"], feedforward_modules=["2", "4"])
    rank = int(name.removeprefix("LoRA r="))
    return LoraConfig(r=rank, lora_alpha=rank, target_modules=["0", "2", "4"])


MODES: dict[str, dict[str, Any]] = {
    "TauGate": {}, "gain only": {"learn": ["gain"]}, "threshold only": {"learn": ["tau"]},
    "bias only": {"learn": ["bias"]},
}  # fmt: skip
ADAPTERS = ("IA3", "LoRA r=1", "LoRA r=2", "LoRA r=4", "full")
"""Peers, where the settings name no fewer; peft's IA3 is the mode of gains alone."""


def _on_digits(settings: dict[str, Any], note: Callable[[str, float], None], seed: int) -> None:
    digits = Digits(settings, seed)
    base = digits.base()
    for angle, where in ((ANGLE, "turned"), (0, "upright")):
        note(f"frozen {where}", digits.accuracy(base, "test", angle))
    note("frozen numbers", 0)

    def judged(
        name: str, make: Callable[[float], Any], on: Callable[[Any, str, int], float]
    ) -> Any:
        """The one of the best rate on validation pictures, tested; and its rate."""
        tried = [(rate, make(rate)) for rate in settings["rates"]]
        rate, best = max(tried, key=lambda one: on(one[1], "validation", ANGLE))
        note(f"{name} turned", on(best, "test", ANGLE))
        note(f"{name} upright", on(best, "test", 0))
        note(f"{name} rate", rate)
        return rate, best

    def with_mode(mode: TauGate, part: str, angle: int) -> float:
        with mode.on(base):
            return digits.accuracy(base, part, angle)

    rates = {}
    for name, knobs in MODES.items():
        rates[name], mode = judged(name, partial(digits.mode, base, **knobs), with_mode)
        note(f"{name} numbers", mode.count)
        if name == "TauGate":
            plain = mode
            note("TauGate hard turned", with_mode(mode.hardened(), "test", ANGLE))
    for name in settings.get("adapters", ADAPTERS):
        config = _peft_config(name)
        _, model = judged(name, partial(digits.adapted, base, config=config), digits.accuracy)
        note(f"{name} numbers", sum(p.numel() for p in model.parameters() if p.requires_grad))
    _sparse(digits, base, plain, rates["TauGate"], with_mode, note)


def _sparse(
    digits: Digits,
    base: nn.Module,
    plain: TauGate,
    rate: float,
    with_mode: Callable[[TauGate, str, int], float],
    note: Callable[[str, Any], None],
) -> None:
    """The sparsity term: the largest that costs at most a point on validation pictures, and the
    same with a sharpness that rises.
    """
    whole = with_mode(plain, "validation", ANGLE)
    tried = {weight: digits.mode(base, rate, sparsity=weight) for weight in SPARSITIES}
    fine = [w for w, mode in tried.items() if with_mode(mode, "validation", ANGLE) >= whole - POINT]
    weight = max(fine, default=SPARSITIES[0])
    sparse, strong = tried[weight], tried[SPARSITIES[-1]]
    rising = digits.mode(base, rate, sparsity=SPARSITIES[-1], sharpness=20.0, anneal_from=2.0)
    note("sparsity chosen", weight)
    note("sparse turned", with_mode(sparse, "test", ANGLE))
    for name, mode in (
        ("TauGate", plain),
        ("sparse", sparse),
        ("strong", strong),
        ("rising", rising),
    ):
        found = attribute(
            base, digits.rows("test", ANGLE), modes=[mode], loss=functional.cross_entropy
        )
        note(f"{name} strongly active", 100 * found.summary["strongly active in mode"])
        soft, hard = (with_mode(m, "test", ANGLE) for m in (mode, mode.hardened()))
        note(f"{name} gap", abs(soft - hard))
    if digits.seed == 0:
        _neurons(digits, base, rate, weight, note)


def _neurons(
    digits: Digits, base: nn.Module, rate: float, weight: float, note: Callable[[str, Any], None]
) -> None:
    """Firing rates of the neurons of a layer, on turned pictures: of the base, and of modes."""
    for angle in (ANGLE, *OTHER_ANGLES):
        mode = digits.mode(base, rate, angle, sparsity=weight, name=f"{angle}")
        found = attribute(
            base, digits.rows("test", angle), modes=[mode], loss=functional.cross_entropy
        ).tables["units"]
        layer = found[found.index.str.startswith(f"{list(mode.sites)[PICTURED]}[")]
        if angle == ANGLE:
            note("rates base", layer["rate base"].round(3).tolist())
        note(f"rates {angle}", layer[f"rate {angle}"].round(3).tolist())


def _on_language(settings: dict[str, Any], note: Callable[[str, Any], None], seed: int) -> None:
    """Bits a byte of Python source: a model of reviews, with a mode, with gains, with LoRA."""
    from peft import LoraConfig, get_peft_model

    text = data.text("python-source")[: settings["text"]].encode("ascii", "replace")
    codes = torch.tensor(list(text))
    rows = codes[: len(codes) // WINDOW * WINDOW].view(-1, WINDOW)
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]
    held = min(len(rows) // 4, 256)
    parts = {"test": rows[:held], "validation": rows[held : 2 * held]}
    seen = rows[2 * held :][: settings["steps"] * 16]
    batches = [{"input_ids": part, "labels": part} for part in seen.split(16)]
    base = byte_model(settings["blocks"], seed, settings["base_steps"]).cpu().eval()

    @torch.no_grad()
    def bits(model: nn.Module, part: str) -> float:
        losses = [float(model.eval()(input_ids=r, labels=r).loss) for r in parts[part].split(64)]
        return sum(losses) / len(losses) / math.log(2)

    def with_mode(mode: TauGate, part: str) -> float:
        with mode.on(base):
            return bits(base, part)

    def mode(rate: float, **knobs: Any) -> TauGate:
        made: TauGate = dopamine(
            base, batches, lr=rate, epochs=1, random_state=seed, device="cpu",
            **{"form": "soft"} | knobs,
        )  # fmt: skip
        return made

    def lora(rate: float) -> nn.Module:
        torch.manual_seed(seed)
        config = LoraConfig(r=1, lora_alpha=1, target_modules="all-linear", task_type="CAUSAL_LM")
        model: Any = get_peft_model(copy.deepcopy(base), config)  # type: ignore[arg-type]
        rule = Backprop(lambda m, batch: m(**batch).loss, lr=rate)
        listed = ListBatches(batches, seed=seed)
        return train(model, rule, listed, max_epochs=1, seed=seed, device="cpu").model

    note("frozen bits", bits(base, "test"))
    for init in ("zero", "auto"):  # of gates that have learned nothing to speak of
        note(f"begun at {init} bits", with_mode(mode(1e-12, init=init), "test"))
    cases: dict[str, tuple[Callable[[float], Any], Callable[[Any, str], float]]] = {
        "TauGate": (mode, with_mode),
        "gain only": (lambda rate: mode(rate, learn=["gain"]), with_mode),
        "LoRA r=1": (lora, bits),
    }
    for name, (make, score) in cases.items():
        tried = [make(rate) for rate in settings["language_rates"]]
        best = min(tried, key=lambda one: score(one, "validation"))
        note(f"{name} bits", score(best, "test"))
        count = best.count if isinstance(best, TauGate) else _learned(best)
        note(f"{name} numbers", count)


def _learned(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def measure(scale: Scale) -> list[Claim]:
    """The claims of TauGate."""
    settings = SETTINGS[scale]
    seeds = list(settings["seeds"])
    digits: dict[str, list[Any]] = {}
    language: dict[str, list[Any]] = {}

    def noting(found: dict[str, list[Any]]) -> Callable[[str, Any], None]:
        def note(what: str, value: Any) -> None:
            given = round(float(value), 5) if not isinstance(value, list) else value
            found.setdefault(what, []).append(given)

        return note

    for seed in seeds:
        _on_digits(settings, noting(digits), seed)
    few = seeds[:3]
    for seed in few:
        _on_language(settings, noting(language), seed)
    return _claims(digits, language, seeds, few, scale)


def _minus(found: dict[str, list[float]], left: str, right: str) -> list[float]:
    return [a - b for a, b in zip(found[left], found[right], strict=True)]


def _claims(
    digits: dict[str, list[Any]],
    language: dict[str, list[Any]],
    seeds: list[int],
    few: list[int],
    scale: Scale,
) -> list[Claim]:
    made: list[Claim] = []

    def claim(
        id: str,
        statement: str,
        differences: list[float],
        margin: float,
        names: list[str],
        found: dict[str, list[Any]] | None = None,
        why: str = "",
    ) -> None:
        from_where = digits if found is None else found
        numbers: dict[str, Any] = {
            "unit": "accuracy in %" if found is None else "bits a byte", "margin": margin,
            **{name: from_where[name] for name in names},
            "differences": [round(value, 4) for value in differences],
        }  # fmt: skip
        verdict = judge(differences, margin=margin)
        said = LEFT_OUT[scale] if verdict == "holds" else f"{LEFT_OUT[scale]} {why}".strip()
        made.append(Claim(id, statement, verdict, numbers, seeds if found is None else few, said))

    compared = ["frozen", *MODES, *(name for name in ADAPTERS if f"{name} turned" in digits)]
    everything = [
        f"{name} {what}" for name in compared for what in ("turned", "upright", "numbers")
    ]
    claim("better-than-frozen", "A mode beats the frozen base on turned digits by a point.",
          _minus(digits, "TauGate turned", "frozen turned"), POINT, everything)  # fmt: skip
    claim("below-lora", "LoRA of rank 1 is better than the mode, with more numbers.",
          _minus(digits, "LoRA r=1 turned", "TauGate turned"), 0.0,
          ["TauGate turned", "LoRA r=1 turned", "TauGate numbers", "LoRA r=1 numbers"])  # fmt: skip
    claim("hard-as-soft", "Hardening the gates costs at most a point either way.",
          [-gap for gap in digits["TauGate gap"]], -POINT,
          ["TauGate turned", "TauGate hard turned", "TauGate gap"])  # fmt: skip
    claim("a-minority-is-active",
          "With a sparsity term a minority of the units is strongly active, at most a point worse.",
          [min((50 - share) / 50, (POINT + more) / POINT) for share, more in zip(
              digits["sparse strongly active"], _minus(digits, "sparse turned", "TauGate turned"),
              strict=True)], 0.0,
          ["sparsity chosen", "sparse strongly active", "TauGate strongly active", "sparse turned",
           "TauGate turned"],
          why="The difference is the smaller of two margins, each as a share of what is allowed: "
          "units below half, and accuracy above a point's loss.")  # fmt: skip
    claim("thresholds-add", "Thresholds beside gains are better than gains alone.",
          _minus(digits, "TauGate turned", "gain only turned"), 0.0,
          ["TauGate turned", "gain only turned", "threshold only turned", "bias only turned"],
          why="The gain does most of the work; what thresholds bring is a choice of neurons that "
          "can be read and cut.")  # fmt: skip
    claim("rising-sharpness",
          "With a strong sparsity term a sharpness that rises brings soft and hard together.",
          _minus(digits, "strong gap", "rising gap"), 0.0,
          ["strong gap", "rising gap", "strong strongly active", "rising strongly active"],
          why="The gap is of test pictures and small, so that the seeds differ by as "
          "much.")  # fmt: skip
    gained = ["frozen bits", "TauGate bits", "gain only bits", "LoRA r=1 bits", "TauGate numbers",
              "gain only numbers", "LoRA r=1 numbers"]  # fmt: skip
    claim("language-mode", "A mode of a language model beats the frozen base on a new domain.",
          _minus(language, "frozen bits", "TauGate bits"), 0.0, gained, language)  # fmt: skip
    claim("language-below-lora", "There too LoRA of rank 1 is better.",
          _minus(language, "TauGate bits", "LoRA r=1 bits"), 0.0, gained, language)  # fmt: skip
    claim("quantiles-begin-closer",
          "With a SiLU, thresholds at a low quantile begin closer to the base than at 0.",
          [abs(z - f) - abs(a - f) for z, a, f in zip(
              language["begun at zero bits"], language["begun at auto bits"],
              language["frozen bits"], strict=True)], 0.0,
          ["frozen bits", "begun at zero bits", "begun at auto bits"], language)  # fmt: skip
    rates = {name: values[0] for name, values in digits.items() if name.startswith("rates ")}
    made[3].numbers |= rates
    return made


def picture(record: dict[str, Any]) -> "Figure":
    """Left: accuracy on digits turned by 45 degrees by the numbers that are learned; mean and range
    of the seeds. Right: modes by neuron, how often each neuron of the first layer fires in the
    base and in sparse modes for three turns.
    """
    from matplotlib.figure import Figure

    numbers = numbers_of(record, "better-than-frozen")
    rates = {
        name.removeprefix("rates "): values
        for name, values in numbers_of(record, "a-minority-is-active").items()
        if name.startswith("rates ")
    }
    figure = Figure(figsize=(9.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    shown = [name for name in (*MODES, *ADAPTERS) if f"{name} turned" in numbers and name != "IA3"]
    for name in shown:
        found = np.array(numbers[f"{name} turned"])
        colour = BLUE if name == "TauGate" else ORANGE if name in MODES else GREY
        count = numbers[f"{name} numbers"][0]
        left.errorbar(
            count, found.mean(), yerr=[[found.mean() - found.min()], [found.max() - found.mean()]],
            fmt="o", color=colour, lw=1.2, ms=5,
        )  # fmt: skip
        above, side = (
            (5, -6) if name == "threshold only" else (-10 if name == "bias only" else 5, 6)
        )
        left.annotate(
            name, (count, found.mean()), xytext=(side, above), textcoords="offset points",
            fontsize=8, color=colour, ha="right" if side < 0 else "left",
        )  # fmt: skip
    left.margins(x=0.25)
    left.axhline(np.mean(numbers["frozen turned"]), color="black", lw=1, ls=":")
    left.text(0.98, np.mean(numbers["frozen turned"]), "frozen", fontsize=8, ha="right",
              va="bottom", transform=left.get_yaxis_transform())  # fmt: skip
    left.set_xscale("log")
    left.set_xlim(left=0.08 * min(numbers[f"{name} numbers"][0] for name in MODES))
    left.set_xlabel("numbers that are learned")
    left.set_ylabel("test accuracy, turned digits, in %")
    left.spines[["top", "right"]].set_visible(False)
    order = np.argsort(-np.array(rates["base"]), kind="stable")
    drawn = np.stack([np.array(values)[order] for values in rates.values()])
    image = right.imshow(drawn, aspect="auto", cmap="magma", vmin=0, vmax=1,
                         interpolation="nearest")  # fmt: skip
    words = ["base, 45°" if name == "base" else f"mode {name}°" for name in rates]
    right.set_yticks(range(len(words)), words)
    right.set_xticks([])
    right.set_xlabel("neurons of the first layer")
    figure.colorbar(image, ax=right, label="firing rate")
    return figure
