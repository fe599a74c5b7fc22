"""Nested embeddings: what heads, the loss and a search cost against the plain forms.

- a step of the heads (forward, sum of the losses, backward): MRL against a layer a size written out
  in torch; MRL-E against cutting the columns of one layer for each size, as public code does;
- a step of `MatryoshkaLoss` on given embeddings against sentence-transformers' wrapper where it is
  installed, around the same loss (else against the sum written out);
- a search that makes its shortlist of 200 from 16 of 256 numbers against faiss over all 256, with
  the share of the ten nearest that both find.
"""

import importlib.util

import faiss
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from side_by_side import alternate, line
from stackwise.train.matryoshka import MatryoshkaHead, MatryoshkaLoss, NestedSearch, halvings
from stackwise.train.matryoshka.rule import summed

HEADS = {"128 numbers, 100 classes": (128, 100, 200), "768 numbers, 1,000 classes": (768, 1000, 12),
         "2,048 numbers, 1,000 classes": (2048, 1000, 8)}  # fmt: skip
LOSSES = {"64 pairs of 128": (64, 128, 100), "128 pairs of 384": (128, 384, 60),
          "256 pairs of 768": (256, 768, 20)}  # fmt: skip
DATABASES = {"10,000 vectors": (10_000, 15), "50,000 vectors": (50_000, 9),
             "200,000 vectors": (200_000, 5)}  # fmt: skip
ROWS = 256
ALIKE = "the same products; medians of processor time are alike within their spread"
"""Why a row may be below: other work has the cores of the machine too."""


def heads() -> None:
    for name, (size, classes, repeats) in HEADS.items():
        torch.manual_seed(0)
        z, y = torch.randn(ROWS, size, requires_grad=True), torch.arange(ROWS) % classes
        dims = halvings(size)
        weights = (1.0,) * len(dims)
        layers = nn.ModuleList(nn.Linear(m, classes) for m in dims)
        one = nn.Linear(size, classes)
        made = {tied: MatryoshkaHead(size, classes, tied=tied) for tied in (False, True)}

        def ours(tied, made=made, z=z, y=y, weights=weights):
            logits = made[tied].nested(z)
            summed(logits, weights, lambda o: functional.cross_entropy(o, y)).backward()

        def apart(layers=layers, dims=dims, z=z, y=y):
            losses = [
                functional.cross_entropy(layer(z[:, :m]), y)
                for layer, m in zip(layers, dims, strict=True)
            ]
            sum(losses).backward()

        def cut(one=one, dims=dims, z=z, y=y):
            losses = [
                functional.cross_entropy(
                    functional.linear(z[:, :m], one.weight[:, :m], one.bias), y
                )
                for m in dims
            ]
            sum(losses).backward()

        own, peer = alternate(lambda: ours(False), apart, repeats)
        line(f"MRL heads, {name}", own, peer, "a layer a size, in torch", "s", "float32", 1, ALIKE)
        own, peer = alternate(lambda: ours(True), cut, repeats)
        line(f"MRL-E head, {name}", own, peer, "one layer cut for each size, in torch", "s",
             "float32", 1)  # fmt: skip


class Given(nn.Module):
    """A model whose embeddings are what it is given, as sentence-transformers asks one."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def get_embedding_dimension(self) -> int:
        return self.size

    def forward(self, features):
        return {"sentence_embedding": features["z"]}


class Ranking(nn.Module):
    """In-batch negatives on cosines, in the form that their wrapper takes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, features, labels):
        return ranking(*(self.model(of)["sentence_embedding"] for of in features))


def ranking(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(20 * one @ other.T, torch.arange(len(one)))


def losses() -> None:
    installed = importlib.util.find_spec("sentence_transformers") is not None
    for name, (rows, size, repeats) in LOSSES.items():
        torch.manual_seed(0)
        a, b = (torch.randn(rows, size, requires_grad=True) for _ in range(2))
        dims = halvings(size)
        wrapped = MatryoshkaLoss(ranking, dims, normalise=True)

        def ours(wrapped=wrapped, a=a, b=b):
            wrapped(a, b).backward()

        if installed:
            from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss as Theirs

            model = Given(size)
            peer_loss = Theirs(model, Ranking(model), list(dims))

            def theirs(peer_loss=peer_loss, a=a, b=b):
                peer_loss([{"z": a}, {"z": b}], None).backward()
        else:

            def theirs(dims=dims, a=a, b=b):
                cuts = ([functional.normalize(v[:, :m], dim=1) for v in (a, b)] for m in dims)
                sum(ranking(*pair) for pair in cuts).backward()

        own, peer = alternate(ours, theirs, repeats)
        who = "sentence-transformers" if installed else "written out in torch"
        line(f"nested loss, {name}", own, peer, who, "s", "float32", 1, ALIKE)


def searches() -> None:
    size, k = 256, 200
    faiss.omp_set_num_threads(1)
    scale = np.arange(1, size + 1, dtype=np.float32) ** -0.5  # first numbers say most
    for name, (rows, repeats) in DATABASES.items():
        generator = np.random.default_rng(0)
        base = generator.normal(size=(rows, size)).astype(np.float32) * scale
        asked = base[:100] + 0.3 * generator.normal(size=(100, size)).astype(np.float32) * scale
        unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (base, asked)]
        exact = faiss.IndexFlatL2(size)
        exact.add(unit[0])
        search = NestedSearch(base, 16)

        def adaptive(search=search, asked=asked):
            return search.adaptive(asked, k=k)[0][:, :10]

        def funnel(search=search, asked=asked):
            return search.funnel(asked, dims=(32, 64, 256), lengths=(k, 100, 50))[0][:, :10]

        def everything(exact=exact, unit=unit):
            return exact.search(unit[1], 10)[1]

        truth = everything()
        for what, way in (("adaptive", adaptive), ("funnel", funnel)):
            shared = np.mean([np.isin(a, b).mean() for a, b in zip(way(), truth, strict=True)])
            own, peer = alternate(way, everything, repeats)
            line(f"{what} search from 16 of 256 numbers, {name}, {100 * shared:.0f} % of the ten "
                 "nearest", own, peer, "faiss, flat, all numbers", "s", "float32", 1)  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    heads()
    losses()
    searches()


if __name__ == "__main__":
    main()
