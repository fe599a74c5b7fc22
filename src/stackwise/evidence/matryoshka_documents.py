"""A linear layer on frozen MiniLM vectors, nested: queries are tags that training never saw.

The Semanlink documents, each with hand-given tags. Tags are parted at random, half to learn from
and half to ask for; a step draws tags and two documents of each, and documents of one tag find each
other. A query is the words of a tag, its answers are the documents that bear it; nDCG@10. The same
layer trained for all 384 numbers alone is the rival, cut or turned by PCA, and so are the vectors
as MiniLM gives them. All learn for as many steps at one learning rate, and no rows choose anything.
"""

import json
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from stackwise import data
from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.train.matryoshka import cut, embed, matryoshka

SIZE = 384
DIMS = (12, 24, 48, 96, 192, 384)
SETTINGS: dict[str, dict[str, Any]] = {
    "cpu": {"seeds": (0, 1, 2), "documents": 1500, "words": 40, "tags": 64, "steps": 200,
            "epochs": 3},
    "gpu": {"seeds": (0, 1, 2), "documents": 6000, "words": 128, "tags": 128, "steps": 1000,
            "epochs": 5},
}  # fmt: skip
LEAST, MOST = 5, 200
"""Documents that a tag has."""
STATEMENTS = {
    "documents-beat-the-cut": "With 24 of 384 numbers, a nested linear layer on MiniLM is ahead of "
    "the same layer trained for all numbers alone and cut, in nDCG@10 of tags never seen.",
    "documents-beat-pca": "With 24 numbers it is ahead of that layer's vectors turned by PCA.",
    "documents-beat-minilm-cut": "With 24 numbers it is ahead of MiniLM's own vectors, cut.",
    "documents-lose-nothing": "With all 384 numbers it is at most half a point behind the layer "
    "that was trained for them alone.",
}


class Documents:
    """Documents with tags, and both as vectors of MiniLM.

    Attributes:
        vectors: (n, 384). tags: by tag, the places of its documents. asked: by tag, (384,).
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        (entry,) = (one for one in data.names("text") if one.name == "semanlink")
        place = entry.place()
        if place is None:
            entry.open()  # says what brings it
            raise AssertionError
        records = json.loads(place.read_text(encoding="utf-8"))
        texts: list[str] = []
        bearers: dict[str, list[int]] = {}
        for record in records:
            text = " ".join(f"{record['title']}. {record['arxiv_summary'] or record['comment']}"
                            .split())  # fmt: skip
            if len(text) < 40 or not record["tag"]:
                continue
            for tag in record["tag"]:
                bearers.setdefault(tag, []).append(len(texts))
            texts.append(" ".join(text.split()[: settings["words"]]))
            if len(texts) == settings["documents"]:
                break
        self.tags = {t: rows for t, rows in bearers.items() if LEAST <= len(rows) <= MOST}
        self.vectors = encoded(texts)
        words = [tag.rpartition("/")[2].replace("_", " ") for tag in self.tags]
        self.asked = dict(zip(self.tags, encoded(words), strict=True))


def encoded(texts: list[str]) -> Tensor:
    """(n, 384) the mean of MiniLM's tokens, of length 1."""
    from transformers import AutoModel, AutoTokenizer

    folder = data.model("minilm")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    found = torch.empty(len(texts), SIZE)
    for start in range(0, len(order), 32):
        rows = order[start : start + 32]
        inputs = tokenizer([texts[row] for row in rows], padding=True, truncation=True,
                           max_length=128, return_tensors="pt")  # fmt: skip
        found[rows] = embed(model, dict(inputs), normalise=True)
    return found


def steps_of(documents: Documents, tags: list[str], settings: dict[str, Any], seed: int) -> list:
    """Batches of pairs: two documents of each of the drawn tags."""
    generator = np.random.default_rng(seed)
    batches = []
    for _ in range(settings["steps"]):
        drawn = generator.choice(len(tags), min(settings["tags"], len(tags)), replace=False)
        rows = [generator.choice(documents.tags[tags[t]], 2, replace=False) for t in drawn]
        one, other = torch.as_tensor(np.array(rows).T)
        batches.append(
            {"anchor": {"x": documents.vectors[one]}, "positive": {"x": documents.vectors[other]}}
        )
    return batches


def gain(vectors: Tensor, asked: Tensor, relevant: list[np.ndarray]) -> float:
    """100 nDCG@10 of queries (q, d) over (n, d) vectors, cosines."""
    size = vectors.shape[1]
    cosines = cut(asked, size, normalise=True) @ cut(vectors, size, normalise=True).T
    order = cosines.topk(10).indices.numpy()
    weights = 1 / np.log2(np.arange(2, 12))
    scores = [
        (np.isin(places, right) * weights).sum() / weights[: min(len(right), 10)].sum()
        for places, right in zip(order, relevant, strict=True)
    ]
    return round(100 * float(np.mean(scores)), 3)


def measure(scale: Scale) -> list[Claim]:
    """The claims on documents."""
    if scale == "smoke":
        return [
            Claim(id, statement, "not testable at this scale",
                  explanation="MiniLM takes longer than a smoke test may.")
            for id, statement in STATEMENTS.items()
        ]  # fmt: skip
    settings = SETTINGS[scale]
    documents = Documents(settings)
    found: dict[str, dict[str, list[float]]] = {}
    for seed in settings["seeds"]:
        tags = sorted(documents.tags)
        order = np.random.default_rng(seed).permutation(len(tags))
        half = len(tags) // 2
        known, held = ([tags[i] for i in part] for part in (order[:half], order[half:]))
        batches = steps_of(documents, known, settings, seed)
        asked = torch.stack([documents.asked[tag] for tag in held])
        relevant = [np.array(documents.tags[tag]) for tag in held]
        plain = nn.Linear(SIZE, SIZE)
        with torch.no_grad():
            plain.weight.copy_(torch.eye(SIZE))
            plain.bias.zero_()
        layers = {"MiniLM": plain} | {
            name: matryoshka(plain, batches, dims=dims, epochs=settings["epochs"], lr=1e-3,
                             random_state=seed)
            for name, dims in (("nested", DIMS), ("all numbers alone", (SIZE,)))
        }  # fmt: skip
        for name, layer in layers.items():
            vectors, queries = (embed(layer, one) for one in (documents.vectors, asked))
            turn = PCA(SIZE, random_state=0).fit(vectors.numpy())
            turned = [torch.as_tensor(turn.transform(one.numpy())) for one in (vectors, queries)]
            for dim in DIMS:
                for form, (base, query) in (
                    (name, (vectors, queries)), (f"{name}, PCA", turned)
                ):  # fmt: skip
                    score = gain(base[:, :dim], query[:, :dim], relevant)
                    found.setdefault(form, {}).setdefault(str(dim), []).append(score)

    def points(other: str, dim: str) -> list[float]:
        both = zip(found["nested"][dim], found[other][dim], strict=True)
        return [round(a - b, 3) for a, b in both]

    against = {
        "documents-beat-the-cut": ("all numbers alone", "24", 0.0),
        "documents-beat-pca": ("all numbers alone, PCA", "24", 0.0),
        "documents-beat-minilm-cut": ("MiniLM", "24", 0.0),
        "documents-lose-nothing": ("all numbers alone", str(SIZE), -0.5),
    }
    note = (
        f"{len(documents.vectors):,} documents, {len(documents.tags)} tags; documents are the same "
        "in training and test, tags are not. A linear layer alone learns: to go on with the blocks "
        "of MiniLM takes a GPU."
    )
    return [
        Claim(id, STATEMENTS[id], judge(points(other, dim), margin=margin),
              {"points_by_seed": points(other, dim)}
              | ({"ndcg10_by_size": found} if id == "documents-beat-the-cut" else {}),
              list(settings["seeds"]), note)
        for id, (other, dim, margin) in against.items()
    ]  # fmt: skip
