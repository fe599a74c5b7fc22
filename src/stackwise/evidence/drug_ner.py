"""Does an LSTM find more drug names than windows do, does the jump of a word's vector help, and do
layers that learned before?

On drug reviews that are tagged by a list of names (a mention that the list lacks counts as none, so
that precision comes out too low), split by name: a third of the names is in the test part alone,
and more than half of the test mentions are of these. Three splits, a seed each. Word vectors are
skip-grams of all reviews, those of the test part too, without any label: what a user has who tags a
text that is there. Every network has the same vectors, learning rate and passes, and every system a
threshold that the validation part, split by name too, has chosen. Beside each difference stands its
95 % interval from drawing the test reviews anew.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stackwise.build.drug_ner import TokenTagger, train_vectors
from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.evidence.pictures import dots, numbers_of
from stackwise.tasks.tags.baselines.dictionary import DictionaryTagger
from stackwise.tasks.tags.baselines.word_windows import WordWindowsTagger
from stackwise.tasks.tags.scoring import resampled_f1
from stackwise.tasks.tags.task import TagsTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"rows": 40, "read": 60, "splits": (0,), "size": 8, "vector_epochs": 1, "hidden": 8,
              "epochs": 1, "pretrain": 1, "draws": 5},
    "cpu": {"rows": None, "read": None, "splits": (0, 1, 2), "size": 50, "vector_epochs": 12,
            "hidden": 64, "epochs": 12, "pretrain": 5, "draws": 200},
    "gpu": {"rows": None, "read": None, "splits": (0, 1, 2, 3, 4), "size": 100,
            "vector_epochs": 60, "hidden": 128, "epochs": 30, "pretrain": 10, "draws": 1000},
}  # fmt: skip
LEFT_OUT = {
    "smoke": "A few reviews and one split: this only shows that the measurement runs.",
    "cpu": "979 reviews with 908 mentions, tagged by exact match; the paper has "
    "DDIExtraction 2013, tagged by hand, which no package carries.",
    "gpu": "979 reviews, tagged by exact match; DDIExtraction 2013 is not packaged.",
}
JUMP, PLAIN, MLP, DBN, SAE = "LSTM with jumps", "LSTM", "MLP on windows", "DBN", "SAE"
LINEAR, DICTIONARY = "words and shapes", "dictionary"
RATE, SENTENCES, WINDOWS = 3e-3, 8, 128
"""Learning rate, and reviews or windows of a step, of every network."""


class Systems:
    """Every system on every split: its scores on the test reviews, and its counts a review."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.scores: dict[str, list[dict[str, float]]] = {}
        self.counts: dict[str, list[Any]] = {}
        vectors = None
        for split in settings["splits"]:
            task = TagsTask.load("drug-names", split_seed=split, max_rows=settings["rows"])
            if vectors is None:  # of all reviews: the same for every split
                read = [one.tokens for one in task.sentences[: settings["read"]]]
                vectors = train_vectors(
                    read, settings["size"], min_count=1, epochs=settings["vector_epochs"]
                )
                rows = dict(zip(vectors.words, vectors.table, strict=True))
            for name, build in self._builds(rows, split).items():
                judged = task.judge(task.fit(build()), "test")
                self.scores.setdefault(name, []).append(judged.scores)
                self.counts.setdefault(name, []).append(judged.samples)

    def _builds(self, rows: Mapping[str, Any], seed: int) -> dict[str, Callable[[], Any]]:
        of = self.settings
        shared: dict[str, Any] = {
            "vectors": rows, "vector_size": of["size"], "max_epochs": of["epochs"],
            "min_steps": 0, "lr": RATE, "random_state": seed, "threads": 1,
        }  # fmt: skip
        sequence = shared | {"hidden": of["hidden"], "batch_size": SENTENCES}
        windows = shared | {"hidden": 2 * of["hidden"], "batch_size": WINDOWS}
        before = windows | {"pretrain_epochs": of["pretrain"]}
        return {
            JUMP: lambda: TokenTagger(**sequence),
            PLAIN: lambda: TokenTagger(**sequence, distance="none"),
            MLP: lambda: TokenTagger(**windows, arch="mlp"),
            DBN: lambda: TokenTagger(**before, arch="dbn"),
            SAE: lambda: TokenTagger(**before, arch="sae"),
            LINEAR: lambda: WordWindowsTagger(random_state=seed, threads=1),
            DICTIONARY: DictionaryTagger,
        }  # fmt: skip

    def ahead(self, name: str, other: str) -> list[float]:
        """By how many points of F1 a system is ahead, by split."""
        pairs = zip(self.scores[name], self.scores[other], strict=True)
        return [round(100 * (own["f1"] - its["f1"]), 2) for own, its in pairs]

    def interval(self, name: str, other: str) -> list[float]:
        """The middle 95 % of the mean difference over test reviews drawn with replacement."""
        generator = np.random.default_rng(0)
        pairs = [
            (len(own), resampled_f1(own), resampled_f1(its))
            for own, its in zip(self.counts[name], self.counts[other], strict=True)
        ]
        found = []
        for _ in range(self.settings["draws"]):
            drawn = []
            for count, own, its in pairs:
                rows = generator.integers(0, count, count)
                drawn.append(own(rows) - its(rows))
            found.append(100 * np.mean(drawn))
        return [round(float(edge), 2) for edge in np.quantile(found, [0.025, 0.975])]

    def table(self) -> dict[str, Any]:
        """Mean scores of every system, and F1 by split."""
        kept = ("f1", "precision", "recall", "recall_seen", "recall_unseen", "token_f1")
        means = {
            name: {
                score: round(float(np.mean([one.get(score, 0.0) for one in each])), 4)
                for score in kept
            }
            for name, each in self.scores.items()
        }
        by_split = {
            name: [round(one["f1"], 4) for one in each] for name, each in self.scores.items()
        }
        return {"mean_scores": means, "test_f1": by_split}


def measure(scale: Scale) -> list[Claim]:
    """The claims of drug-ner."""
    settings = SETTINGS[scale]
    systems = Systems(settings)
    seeds = list(settings["splits"])
    claims: list[Claim] = []

    def compared(
        id: str, statement: str, name: str, other: str, margin: float, why: str = ""
    ) -> None:
        points = systems.ahead(name, other)
        span = systems.interval(name, other)
        numbers: dict[str, Any] = {
            "points_by_split": points,
            "points": round(float(np.mean(points)), 2),
            "interval_95_percent": span,
            "margin": margin,
        }
        if not claims:  # once is enough
            numbers |= systems.table()
        verdict = judge(points, margin=margin)
        said = LEFT_OUT[scale] + (f" {why}" if why and verdict != "holds" else "")
        if span[0] <= margin <= span[1]:
            said += " The interval holds the border: these reviews alone do not decide."
        claims.append(Claim(id, statement, verdict, numbers, seeds, said))

    compared(
        "lstm-beats-windows",
        "An LSTM over sentences, told how far each vector jumps, beats an MLP on windows of five "
        "words by 2 points of F1.",
        JUMP, MLP, 2.0,
    )  # fmt: skip
    compared(
        "jumps-cost-nothing",
        "Told how far each vector jumps, the LSTM is at most half a point of F1 behind.",
        JUMP, PLAIN, -0.5,
        why="From two words the LSTM can work out the difference itself, and has twice the inputs "
        "to learn from as many names.",
    )  # fmt: skip
    compared(
        "dbn-level-with-mlp",
        "A deep belief network is at most 1 point of F1 behind an MLP on the same windows.",
        DBN, MLP, -1.0,
    )  # fmt: skip
    compared(
        "sae-level-with-mlp",
        "Stacked denoising auto-encoders are at most 1 point of F1 behind an MLP on the same "
        "windows.",
        SAE, MLP, -1.0,
    )  # fmt: skip
    claims.append(_finds_new(systems, seeds, LEFT_OUT[scale]))
    compared(
        "beats-words-and-shapes",
        "The LSTM beats logistic regression on words, their shapes and neighbours (which the paper "
        "does not compare with).",
        JUMP, LINEAR, 0.0,
        why="Capitals and endings tell of a drug's name what vectors of few mentions do not: the "
        "vectors are of words in lower case.",
    )  # fmt: skip
    return claims


def _finds_new(systems: Systems, seeds: list[int], about: str) -> Claim:
    """Every network finds names that training never had, which no dictionary does."""
    recalls = {
        name: [round(100 * one.get("recall_unseen", 0.0), 2) for one in systems.scores[name]]
        for name in (JUMP, PLAIN, MLP, DBN, SAE, DICTIONARY)
    }
    least = [
        min(recalls[name][place] for name in recalls if name != DICTIONARY)
        - recalls[DICTIONARY][place]
        for place in range(len(seeds))
    ]
    numbers = {"recall_of_new_names_percent": recalls, "least_ahead": least}
    statement = "Every network finds new names, of which a dictionary of training names finds none."
    return Claim("finds-new-names", statement, judge(least), numbers, seeds, about)


def picture(record: dict[str, Any]) -> "Figure":
    """F1 over whole names on the test reviews of each split, more than half of whose mentions are
    of names that training never had.
    """
    found = numbers_of(record, "lstm-beats-windows")["test_f1"]
    shown = {name: {"": [100 * value for value in values]} for name, values in found.items()}
    return dots(shown, label="test F1, %")
