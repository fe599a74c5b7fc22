"""Does the mask help, do the norms, and is MaskNet better than a DNN and DeepFM?

On MovieLens-100k, split by time and with every id kept; on clicks whose interactions are known; and
on two ordinary tables. Every model of a comparison sees the same columns and rows, stops on the
same validation rows and may choose among the same learning rates there, by the score that the
claim is about; the test part is used once a model. The split by time is one, so that seeds differ
in the first weights and the order of the rows alone: beside each difference stands its 95 %
interval from drawing the test rows anew.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from stackwise.build.masknet import MaskNet, MaskNetClassifier
from stackwise.build.masknet.peers import DeepFMClassifier, DNNClassifier
from stackwise.evidence.claims import Claim, Scale, Verdict, judge
from stackwise.evidence.pictures import dots, numbers_of
from stackwise.evidence.product_clicks import ProductClicks, product_clicks
from stackwise.evidence.tuned_fits import Fit, chosen, interval, points, tuned
from stackwise.tasks.table.baselines import GradientBoostingClassifier, MLPClassifier
from stackwise.tasks.table.task import TableTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"ratings": 1500, "clicks": 1200, "tables": ("adult",), "rows": 400, "seeds": (0,),
              "lrs": (1e-3,), "width": 16, "max_epochs": 1, "patience": 1, "draws": 5},
    "cpu": {"ratings": None, "clicks": 60_000, "tables": ("adult", "credit-default"),
            "rows": 6000, "seeds": (0, 1, 2), "lrs": (1e-3, 3e-4), "width": 128,
            "max_epochs": 12, "patience": 3, "draws": 200},
    "gpu": {"ratings": None, "clicks": 2_000_000, "tables": ("adult", "credit-default"),
            "rows": 50_000, "seeds": (0, 1, 2, 3, 4), "lrs": (1e-3, 3e-4, 1e-4), "width": 400,
            "max_epochs": 40, "patience": 5, "draws": 200},
}  # fmt: skip
LEFT_OUT = {
    "smoke": "A few rows and one seed: this only shows that the measurement runs.",
    "cpu": "80,000 training rows; the paper's tables have 8.9 to 45 million.",
    "gpu": "No public click log of the paper's size is packaged.",
}
NO_NORMS = {"embedding_norm": False, "hidden_norm": False}
MODELS: dict[str, tuple[type, dict[str, Any]]] = {
    "DNN": (DNNClassifier, {}),
    "DeepFM": (DeepFMClassifier, {}),
    "serial": (MaskNetClassifier, {}),
    "serial, no mask": (MaskNetClassifier, {"mask": False}),
    "serial, no norms": (MaskNetClassifier, NO_NORMS),
    "serial, one block": (MaskNetClassifier, {"blocks": 1}),
    "parallel": (MaskNetClassifier, {"variant": "parallel"}),
    "parallel, no mask": (MaskNetClassifier, {"variant": "parallel", "mask": False}),
}
CLICK_MODELS: dict[str, dict[str, Any]] = {
    "masks": {},
    "masks, no norms": NO_NORMS,
    "without masks": {},
    "without masks, no norms": NO_NORMS,
}
"""Those without masks are as much wider as it takes to have as many parameters."""


class Ratings:
    """Every model on MovieLens-100k, by name and seed."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        task = TableTask.load(
            "movielens-100k", time="timestamp", drop=["timestamp"], validation=0.1, test=0.1,
            metric="auc", max_rows=settings["ratings"],
        )  # fmt: skip
        self.fits = {name: [self._fit(task, name, s) for s in settings["seeds"]] for name in MODELS}

    def _fit(self, task: TableTask, name: str, seed: int) -> Fit:
        cls, knobs = MODELS[name]
        given = {key: self.settings[key] for key in ("width", "max_epochs", "patience")}
        given |= {"random_state": seed, "head": (self.settings["width"],)} | knobs
        return tuned(task, partial(cls, **given), self.settings["lrs"], "roc_auc")

    def numbers(self) -> dict[str, Any]:
        """Mean scores of every model, and the learning rates that were chosen."""
        return {
            "test_auc": {n: _mean(f.test["roc_auc"] for f in fits) for n, fits in self._each()},
            "test_log_loss": {
                n: _mean(f.test["log_loss"] for f in fits) for n, fits in self._each()
            },
            "validation_auc": {n: _mean(f.validation for f in fits) for n, fits in self._each()},
            "chosen_lr": {n: [f.lr for f in fits] for n, fits in self._each()},
        }

    def _each(self) -> list[tuple[str, list[Fit]]]:
        return list(self.fits.items())


def measure(scale: Scale) -> list[Claim]:
    """The claims of MaskNet."""
    settings = SETTINGS[scale]
    return [
        *_ratings_claims(settings, scale),
        *_clicks_claims(settings, scale),
        *_table_claims(settings, scale),
    ]


def _ratings_claims(settings: Mapping[str, Any], scale: Scale) -> list[Claim]:
    ratings = Ratings(settings)
    seeds, fits = list(settings["seeds"]), ratings.fits
    claims: list[Claim] = []

    def compared(
        id: str,
        statement: str,
        ours: Sequence[Fit],
        others: Sequence[Fit],
        margin: float = 0.0,
        why: str = "",
    ) -> None:
        ahead = points(ours, others)
        span = interval(ours, others, settings["draws"])
        unsure = (
            " The interval holds the border: the test rows alone do not decide."
            if span[0] <= margin <= span[1]
            else ""
        )
        numbers = {
            "auc_points_by_seed": [round(value, 3) for value in ahead],
            "auc_points": _mean(ahead),
            "interval_95_percent": span,
            "margin": margin,
            "test_auc": [_mean([fit.test["roc_auc"]]) for fit in ours],
            "test_auc_of_the_other": [_mean([fit.test["roc_auc"]]) for fit in others],
        }
        if not claims:  # once is enough
            numbers["all_models"] = ratings.numbers()
        verdict = judge(ahead, margin=margin)
        reason = f" {why}" if why and verdict != "holds" else ""
        explanation = LEFT_OUT[scale] + reason + unsure
        claims.append(Claim(id, statement, verdict, numbers, seeds, explanation))

    on = "on MovieLens-100k, by AUC."
    fast = "It overfits within a few epochs here; its norms are what costs it (see `norms-help`)."
    compared("serial-beats-dnn", f"The serial net beats a DNN {on}",
             fits["serial"], fits["DNN"], why=fast)  # fmt: skip
    compared("parallel-beats-dnn", f"The parallel net beats a DNN {on}",
             fits["parallel"], fits["DNN"], why=fast)  # fmt: skip
    compared("serial-beats-deepfm", f"The serial net beats DeepFM {on}",
             fits["serial"], fits["DeepFM"], why=fast)  # fmt: skip
    compared("mask-helps-serial", f"The serial net is better with its masks {on}",
             fits["serial"], fits["serial, no mask"])  # fmt: skip
    compared("mask-helps-parallel", f"The parallel net is better with its masks {on}",
             fits["parallel"], fits["parallel, no mask"])  # fmt: skip
    compared("norms-help", f"The serial net is better with its norms {on}",
             fits["serial"], fits["serial, no norms"],
             why="A norm makes the embedding of an id with few rows as large as any other, so "
             "that its noise counts as much.")  # fmt: skip
    compared("blocks-help", f"Three blocks are better than one {on}",
             fits["serial"], fits["serial, one block"])  # fmt: skip
    compared(
        "near-the-best", "With its norms chosen on validation rows, the serial net is within 0.3 "
        f"points of the better of DNN and DeepFM {on}",
        chosen(fits["serial"], fits["serial, no norms"]),
        max(fits["DNN"], fits["DeepFM"], key=lambda fit: _mean(f.test["roc_auc"] for f in fit)),
        margin=-0.3,
    )  # fmt: skip
    return claims


def _clicks_claims(settings: Mapping[str, Any], scale: Scale) -> list[Claim]:
    fits: dict[str, list[Fit]] = {name: [] for name in CLICK_MODELS}
    ceiling, gaps, ranks = [], [], []
    for seed in settings["seeds"]:
        world = product_clicks(settings["clicks"], seed=seed)
        task = TableTask.load(
            world.frame, target="click", validation=0.1, test=0.2, metric="auc", split_seed=seed
        )
        given = {key: settings[key] for key in ("width", "max_epochs", "patience")}
        given |= {"random_state": seed}
        for name, knobs in CLICK_MODELS.items():
            if name.startswith("without masks"):
                knobs = knobs | {"mask": False, "width": equal_width(fits["masks"][-1])}
            build = partial(MaskNetClassifier, **given | knobs)
            fits[name].append(tuned(task, build, settings["lrs"], "roc_auc"))
        X, _ = task.part("test")
        ceiling.append(roc_auc_score(fits["masks"][-1].truth, world.logit[X.index.to_numpy()]))
        effects = pair_effects(fits["masks"][-1].model, X, world, seed=seed)
        true, other = ([effects[p] for p in pairs] for pairs in (world.pairs, world.other_pairs))
        gaps.append(min(true) / max(other))
        ranks.append(roc_auc_score([1] * len(true) + [0] * len(other), [*true, *other]))
    seeds = list(settings["seeds"])
    about = f"{settings['clicks']:,} made rows, 8 fields of 100 values, products of 4 pairs."
    claims: list[Claim] = []
    for id, statement, ours, others, why in (
        (
            "products-need-masks",
            "Where products of categories make the label, masks beat as many parameters without.",
            fits["masks"], fits["without masks"],
            "Both with their norms, as in the paper.",
        ),
        (
            "products-need-masks-norms-chosen",
            "Products need masks also where both nets may choose on validation rows to go without "
            "norms.",
            chosen(fits["masks"], fits["masks, no norms"]),
            chosen(fits["without masks"], fits["without masks, no norms"]),
            "Added after a first measurement, in which the validation rows of two seeds had the "
            "norms as what holds the masked net back.",
        ),
    ):  # fmt: skip
        ahead = points(ours, others)
        numbers: dict[str, Any] = {
            "auc_points_by_seed": [round(value, 3) for value in ahead],
            "test_auc": [_mean([fit.test["roc_auc"]]) for fit in ours],
            "test_auc_without_masks": [_mean([fit.test["roc_auc"]]) for fit in others],
            "auc_of_the_true_chances": [_mean([value]) for value in ceiling],
        }
        if not claims:
            numbers |= {
                "parameters": {n: _size(found[0].model.network_) for n, found in fits.items()},
                "chosen_lr": {n: [fit.lr for fit in found] for n, found in fits.items()},
            }
        claims.append(Claim(id, statement, judge(ahead), numbers, seeds, f"{about} {why}"))
    claims.append(
        Claim(
            "products-are-found",
            "The pairs that make the label interact more in the fitted net than any other pair.",
            judge(gaps, margin=1.0),
            {
                "weakest_true_over_strongest_other": [_mean([value]) for value in gaps],
                "ranking_auc_of_the_pairs": [_mean([value]) for value in ranks],
            },
            seeds,
            f"{about} A pair's interaction is the mean size of the second difference of the logit "
            "over swapped values; the net is the one with masks and norms.",
        )
    )
    return claims


def equal_width(fit: Fit) -> int:
    """The width with which a net without masks has at least as many parameters as this one."""
    network: MaskNet = fit.model.network_
    wanted = _size(network)
    width = network.arguments["width"]
    while True:
        with torch.device("meta"):
            plain = MaskNet(**network.arguments | {"mask": False, "width": width})
        if _size(plain) >= wanted:
            return int(width)
        width += 1


def _size(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def pair_effects(
    model: Any, X: Any, world: ProductClicks, *, rows: int = 256, seed: int = 0
) -> dict[tuple[int, int], float]:
    """Mean |F(a, b) - F(a', b) - F(a, b') + F(a', b')| of the logit F, for each pair of fields.

    The values a' and b' are those of another row, so that a sum of one-field effects gives 0.
    """
    start = X.iloc[:rows]
    swapped = start.sample(frac=1.0, random_state=seed).set_axis(start.index)

    def logit(fields: Sequence[int]) -> np.ndarray:
        changed = start.copy()
        for field in fields:
            changed[f"c{field}"] = swapped[f"c{field}"]
        chance = np.clip(model.predict_proba(changed)[:, 1], 1e-9, 1 - 1e-9)
        return np.asarray(np.log(chance / (1 - chance)))

    whole, one = logit(()), {i: logit((i,)) for i in range(X.shape[1])}
    return {
        (i, j): float(np.abs(whole - one[i] - one[j] + logit((i, j))).mean())
        for i, j in sorted((*world.pairs, *world.other_pairs))
    }


def _table_claims(settings: Mapping[str, Any], scale: Scale) -> list[Claim]:
    """Ordinary tables: log loss of the serial net, a plain MLP and gradient boosting."""
    losses: dict[str, dict[str, list[float]]] = {}
    for table in settings["tables"]:
        for seed in settings["seeds"]:
            task = TableTask.load(table, split_seed=seed, max_rows=settings["rows"])
            given = {"width": settings["width"], "random_state": seed}
            given |= {
                "max_epochs": 3 * settings["max_epochs"],
                "patience": 2 * settings["patience"],
            }
            lrs = settings["lrs"]
            builds: dict[str, tuple[Callable[..., Any], Sequence[float]]] = {
                "serial": (partial(MaskNetClassifier, **given), lrs),
                "MLP": (partial(MLPClassifier, **given), lrs),
                "trees": (
                    partial(GradientBoostingClassifier, random_state=seed), [100 * lr for lr in lrs]
                ),
            }  # fmt: skip
            for name, (build, rates) in builds.items():
                fit = tuned(task, build, rates, "log_loss", sign=-1)
                found = losses.setdefault(name, {}).setdefault(table, [])
                found.append(fit.test["log_loss"])
    claims = []
    for other, statement in (
        ("MLP", "On ordinary tables the serial net is at least as good as a plain MLP."),
        ("trees", "On ordinary tables the serial net is at least as good as gradient boosting."),
    ):
        gains = {
            table: [
                100 * (theirs - ours) / theirs
                for ours, theirs in zip(losses["serial"][table], losses[other][table], strict=True)
            ]
            for table in losses["serial"]
        }
        by_seed = [float(value) for value in np.mean(list(gains.values()), axis=0)]
        claims.append(
            Claim(
                f"tables-{other.lower()}",
                statement,
                _in_all(judge(by_seed, margin=-0.3), gains, -0.3),
                {
                    "gain_percent_by_table": {t: _mean(v) for t, v in gains.items()},
                    "gain_percent_by_seed": [round(value, 3) for value in by_seed],
                    "test_log_loss": {t: _rounded(v) for t, v in losses["serial"].items()},
                    f"test_log_loss_{other}": {t: _rounded(v) for t, v in losses[other].items()},
                    "margin_percent": -0.3,
                },
                list(settings["seeds"]),
                f"By log loss on tables of at most {settings['rows']:,} training rows; within "
                "0.3 % counts as equal.",
            )
        )
    return claims


def _in_all(verdict: Verdict, gains: Mapping[str, list[float]], margin: float) -> Verdict:
    """A table whose own mean falls short makes a claim hold in part."""
    short = any(float(np.mean(values)) <= margin for values in gains.values())
    return "holds in part" if verdict == "holds" and short else verdict


def _mean(values: Any) -> float:
    return float(f"{float(np.mean(list(values))):.5g}")


def _rounded(values: list[float]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def picture(record: dict[str, Any]) -> "Figure":
    """What masks, blocks and norms win on MovieLens-100k, and the nets against their peers, in
    points of AUC, a dot a seed: right of the line the first of each pair is better.
    """
    rows = {
        "mask-helps-serial": "masks, serial",
        "mask-helps-parallel": "masks, parallel",
        "blocks-help": "three blocks, not one",
        "norms-help": "norms",
        "near-the-best": "norms chosen: best peer",
        "serial-beats-dnn": "serial: a DNN",
        "serial-beats-deepfm": "serial: DeepFM",
        "parallel-beats-dnn": "parallel: a DNN",
    }
    shown = {
        words: {"": numbers_of(record, claim)["auc_points_by_seed"]}
        for claim, words in rows.items()
    }
    return dots(shown, label="points of AUC won", zero=True)
