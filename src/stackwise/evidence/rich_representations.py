"""Do the features of several seeds serve new classes and shifted data better than one network's?

Digits (1,797 pictures of 8 x 8) and mnist-5k at 14 x 14. A seed draws which five classes are the
source, on which networks learn, and which five the target, on which a probe gets a few labels a
class. On digits networks are multi-layer perceptrons of width 32, on mnist-5k small residual
networks. Every probe, of whatever representation, has C chosen on as many target rows as it learns
from; the rest of the target is for the test, once. Few labels are drawn three times and the
accuracies averaged. One learning rate and one number of epochs for all, those of a wide network and
of a joint training included.
"""

import copy
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.base import clone

from stackwise.combine.rich_representations import RichRepresentation, rich_representations
from stackwise.combine.rich_representations.members import Rows, planned
from stackwise.combine.rich_representations.probing import choose_penalty, fit_head, fit_sliced
from stackwise.combine.rich_representations.tuning import Budget, all_at_once
from stackwise.data import images
from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.evidence.picture_fits import least_with, size_of
from stackwise.evidence.pictures import BLUE, COLOURS, GREY, ORANGE, canvas, numbers_of
from stackwise.tasks.images.baselines.residual_cnn import ResidualCNN, ResidualCNNClassifier
from stackwise.tasks.table.baselines.mlp import MLP, MLPClassifier

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"seeds": (0,), "counts": (1, 2), "epochs": 1, "draws": 1, "shots": (5,),
              "pictures": None, "colour": None, "tuning": 1},
    "cpu": {"seeds": (0, 1, 2), "counts": (1, 2, 4, 8), "epochs": 60, "draws": 3, "shots": (5, 20),
            "pictures": {"counts": (1, 2, 4), "width": 8, "epochs": 5, "side": 14},
            "colour": {"rows": 1000, "count": 4, "epochs": 20}, "tuning": 20},
    "gpu": {"seeds": (0, 1, 2), "counts": (1, 2, 4, 8, 16), "epochs": 60, "draws": 20,
            "shots": (5, 20, 50),
            "pictures": {"counts": (1, 2, 4, 8), "width": 32, "epochs": 40, "side": 28},
            "colour": {"rows": 1500, "count": 20, "epochs": 30}, "tuning": 60},
}  # fmt: skip
LEFT_OUT = {
    "smoke": "One seed and few epochs: this only shows that the measurement runs.",
    "cpu": "Digits for ImageNet: 5 classes for 1,000, networks of 3,300 weights for 23 million, 3 "
    "seeds, no SWAV, no ViT; the representations of one seed are nested (CAT4 is half of CAT8).",
    "gpu": "Digits for ImageNet; the representations of one seed are nested.",
}
WIDTH, LR, DECAY, BETA = 32, 3e-3, 0.3, 10.0


class Target:
    """Rows of classes that no network has seen, and draws of a few labels of them."""

    def __init__(self, y: np.ndarray, shots: int, draws: int, seed: int) -> None:
        _, self.y = np.unique(y, return_inverse=True)
        self.parts = []
        for draw in range(draws):
            order = np.random.default_rng([seed, draw, shots]).permutation(len(y))
            of_class = [order[self.y[order] == code] for code in range(self.y.max() + 1)]
            ends = ((0, shots), (shots, 2 * shots), (2 * shots, None))
            self.parts.append([np.concatenate([rows[a:b] for rows in of_class]) for a, b in ends])

    def accuracy(self, Z: np.ndarray, sizes: Sequence[int] | None = None) -> float:
        """Per cent of the test rows, mean over draws, of a probe on (n, d) features.

        Args:
            sizes: of the members, for a probe each (`cat_sub`).
        """
        found = []
        for train, held, test in self.parts:
            rows, out = ((Z[part], self.y[part], None) for part in (train, held))
            classes = int(self.y.max()) + 1
            if sizes is None:
                C = choose_penalty(rows, out, classes)
                head: Any = fit_head(rows, classes, C=C)
            else:
                head = fit_sliced(rows, out, sizes, classes)
            with torch.no_grad():
                logits = head(torch.as_tensor(Z[test]).float())
            values = logits.softmax(-1)
            values = values if values.ndim == 2 else values.mean(1)
            found.append(float((values.argmax(1).numpy() == self.y[test]).mean()))
        return round(100 * float(np.mean(found)), 3)


class Bench:
    """Accuracies in per cent by what was measured, a value a seed."""

    def __init__(self, scale: Scale) -> None:
        self.settings = SETTINGS[scale]
        self.scores: dict[str, list[float]] = {}
        self.parameters: dict[str, int] = {}

    def add(self, what: str, value: float) -> None:
        """One more seed."""
        self.scores.setdefault(what, []).append(round(value, 3))

    def measure(self) -> None:
        """Every seed."""
        for seed in self.settings["seeds"]:
            self.digits(seed)
            if self.settings["pictures"]:
                self.pictures(seed)
            if self.settings["colour"]:
                self.colour(seed)

    def digits(self, seed: int) -> None:
        """All representations on digits, as rows of 64 numbers."""
        settings = self.settings
        X, y = as_rows("digits")
        parts = parted(y, seed)
        most = max(settings["counts"])
        train, held, test = (X[part] for part in parts["source"])
        truth = [y[part] for part in parts["source"]]
        target = parts["target"]
        few = {k: Target(y[target], k, settings["draws"], seed) for k in settings["shots"]}
        common: dict[str, Any] = {
            "base": MLPClassifier(**mlp(WIDTH, settings["epochs"])), "random_state": seed,
            "threads": 1,
        }  # fmt: skip

        def made(**knobs: Any) -> RichRepresentation:
            rich = RichRepresentation(**common | knobs)
            return rich.fit(train, truth[0], validation=(held, truth[1]))

        def probe(what: str, Z: np.ndarray, sizes: Sequence[int] | None = None) -> None:
            for shots, rows in few.items():
                if shots != max(few) and not what.startswith("CAT"):
                    continue  # the fewest labels are for the curve of CAT alone
                self.add(f"{what}, {shots} labels", rows.accuracy(Z, sizes))

        cat = made(n=most)
        Z = cat.transform(X[target])
        self.parameters["a member"] = size_of(cat.members_[0].network_)
        for count in settings["counts"]:
            probe(f"CAT{count}", Z[:, : count * WIDTH])
            probe(f"sub{count}", Z[:, : count * WIDTH], [WIDTH] * count)
            first = RichRepresentation.of_members(cat.members_[:count], cat.classes_)
            first = first.probed(train, truth[0], validation=(held, truth[1]))
            self.add(f"CAT{count}, source", accuracy(first, test, truth[2]))
        some = settings["counts"][-2]  # members of the comparisons: 4 at scale cpu
        each = [member.predict_proba(test) for member in cat.members_[:some]]
        said = cat.classes_[np.mean(each, 0).argmax(1)]
        self.add("ensemble, source", 100 * float((said == truth[2]).mean()))
        soups = {"soup of seeds": cat.members_[:some]}
        for count in settings["counts"][-2:]:
            width = least_with(
                count * self.parameters["a member"], range(WIDTH, 2000),
                lambda w: MLP(n_numeric=64, cardinalities=[], n_outputs=5, width=w, n_blocks=2),
            )  # fmt: skip
            wide = made(n=1, base=MLPClassifier(**mlp(width, settings["epochs"])))
            self.parameters[f"wide{count}"] = size_of(wide.members_[0].network_)
            probe(f"wide{count}", wide.transform(X[target]))
            self.add(f"wide{count}, source", accuracy(wide, test, truth[2]))
        probe("decayed single", made(n=1, weight_decay=DECAY).transform(X[target]))
        probe(f"decayed CAT{some}", made(n=some, weight_decay=DECAY).transform(X[target]))
        probe(f"DISTILL{some}", made(n=some, mode="distill").transform(X[target]))
        snapshots = made(n=some, mode="snapshots")
        probe(f"CAT{some}-S", snapshots.transform(X[target]))
        soups["soup of snapshots"] = snapshots.members_
        probe(f"DISTILL{some}-S", made(n=some, mode="distill-snapshots").transform(X[target]))
        rows = Rows(train, truth[0], None, (held, truth[1]))
        budget = Budget(settings["epochs"], LR, seed=seed)
        joint = joint_training(clone(common["base"]), some, rows, budget)
        probe(f"joint{some}", joint.transform(X[target]))
        for what, members in soups.items():
            probe(what, soup(members).transform(X[target]))
        self._tuned(cat.members_[:some], X[target], y[target], max(settings["shots"]), seed)

    def _tuned(
        self, members: list[Any], X: np.ndarray, y: np.ndarray, shots: int, seed: int
    ) -> None:
        """Fine-tuning on the target: of one, in two stages, all at once."""
        train, held, test = Target(y, shots, 1, seed).parts[0]
        given = {"epochs": self.settings["tuning"], "lr": 1e-3, "random_state": seed}
        rows = np.concatenate([train, held])
        data = X[rows], y[rows]  # a fifth of which stops the tuning
        runs: dict[str, tuple[list[Any], dict[str, Any]]] = {
            "single": (members[:1], {"head_epochs": 0}),
            "two-stage": (members, {}),
            "ensemble of tuned": (members, {"head_epochs": 0}),
            "initial": (members, {"how": "initial"}),
        }
        for what, (some, knobs) in runs.items():
            tuned = rich_representations(some[0], data, members=some[1:], **given | knobs)
            self.add(f"tuned {what}", accuracy(tuned, X[test], y[test]))

    def pictures(self, seed: int) -> None:
        """CAT, sub and wide with convolutions, on mnist-5k."""
        own = self.settings["pictures"]
        X, y = as_pictures(own["side"])
        parts = parted(y, seed)
        target = parts["target"]
        shots = max(self.settings["shots"])
        few = Target(y[target], shots, self.settings["draws"], seed)
        (train, held, test), truth = ([of[p] for p in parts["source"]] for of in (X, y))
        most, width = max(own["counts"]), own["width"]

        def made(n: int, width: int) -> RichRepresentation:
            base = ResidualCNNClassifier(
                width=width, n_blocks=1, max_epochs=own["epochs"], augment="none", threads=1
            )
            rich = RichRepresentation(base, n, random_state=seed, threads=1)
            return rich.fit(train, truth[0], validation=(held, truth[1]))

        cat = made(most, width)
        single = size_of(cat.members_[0].network_)
        Z, size = cat.transform(X[target]), 4 * width
        for count in own["counts"]:
            part = Z[:, : count * size]
            self.add(f"pictures CAT{count}, {shots} labels", few.accuracy(part))
            found = few.accuracy(part, [size] * count)
            self.add(f"pictures sub{count}, {shots} labels", found)
        wider = least_with(
            most * single, range(width, 500),
            lambda w: ResidualCNN(channels=1, n_outputs=5, width=w, n_blocks=1),
        )  # fmt: skip
        wide = made(1, wider)
        self.parameters |= {
            "a member, pictures": single,
            f"pictures wide{most}": size_of(wide.members_[0].network_),
        }
        found = few.accuracy(wide.transform(X[target]))
        self.add(f"pictures wide{most}, {shots} labels", found)
        self.add("pictures wide, source", accuracy(wide, test, truth[2]))
        self.add("pictures CAT, source", accuracy(cat, test, truth[2]))

    def colour(self, seed: int) -> None:
        """Is a digit 5 or more? A quarter of the answers is wrong, and colour says them better than
        the shape does, in training.
        """
        own = self.settings["colour"]
        rng = np.random.default_rng(seed)
        X, y = as_pictures(14)
        order = rng.permutation(len(y))
        grey = X[order].reshape(len(y), -1) / np.float32(255)
        label = (y[order].astype(int) >= 5) ^ (rng.random(len(y)) < 0.25)
        rows = own["rows"]
        stops = {
            "0.9": (0, rows, 0.1),
            "0.8": (rows, 2 * rows, 0.2),
            "0.1": (2 * rows, len(y), 0.9),
        }
        found = {}
        for name, (start, stop, wrong) in stops.items():
            code = label[start:stop]
            red = (code ^ (rng.random(stop - start) < wrong))[:, None]
            part = grey[start:stop]
            found[name] = np.concatenate([part * red, part * ~red], 1), code.astype(int)
        X, y = (np.concatenate([found[name][k] for name in ("0.9", "0.8")]) for k in (0, 1))
        environment = np.repeat([0, 1], rows)
        held = np.arange(len(y)) % 5 == 0
        known = (X[~held], y[~held])
        rich = RichRepresentation(
            MLPClassifier(**mlp(64, own["epochs"])), own["count"], random_state=seed, threads=1
        ).fit(*known, validation=(X[held], y[held]))
        features = [rich.transform(part) for part in (X, found["0.1"][0])]
        for name, width in (("single", 64), ("CAT", 64 * own["count"])):
            Z, shifted = (part[:, :width] for part in features)
            train, out = ((Z[part], y[part], None) for part in (~held, held))
            for probe, given in (
                ("ERM", {}), ("vREx", {"environments": environment[~held], "beta": BETA}),
            ):  # fmt: skip
                C = choose_penalty(train, out, 2, **given)
                head = fit_head(train, 2, C=C, **given)
                for where, part, truth in (
                    ("colour", shifted, found["0.1"][1]), ("colour, same", Z[held], y[held]),
                ):  # fmt: skip
                    with torch.no_grad():
                        said = head(torch.as_tensor(part)).argmax(1).numpy()
                    self.add(f"{where}: {name}, {probe}", 100 * float((said == truth).mean()))


def as_rows(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Pictures as rows of numbers, and their classes."""
    X, y = images(name)
    return X.reshape(len(X), -1) / np.float32(255), y


def as_pictures(side: int) -> tuple[np.ndarray, np.ndarray]:
    """mnist-5k, 28 x 28, or means of 2 x 2 pixels."""
    X, y = images("mnist-5k")
    if side == 28:
        return X, y
    return X.reshape(len(X), 14, 2, 14, 2).mean((2, 4)).round().astype(np.uint8), y


def parted(y: np.ndarray, seed: int) -> dict[str, Any]:
    """Rows of five source classes in three parts (60, 20, 20 %), and those of the other five."""
    rng = np.random.default_rng(seed)
    source = np.isin(y, rng.permutation(10)[:5])
    rows = rng.permutation(np.flatnonzero(source))
    ends = int(0.6 * len(rows)), int(0.8 * len(rows))
    return {"source": np.split(rows, ends), "target": np.flatnonzero(~source)}


def mlp(width: int, epochs: int) -> dict[str, Any]:
    """The knobs of the multi-layer perceptrons."""
    return {
        "width": width, "n_blocks": 2, "dropout": 0.0, "lr": LR, "max_epochs": epochs,
        "min_steps": 0, "patience": None, "weight_decay": 0.0, "preprocess": "standard",
        "batch_size": 128, "threads": 1,
    }  # fmt: skip


def accuracy(model: Any, X: np.ndarray, y: np.ndarray) -> float:
    """Per cent of right answers."""
    return 100 * float((model.predict(X) == y).mean())


def joint_training(base: Any, count: int, rows: Rows, budget: Budget) -> RichRepresentation:
    """The networks of a CAT, trained in one episode with one head, from scratch."""
    learners = [clone(base).set_params(random_state=budget.seed + place) for place in range(count)]
    for learner in learners:
        learner.network_ = planned(learner, rows)[0].eval()
    held = rows.held
    assert held is not None
    X = np.concatenate([rows.samples, held[0]])
    y = np.concatenate([rows.target, held[1]])
    made: RichRepresentation = all_at_once(
        learners, (X, y), budget, loss=None, layer=None, pooling="auto", limit=None
    )
    return made


def soup(members: Sequence[Any]) -> RichRepresentation:
    """One network with the mean of the members' weights (arXiv 2203.05482)."""
    states = [member.network_.state_dict() for member in members]
    network = copy.deepcopy(members[0].network_)
    network.load_state_dict(
        {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}
    )
    first = members[0]
    return RichRepresentation.of_members([first.with_network(network)], first.classes_)


def measure(scale: Scale) -> list[Claim]:
    """The claims of rich representations."""
    bench = Bench(scale)
    bench.measure()
    scores, settings = bench.scores, bench.settings
    seeds, counts = list(settings["seeds"]), settings["counts"]
    some, most, shots = counts[-2], counts[-1], max(settings["shots"])

    def claim(
        id: str, statement: str, one: str, other: str, *, margin: float = 0.0, note: str = "",
        more: Sequence[str] = (),
    ) -> Claim:  # fmt: skip
        if one not in scores or other not in scores:
            return Claim(id, statement, "not testable at this scale", explanation=LEFT_OUT[scale])
        points = [round(a - b, 3) for a, b in zip(scores[one], scores[other], strict=True)]
        numbers = {"points_by_seed": points} | {what: scores[what] for what in (one, other, *more)}
        explanation = f"{note} {LEFT_OUT[scale]}".strip()
        return Claim(id, statement, judge(points, margin=margin), numbers, seeds, explanation)

    def at(what: str, labels: int = shots) -> str:
        return f"{what}, {labels} labels"

    rises = [
        min(b - a for a, b in itertools.pairwise(line))
        for line in zip(*(scores[at(f"CAT{count}")] for count in counts), strict=True)
    ]
    between = [
        min(student - single, cat - student)
        for single, student, cat in zip(
            scores[at("CAT1")], scores[at(f"DISTILL{some}")], scores[at(f"CAT{some}")], strict=True
        )
    ]
    curves = {
        "CAT": {str(k): [scores[at(f"CAT{n}", k)] for n in counts] for k in settings["shots"]},
        "sub": {str(shots): [scores[at(f"sub{n}")] for n in counts]},
    }
    flat = ("soup of seeds", "soup of snapshots", f"wide{some}", f"wide{most}", f"joint{some}",
            f"CAT{some}-S", f"DISTILL{some}", f"DISTILL{some}-S")  # fmt: skip
    pictured = (settings["pictures"] or {"counts": (1,)})["counts"][-1]
    wide_source, cat_source = scores[f"wide{some}, source"], scores[f"CAT{some}, source"]
    gap = [abs(a - b) for a, b in zip(cat_source, wide_source, strict=True)]
    return [
        claim("beats-single", f"On new classes with few labels CAT{some} is better than one of its "
              "members.", at(f"CAT{some}"), at("CAT1"),
              more=[at(what, k) for what in ("CAT1", f"CAT{some}") for k in settings["shots"]]),
        claim("beats-wide", f"CAT{some} is better than one wide network of at least as many "
              "weights.", at(f"CAT{some}"), at(f"wide{some}")),
        claim("beats-wide-of-most", f"The same of CAT{most}.", at(f"CAT{most}"), at(f"wide{most}")),
        Claim("equal-at-home", f"On the classes that they learned, CAT{some} and the wide network "
              "are within 1 point of each other.", judge([1.0 - one for one in gap]),
              {"gap_by_seed": [round(one, 3) for one in gap], f"CAT{some}": cat_source,
               f"wide{some}": wide_source, "single": scores["CAT1, source"],
               "ensemble": scores["ensemble, source"], "parameters": bench.parameters},
              seeds, LEFT_OUT[scale]),
        Claim("rises-with-members", "More members are better, from each number to the next.",
              judge(rises),
              {"least_rise_by_seed": [round(one, 3) for one in rises], "counts": list(counts),
               "curves": curves, "beside": {what: scores[at(what)] for what in flat}},
              seeds, LEFT_OUT[scale]),
        claim("more-than-an-ensemble", f"CAT{some} is better than the mean of a probe for each "
              "member (cat_sub): the representation adds what an ensemble does not.",
              at(f"CAT{some}"), at(f"sub{some}"), note="The paper has a clear gain with 8,000 "
              "classes alone; with five a tie was to be expected."),
        claim("beats-joint", f"The same {some} networks trained in one episode are worse.",
              at(f"CAT{some}"), at(f"joint{some}")),
        claim("beats-soup", f"CAT{some} is better than the mean of the weights of {some} snapshots "
              "of one run.", at(f"CAT{some}"), at("soup of snapshots"),
              more=[at("soup of seeds")], note="The mean over seeds is a network of no basin."),
        claim("decay-hurts", f"Weight decay in training makes CAT{some} worse on new classes.",
              at(f"CAT{some}"), at(f"decayed CAT{some}"),
              more=[at("CAT1"), at("decayed single")]),
        Claim("distilled-between", f"DISTILL{some} is between a single network and CAT{some}.",
              judge(between),
              {"least_gap_by_seed": [round(one, 3) for one in between],
               "single": scores[at("CAT1")], "distilled": scores[at(f"DISTILL{some}")],
               "CAT": scores[at(f"CAT{some}")]}, seeds, LEFT_OUT[scale]),
        claim("snapshots-nearly-as-good", f"{some} snapshots of one run are at most 3 points "
              f"behind {some} runs.", at(f"CAT{some}-S"), at(f"CAT{some}"), margin=-3.0,
              more=[at("CAT1"), at(f"DISTILL{some}-S")]),
        claim("two-stage-beats-initial", "Fine-tuning in two stages is better than fine-tuning all "
              "at once.", "tuned two-stage", "tuned initial", more=["tuned single"]),
        claim("two-stage-beats-its-ensemble", "The second stage adds to the mean of the tuned "
              "members.", "tuned two-stage", "tuned ensemble of tuned"),
        claim("pictures-beat-wide", f"With convolutions, on mnist-5k: CAT{pictured} is better than "
              "a wide network of as many weights.", f"pictures {at(f'CAT{pictured}')}",
              f"pictures {at(f'wide{pictured}')}",
              more=[f"pictures {at('CAT1')}", "pictures CAT, source", "pictures wide, source"]
              if settings["pictures"] else []),
        claim("pictures-more-than-an-ensemble", "The same against a probe for each member.",
              f"pictures {at(f'CAT{pictured}')}", f"pictures {at(f'sub{pictured}')}"),
        claim("colour-vrex", "Where colour misleads, CAT under vREx is better than one network "
              "under vREx.", "colour: CAT, vREx", "colour: single, vREx",
              note="Digits in two colours; colour agrees with the label in 90 and 80 of 100 "
              "training rows and in 10 of the test rows; a quarter of the labels is wrong; "
              f"beta is {BETA:g}, and C is chosen on rows like those of training.",
              more=["colour: CAT, ERM", "colour: single, ERM", "colour, same: CAT, vREx",
                    "colour, same: single, vREx"] if settings["colour"] else []),
        claim("colour-erm", "Where colour misleads, CAT is better than one network under plain "
              "training of the probe too.", "colour: CAT, ERM", "colour: single, ERM"),
    ]  # fmt: skip


def picture(record: dict[str, Any]) -> "Figure":
    """New classes of digits with 20 labels each: the features of 1, 2, 4 and 8 seeds side by side
    (blue) and a probe for each, averaged (grey); beside them wide networks of as many weights, four
    networks trained as one, and a mean of weights. Means over the seeds, the bars their range.
    """
    found = numbers_of(record, "rises-with-members")
    counts, beside = found["counts"], found["beside"]
    shots = max(found["curves"]["CAT"], key=int)
    figure, axes = canvas(height=3.6)
    for name, colour, words, shift in (
        ("sub", GREY, "a probe each, averaged", 1.03), ("CAT", BLUE, "CAT: side by side", 1.0),
    ):  # fmt: skip
        values = np.array(found["curves"][name][shots])
        _bars(axes, np.array(counts) * shift, values, colour, words, line=True)
    some, most = counts[-2:]
    points = (
        ("wide", {some: f"wide{some}", most: f"wide{most}"}, ORANGE, "one wide network"),
        ("joint", {some: f"joint{some}"}, COLOURS[2], "trained as one"),
        ("soup", {some: "soup of snapshots"}, COLOURS[3], "mean of weights"),
        ("distilled", {some: f"DISTILL{some}"}, COLOURS[4], "distilled into one"),
    )
    for place, (_, of, colour, words) in enumerate(points):
        at = np.array([count * (1.08 + 0.05 * place) for count in of])
        _bars(axes, at, np.array([beside[what] for what in of.values()]), colour, words)
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_xlabel("members")
    axes.set_ylabel("right answers on new classes, %")
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    return figure


def _bars(
    axes: Any, x: np.ndarray, values: np.ndarray, colour: str, label: str, *, line: bool = False
) -> None:
    """Means of (points, seeds) with their range."""
    mean = values.mean(1)
    reach = np.stack([mean - values.min(1), values.max(1) - mean])
    axes.errorbar(
        x, mean, reach, color=colour, label=label, marker="o", ms=4, lw=1.4,
        ls="-" if line else "none", capsize=2, elinewidth=0.8,
    )  # fmt: skip
