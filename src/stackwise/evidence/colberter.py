"""Do few, narrow vectors of whole words rank as well as one a token, and what does each part do?

Docstrings of Python's standard library: a query is a summary line, its one answer the rest of that
docstring, cut to 80 tokens. The packaged MiniLM is frozen; the layers behind it learn from a part
of the pairs and are asked for others, among all documents. Every network has the same states,
steps and learning rate, in two stages. That rate and the weight of the gate were taken from a pilot
of five fits on docstrings that were drawn from all packages, which may share some with the queries
that are asked here. BM25 and the frozen encoder's mean vectors stand beside them. On the Semanlink
bookmarks queries are tags that nothing was learned from.
"""

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import normalize

from stackwise import data
from stackwise.build.colberter.index.searching import flat_maxsim
from stackwise.build.colberter.learn.losses import PairLoss
from stackwise.build.colberter.model.network import ColBERTer, grown
from stackwise.build.colberter.model.states import PooledStates, pooled_states
from stackwise.build.colberter.model.words import WholeWords
from stackwise.data.search_sets import different_docstrings, standard_library
from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.evidence.pictures import BLUE, GREY, ORANGE, canvas, numbers_of
from stackwise.tasks.labels.estimators.pretrained import opened
from stackwise.tasks.language.new_encoder import new_encoder
from stackwise.tasks.retrieval.baselines.bm25 import BM25Retriever
from stackwise.tasks.retrieval.estimators.batches import PairBatches
from stackwise.tasks.retrieval.estimators.pairs import TrainingPairs
from stackwise.tasks.retrieval.measures import ndcg
from stackwise.training.loop import train
from stackwise.training.rules import Backprop

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"documents": 40, "learn": 24, "epochs": (1, 1), "seeds": (0,), "bookmarks": 0},
    "cpu": {"documents": 600, "learn": 360, "epochs": (8, 5), "seeds": (0, 1, 2),
            "bookmarks": 400},
    "gpu": {"documents": 8000, "learn": 5000, "epochs": (8, 6), "seeds": (0, 1, 2),
            "bookmarks": 6000},
}  # fmt: skip
TOKENS, QUERY_TOKENS, ROWS, RATE = 80, 24, 32, 1e-3
CLS, GATE = 0.5, 0.75
STATEMENTS = {
    "words-for-tokens": "Whole words keep at most 0.6 of the vectors of tokens, at an MRR@10 at "
    "most 0.03 lower.",
    "gate": "The gate drops at least 15 % more of the vectors, at a further loss of at most 0.03.",
    "merged": "The merged score is ahead of the texts' single vectors by at least 0.05.",
    "cls-loss": "Without the loss on the single vector, that vector by itself finds less.",
    "one-number": "One number a word, equal words alone matching, is at most 0.1 behind 16 "
    "numbers, at a fifth of their bytes or less.",
    "bm25": "The merged score is ahead of BM25.",
    "minilm": "It is ahead of the frozen encoder's mean vectors.",
    "bookmarks": "Learned from docstrings, it is ahead of BM25 on bookmarks, in nDCG@10 of tags.",
}

EXPLAINED = {
    "gate": "In so few steps beside a softmax the gate closes fewer words than that.",
    "one-number": "Its gate goes on learning and keeps few words a document, so that the single "
    "vector does most of the work: see the scores of that vector alone.",
    "bm25": "Words that summary and text share decide among so few documents.",
    "minilm": "MiniLM was trained for this on a billion pairs; narrow layers that learn from a few "
    "hundred lose some of it.",
    "bookmarks": "Nothing was learned from bookmarks, whose tags are short and partly French.",
}


@dataclass
class Sides:
    """What is known of the queries and the documents, read as tokens and as whole words."""

    tokens: tuple[PooledStates, PooledStates]
    words: tuple[PooledStates, PooledStates]
    means: tuple[np.ndarray, np.ndarray]


def sides_of(found: Any, queries: list[str], documents: list[str]) -> Sides:
    """Both readings of one pass of the encoder."""
    read: list[tuple[PooledStates, PooledStates, np.ndarray]] = []
    for texts, most in ((queries, QUERY_TOKENS), (documents, TOKENS)):
        tokens = pooled_states(
            found.model, WholeWords(found.tokenizer, "stem", most, whole=False), texts
        )
        read.append((tokens, *as_words(tokens, WholeWords(found.tokenizer, "stem", most)(texts))))
    (q, qw, qm), (d, dw, dm) = read
    return Sides((q, d), (qw, dw), (qm, dm))


def as_words(tokens: PooledStates, texts: Any) -> tuple[PooledStates, np.ndarray]:
    """The states of tokens pooled by word, and the mean of each text's tokens, of length 1."""
    states, words, counts, means = [], [], [0], []
    for place, one in enumerate(texts):
        own = tokens.states[tokens.offsets[place] : tokens.offsets[place + 1]].astype(np.float32)
        same = (one.words[:, None] == one.pieces[None, :]).astype(np.float32)
        states.append(((same @ own) / same.sum(1, keepdims=True)).astype(np.float16))
        words.append(one.words)
        counts.append(len(one.words))
        means.append(own.mean(0))
    found = PooledStates(
        tokens.cls, np.concatenate(states), np.concatenate(words), np.cumsum(counts)
    )
    return found, normalize(torch.from_numpy(np.array(means)), dim=1).numpy()


def learned(
    sides: tuple[PooledStates, PooledStates], rows: np.ndarray, epochs: int, cls: float, seed: int,
    before: ColBERTer | None = None, **form: Any,
) -> ColBERTer:  # fmt: skip
    """A network that learned from the pairs of some rows, from the start or from another one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width = sides[0].cls.shape[1]
        made = ColBERTer(width=width, **form) if before is None else grown(before, **form)
    count = len(sides[0])
    pairs = TrainingPairs(
        [""] * count, [""] * count, np.array([rows, rows]).T, {int(row): {int(row)} for row in rows}
    )
    rule = Backprop(PairLoss(1.0, cls, GATE), lr=RATE)
    batches = PairBatches(pairs, *sides, ROWS, seed=seed)
    trained = train(made, rule, batches, max_epochs=epochs, seed=seed).model.eval()
    assert isinstance(trained, ColBERTer)
    return trained


@torch.no_grad()
def ranked(
    network: ColBERTer, sides: tuple[PooledStates, PooledStates], asked: np.ndarray
) -> tuple[dict[str, np.ndarray], float]:
    """(queries, documents) scores of each kind, and the vectors that a document keeps."""
    flat: list[list[np.ndarray]] = [[], [], [], []]
    for some in np.array_split(np.arange(len(sides[1])), -(-len(sides[1]) // ROWS)):
        found = network.documents(sides[1].padded(some))
        parts = (found.cls, found.vectors[found.mask], found.words[found.mask], found.mask.sum(1))
        for kept, part in zip(flat, parts, strict=True):
            kept.append(part.numpy())
    cls, vectors, words, counts = (np.concatenate(part) for part in flat)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    scores: dict[str, list[np.ndarray]] = {"merged": [], "cls": []}
    weight = float(network.cls_weight)
    for row in asked:
        query = network.queries(sides[0].padded([int(row)]))
        pair = (query.words[0].numpy(), words) if network.exact_match else None
        token = flat_maxsim(query.vectors[0].numpy(), vectors, starts, pair)
        scores["cls"].append(cls @ query.cls[0].numpy())
        scores["merged"].append(weight * scores["cls"][-1] + (1 - weight) * token)
    return {name: np.array(rows) for name, rows in scores.items()}, float(counts.mean())


def mrr(scores: np.ndarray, right: np.ndarray) -> float:
    """MRR@10 of (queries, documents) scores where each query has one answer."""
    own = scores[np.arange(len(right)), right]
    ranks = (scores >= own[:, None]).sum(1)
    return round(float(np.where(ranks <= 10, 1 / ranks, 0).mean()), 4)


def measure(scale: Scale) -> list[Claim]:
    """The claims of ColBERTer."""
    settings = SETTINGS[scale]
    packaged = data.lacking("minilm", "model") is None and scale != "smoke"
    count = settings["documents"]
    drawn = list(islice(different_docstrings(standard_library()), count))
    queries, documents = [one[1] for one in drawn], [one[2] for one in drawn]
    found = opened("minilm") if packaged else tiny(queries + documents)
    sides = sides_of(found, queries, documents)
    words = BM25Retriever().fit(documents)
    runs: dict[str, list[float]] = {}
    nets: list[Any] = []
    for seed in settings["seeds"]:
        order = np.random.default_rng(seed).permutation(count)
        rows, asked = np.sort(order[: settings["learn"]]), np.sort(order[settings["learn"] :])
        for name, value in one_seed(sides, rows, asked, seed, settings["epochs"], nets).items():
            runs.setdefault(name, []).append(value)
        by_words = np.array([words.scores(queries[row]) for row in asked])
        by_means = sides.means[0][asked] @ sides.means[1].T
        runs.setdefault("bm25", []).append(mrr(by_words, asked))
        runs.setdefault("minilm", []).append(mrr(by_means, asked))
    if settings["bookmarks"]:
        for name, values in bookmarks(found, nets, settings["bookmarks"]).items():
            runs[name] = values
    return claims_of(runs, list(settings["seeds"]), scale, settings)


def one_seed(
    sides: Sides, rows: np.ndarray, asked: np.ndarray, seed: int, epochs: tuple[int, int],
    nets: list[ColBERTer],
) -> dict[str, float]:  # fmt: skip
    """MRR@10 and vectors of every network of a seed; the one with the gate joins `nets`."""
    first, second = epochs
    plain: dict[str, Any] = {"stopwords": False}
    forms: dict[str, tuple[str, float, dict[str, Any]]] = {
        "tokens": ("tokens", CLS, plain), "words": ("words", CLS, plain),
        "gate": ("words", CLS, {"stopwords": True}),
        "no cls loss": ("words", 0.0, {"stopwords": True}),
        "16 numbers": ("words", CLS, {"stopwords": True, "final_dim": 16}),
        "1 number": ("words", CLS, {"stopwords": True, "final_dim": 1, "exact_match": True}),
    }  # fmt: skip
    begun: dict[tuple[str, float], ColBERTer] = {}
    out: dict[str, float] = {}
    for name, (kind, cls, form) in forms.items():
        given = getattr(sides, kind)
        if (kind, cls) not in begun:
            begun[kind, cls] = learned(given, rows, first, cls, seed, stopwords=False)
        made = learned(given, rows, second, cls, seed, begun[kind, cls], **form)
        scores, kept = ranked(made, given, asked)
        out[name], out[f"{name}, cls"] = mrr(scores["merged"], asked), mrr(scores["cls"], asked)
        out[f"{name}, vectors"] = round(kept, 2)
        if name == "gate":
            nets.append(made)
    return out


def bookmarks(found: Any, nets: list[ColBERTer], count: int) -> dict[str, list[float]]:
    """nDCG@10 of tags on bookmarks, by networks that learned from docstrings, and beside them."""
    named = data.search("semanlink-search")
    kept = named["documents"][:count]
    ids = {one["_id"]: place for place, one in enumerate(kept)}
    right: dict[str, dict[str, int]] = {}
    for query, document, _ in named["judgements"]:
        if document in ids:
            right.setdefault(query, {})[document] = 1
    asked = [one for one in named["queries"] if len(right.get(one["_id"], ())) >= 3]
    texts = [f"{one['title']}\n{one['text']}" for one in kept]
    sides = sides_of(found, [one["text"] for one in asked], texts)
    names = list(ids)

    def gain(scores: np.ndarray) -> float:
        values = [ndcg(names, row, right[one["_id"]], 10) for row, one in zip(scores, asked)]
        return round(float(np.mean(values)), 4)

    words = BM25Retriever().fit(texts)
    everyone = np.arange(len(asked))
    own = [gain(ranked(net, sides.words, everyone)[0]["merged"]) for net in nets]
    by_words = gain(np.array([words.scores(one["text"]) for one in asked]))
    return {
        "bookmarks": own, "bookmarks, bm25": [by_words] * len(nets),
        "bookmarks, minilm": [gain(sides.means[0] @ sides.means[1].T)] * len(nets),
        "bookmarks, queries": [float(len(asked))],
    }  # fmt: skip


def claims_of(
    runs: dict[str, list[float]], seeds: list[int], scale: Scale, settings: dict[str, Any]
) -> list[Claim]:
    """A verdict of each relation, from what was measured."""

    def apart(one: str, other: str) -> list[float]:
        return [round(a - b, 4) for a, b in zip(runs[one], runs[other], strict=True)]

    def share(one: str, other: str) -> list[float]:
        both = zip(runs[f"{one}, vectors"], runs[f"{other}, vectors"], strict=True)
        return [round(a / b, 4) for a, b in both]

    runs["gate over its vector"] = apart("gate", "gate, cls")
    runs["16 numbers, bytes"] = [round(2 * 16 * v, 1) for v in runs["16 numbers, vectors"]]
    runs["1 number, bytes"] = [round((2 + 4) * v, 1) for v in runs["1 number, vectors"]]
    ratio = [a / b for a, b in zip(runs["1 number, bytes"], runs["16 numbers, bytes"])]
    less, shut = share("words", "tokens"), share("gate", "words")
    rows: dict[str, tuple[list[float], float, list[float], bool]] = {
        "words-for-tokens": (apart("words", "tokens"), -0.03, less, max(less) <= 0.6),
        "gate": (apart("gate", "words"), -0.03, shut, max(shut) <= 0.85),
        "merged": (runs["gate over its vector"], 0.05, [], True),
        "cls-loss": (apart("gate, cls", "no cls loss, cls"), 0.0, [], True),
        "one-number": (apart("1 number", "16 numbers"), -0.1, ratio, max(ratio) <= 0.2),
        "bm25": (apart("gate", "bm25"), 0.0, [], True),
        "minilm": (apart("gate", "minilm"), 0.0, [], True),
    }
    if "bookmarks" in runs:
        rows["bookmarks"] = (apart("bookmarks", "bookmarks, bm25"), 0.0, [], True)
    note = (
        f"{settings['documents']:,} docstrings, of which {settings['learn']:,} pairs are learned "
        f"from; frozen MiniLM, {sum(settings['epochs'])} passes. Far fewer documents and pairs "
        "than the paper's 8.8 million passages, and no teacher."
    )
    found = []
    for id, statement in STATEMENTS.items():
        if scale == "smoke" or id not in rows:
            found.append(Claim(id, statement, "not testable at this scale", explanation=(
                "A smoke test has a tiny new encoder and learns for two passes.")))  # fmt: skip
            continue
        differences, margin, ratios, fine = rows[id]
        verdict = judge(differences, margin=margin) if fine else "does not hold"
        numbers: dict[str, Any] = {"difference_by_seed": differences}
        if ratios:
            numbers["share_by_seed"] = [round(one, 4) for one in ratios]
        if id == "words-for-tokens":
            numbers["mrr10_and_vectors"] = runs
        said = " ".join([*([EXPLAINED[id]] if id in EXPLAINED else []), note])
        found.append(Claim(id, statement, verdict, numbers, seeds, said))
    return found


def tiny(texts: list[str]) -> Any:
    """A new encoder of two small blocks, for a smoke test."""
    from stackwise.tasks.labels.estimators.learner import text_tokenizer
    from stackwise.tasks.labels.estimators.pretrained import Opened

    tokenizer = text_tokenizer(texts, 300)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = new_encoder(
            len(tokenizer), width=32, layers=1, heads=2, context=TOKENS, dropout=0.0, pad=0
        )
    return Opened(model.eval(), tokenizer)


def picture(record: dict[str, Any]) -> "Figure":
    """MRR@10 on docstrings: a vector a token, a whole word, a word that its gate keeps, of 32
    numbers each; then 16 numbers a word, and one. Dots are seeds, grey the single vector of a text
    alone; the lines are BM25 and the frozen encoder's mean vectors.
    """
    runs = numbers_of(record, "words-for-tokens")["mrr10_and_vectors"]
    figure, axes = canvas(height=3.8)
    names = ("tokens", "words", "gate", "16 numbers", "1 number")
    for place, name in enumerate(names):
        axes.scatter([place] * len(runs[name]), runs[name], s=28, color=BLUE, alpha=0.8, zorder=3)
        axes.scatter([place] * len(runs[name]), runs[f"{name}, cls"], s=18, color=GREY, zorder=2)
    for name, colour in (("bm25", ORANGE), ("minilm", "#0d9488")):
        axes.axhline(float(np.mean(runs[name])), color=colour, lw=1.2, label=name)
    kept = [float(np.mean(runs[f"{name}, vectors"])) for name in names]
    labels = [f"{name}\n{count:.0f} vectors" for name, count in zip(names, kept, strict=True)]
    axes.set_xticks(range(len(names)), labels, fontsize=8)
    axes.set_ylabel("MRR@10 (grey: single vector alone)")
    axes.legend(frameon=False, fontsize=8)
    return figure
