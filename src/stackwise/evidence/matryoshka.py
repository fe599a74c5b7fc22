"""Does one embedding, nested, serve at every size as embeddings do that were trained for each?

Three kinds of data with many more classes than the smallest size (with few classes a cut of
ordinary features is nearly lossless, and there is nothing to show):

    pairs       two digits of mnist-5k side by side, 100 classes, composed and drawn on the fly;
                training, validation and test pairs are of different digits
    letters     the table `letter`, 26 classes, through the estimator itself
    documents   a linear layer on frozen MiniLM vectors of the Semanlink documents, learned from
                pairs that share a tag; queries are tags that training never saw
"""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from stackwise.evidence import matryoshka_documents, matryoshka_pairs, matryoshka_search
from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.evidence.pictures import COLOURS, canvas, numbers_of
from stackwise.tasks.table.task import TableTask
from stackwise.train.matryoshka import MatryoshkaTableClassifier

if TYPE_CHECKING:
    from matplotlib.figure import Figure

D = 64
LETTERS: dict[str, dict[str, Any]] = {
    "smoke": {"max_rows": 300, "max_epochs": 1, "seeds": (0,), "width": 16},
    "cpu": {"max_rows": 4000, "max_epochs": 25, "seeds": (0, 1, 2), "width": 256},
    "gpu": {"max_rows": None, "max_epochs": 100, "seeds": (0, 1, 2), "width": 512},
}


def measure_letters(scale: Scale) -> list[Claim]:
    """The claim on the table of letters, by the estimator."""
    statement = (
        "On letters (26 classes) the head of 8 numbers is at most 1 point behind a network of 8."
    )
    settings = LETTERS[scale]
    found: dict[str, list[float]] = {}
    for seed in settings["seeds"]:
        task = TableTask.load("letter", split_seed=seed, max_rows=settings["max_rows"])
        X, y = task.part("test")
        build = partial(
            MatryoshkaTableClassifier, max_epochs=settings["max_epochs"], patience=None,
            lr=1e-3, schedule="cosine", random_state=seed, width=settings["width"],
        )  # fmt: skip
        nested = build(embed_dim=D, dims=(4, 8, 16, 32, D))
        task.fit(nested)
        for dim in (4, 8, 16, D):
            right = 100 * float((nested.predict(X, dim=dim) == y).mean())
            found.setdefault(f"nested, {dim}", []).append(round(right, 3))
            if dim == 16:
                continue
            own = build(embed_dim=dim, dims=(dim,))
            task.fit(own)
            right = 100 * float((own.predict(X) == y).mean())
            found.setdefault(f"own training, {dim}", []).append(round(right, 3))
    points = [
        round(a - b, 3) for a, b in zip(found["nested, 8"], found["own training, 8"], strict=True)
    ]
    return [
        Claim("letters-as-good-as-own-training", statement, judge(points, margin=-1.0),
              {"points_by_seed": points} | found, list(settings["seeds"]),
              "Accuracy of the heads; 26 classes are few for 8 numbers.")
    ]  # fmt: skip


PARTS = {
    "pairs": matryoshka_pairs.measure,
    "letters": measure_letters,
    "documents": matryoshka_documents.measure,
    "search": matryoshka_search.measure,
}


def measure(scale: Scale) -> list[Claim]:
    """The claims of Matryoshka representations."""
    return [claim for part in PARTS.values() for claim in part(scale)]


def picture(record: dict[str, Any]) -> "Figure":
    """Accuracy by size: per cent of test pairs of digits (100 classes) whose nearest neighbour is
    of their class, with the first numbers of one nested embedding (MRL, and MRL-E with one head for
    all sizes), of networks trained for each size alone, and of an ordinary embedding, turned by PCA
    or simply cut. Lines are means over seeds, dots the seeds.
    """
    found = numbers_of(record, "as-good-as-own-training")["nearest_by_size"]
    figure, axes = canvas(height=3.8)
    for colour, form in zip(COLOURS, ("MRL", "own training", "MRL-E", "PCA", "cut"), strict=False):
        sizes = [m for m in matryoshka_pairs.DIMS if str(m) in found[form]]
        values = [found[form][str(m)] for m in sizes]
        axes.plot(sizes, [float(np.mean(v)) for v in values], color=colour, lw=1.4, label=form)
        for m, of_seeds in zip(sizes, values, strict=True):
            axes.scatter([m] * len(of_seeds), of_seeds, s=10, color=colour, alpha=0.7, zorder=3)
    axes.set_xscale("log", base=2)
    axes.set_xticks(matryoshka_pairs.DIMS, [str(m) for m in matryoshka_pairs.DIMS])
    axes.set_xlabel("numbers of the embedding that are used")
    axes.set_ylabel("1-NN accuracy, %")
    axes.set_ylim(0, 100)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure
