"""The estimator: learn from pairs, index documents, search by as many numbers as one likes.

    retriever = MatryoshkaRetriever().fit(queries, positives)
    retriever.index(documents)
    retriever.search("why do tails wag", k=10, dim=64)

A text's vector is z = W m, the mean of an encoder's tokens under a square map that begins as the
identity. A query and its document find each other in the batch, at every nested size, and the
losses are summed:

    loss = sum_{m in M} c_m contrast(W m_q [:m], W m_d [:m])

By default the encoder is the packaged MiniLM, frozen: its means are read once, and W learns in
seconds. The paper tunes whole encoders (`blocks`), or their last layers.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, cast

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from stackwise.catalog import Knob, ModelRef, learner
from stackwise.errors import DataError, KnobError
from stackwise.files import read_tensors, write_tensors
from stackwise.learning.kept_network import keep_network, network_in
from stackwise.learning.network import NetworkLearner
from stackwise.optional import needs
from stackwise.tasks.retrieval.collection import Document, Pair
from stackwise.tasks.retrieval.estimators.batches import PairBatches
from stackwise.tasks.retrieval.estimators.encoder import (
    Rate,
    TextEncoder,
    kept_encoder,
    named_encoder,
    new_encoder_knobs,
    text_encoder,
    usual_rate,
)
from stackwise.tasks.retrieval.estimators.given import learned_from
from stackwise.tasks.retrieval.estimators.pairs import draw_negatives, pair_knobs, training_pairs
from stackwise.tasks.retrieval.estimators.ranks import RankOfPairs, watched_pairs
from stackwise.tasks.retrieval.hits import Hits
from stackwise.tasks.retrieval.retriever import (
    Ranking,
    Retriever,
    documents_of,
    kept_documents,
    write_documents,
)
from stackwise.train.matryoshka.contrastive import TEMPERATURE
from stackwise.train.matryoshka.freezing import freeze
from stackwise.train.matryoshka.learner import CARD
from stackwise.train.matryoshka.retrieval import unit_prefixes
from stackwise.train.matryoshka.rule import nesting_knobs
from stackwise.train.matryoshka.searching.documents import (
    NestedDocuments,
    Way,
    Workflow,
    search_knobs,
    usual_shortlist_dim,
)
from stackwise.train.matryoshka.searching.losses import (
    NestedPairLoss,
    NestedRanks,
    cosines_by_size,
)
from stackwise.train.matryoshka.searching.network import MappedMeans, SquareMap
from stackwise.train.matryoshka.searching.reading import TextReader
from stackwise.train.matryoshka.sizes import checked_cut, checked_sizes, checked_weights
from stackwise.training.knobs import training_knobs
from stackwise.training.phases import Phase
from stackwise.training.rules import Backprop

Dim = Annotated[
    int | None, Knob("numbers of each vector that are compared; none: all", short="d", ge=1)
]


@learner(
    "matryoshka",
    training={"batch_size": 32, "max_epochs": 20, "patience": 5},
    presets={
        "quick": {"model": None, "layers": 1, "width": 32, "heads": 2, "vocabulary": 300,
                  "max_epochs": 8},
        "standard": {},
        "best": {"negatives": "bm25", "max_epochs": 60, "patience": 10},
    },
    **CARD,
)  # fmt: skip
class MatryoshkaRetriever(Retriever, NetworkLearner):
    """Find documents by vectors whose first numbers serve by themselves.

    Fitted, besides those of `NetworkLearner`: `encoder_`, and once documents are indexed
    `documents_` and `vectors_`, (n, width) float32.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (
        search_knobs, nesting_knobs, new_encoder_knobs, pair_knobs, training_knobs,
    )  # fmt: skip
    fitted: ClassVar[str] = "network_"

    def __init__(
        self,
        *,
        model: Annotated[
            ModelRef | str | None,
            Knob("an encoder; auto: the packaged MiniLM where it is; none: a new small one"),
        ] = "auto",
        blocks: Annotated[
            int | None,
            Knob("last blocks of a pretrained encoder that learn; none: all; a new one learns "
                 "whole", ge=0),
        ] = 0,
        length: Annotated[int, Knob("most tokens of a text; what follows is not read", ge=8)] = 256,
        temperature: Annotated[float, Knob("of the contrastive loss", gt=0)] = TEMPERATURE,
        lr: Rate = None,
    ) -> None:  # fmt: skip
        """A retriever."""

    encoder_: TextEncoder
    vectors_: np.ndarray

    def fit(self, X: Any, y: Any = None, *, negatives: Sequence[str] | None = None) -> Self:
        """Learn from a loaded task, whose documents are then indexed, or from queries and the texts
        that answer them.

        Args:
            X: a task, or queries. Without y, documents: pairs are made of their titles.
            y: a text that answers each query. negatives: one that does not.

        Raises:
            DataError: there is too little to learn from. KnobError: a knob is out of range.
        """
        self._begin()
        needs("faiss", "a search by vectors")
        task, pairs, held = learned_from(X, y, negatives, None, self.seed_)
        reader = self._learn(pairs, held)
        if task is not None:
            self._index(documents_of(task), reader)
        return self

    def _learn(self, pairs: Sequence[Pair], held: Sequence[Pair]) -> TextReader:
        """Train on pairs; those that are held say what is best. Returns what read them."""
        found = training_pairs(pairs, self.most_pairs, self.seed_)
        if self.negatives != "none" and found.negatives is None:
            draw_negatives(found, self.negatives, self.seed_)
        if self.most_pairs < len(pairs):
            self.notes_.append(f"{self.most_pairs:,} of {len(pairs):,} pairs were drawn")
        if self.batch_size == 1 and found.negatives is None:
            raise KnobError(
                "batch_size=1 leaves a query nothing to choose among; give 2 or more, or negatives"
            )
        self.encoder_ = encoder = self._begun([*found.queries, *found.documents])
        width = int(encoder.model.config.hidden_size)
        dims = checked_sizes(self.dims, width)
        weights = checked_weights(self.weights, dims)
        checked_cut(self.shortlist_dim, width)
        network = MappedMeans(SquareMap(width=width), encoder.model if encoder.learns else None)
        tunes = encoder.learns and encoder.reference is not None
        if network.encoder is not None and tunes:
            freeze(network.encoder.model, self.blocks)
        reader = TextReader(encoder, self.length)
        batches = PairBatches(
            found, *reader.sides(found, "reading pairs"), self.batch_size, seed=self.seed_,
            both_ways=True,
        )  # fmt: skip
        validate, watched = None, watched_pairs(held, self.most_pairs, self.seed_)
        if watched is not None:
            sides = reader.sides(watched, "reading validation pairs")
            ranks = RankOfPairs(watched, *sides, partial(cosines_by_size, dims), self.seed_)
            validate = NestedRanks(ranks, weights)
        rule = Backprop(
            NestedPairLoss(dims, weights, self.temperature), validate=validate, monitor="mrr",
            mode="max", lr=usual_rate(self.lr, tunes=tunes), weight_decay=self.weight_decay,
            grad_clip=self.grad_clip, schedule=self.schedule, warmup=self.warmup,
        )  # fmt: skip
        patience = self.patience if validate is not None else None
        trained = self.train(network, [Phase("nest", rule, batches, self.max_epochs, patience)])
        self.network_ = trained.model.cpu().eval().requires_grad_(True)
        return reader

    def _begun(self, texts: Sequence[str]) -> TextEncoder:
        """The encoder that the knobs name."""
        reference = named_encoder(self.model)
        if reference is None and self.blocks:
            raise KnobError(
                f"blocks={self.blocks} is for a pretrained encoder, and there is none; a new one "
                "learns whole"
            )
        return text_encoder(
            reference, self, texts, learns=self.blocks != 0, context=self.length, seed=self.seed_
        )

    @property
    def _net(self) -> MappedMeans:
        check_is_fitted(self, "network_")
        return cast(MappedMeans, self.network_)

    @property
    def dims_(self) -> tuple[int, ...]:
        """The nested sizes."""
        return checked_sizes(self.dims, self._net.map.linear.in_features)

    def encode(self, texts: Sequence[str], *, dim: int | None = None) -> np.ndarray:
        """(n, dim) float32 of length 1: texts as they are compared by their first `dim` numbers."""
        size = checked_cut(dim, self.dims_[-1])
        return unit_prefixes(self._read_by(self._net, texts, "reading"), size)

    def _read_by(self, network: MappedMeans, texts: Sequence[str], what: str) -> np.ndarray:
        return TextReader(self.encoder_, self.length).vectors(network, texts, what)

    def index(self, documents: Any, ids: Sequence[str] | None = None) -> Self:
        """Index documents anew: texts, records, a file, a folder, or `Document`s.

        Args:
            ids: of texts, where they have names.
        """
        check_is_fitted(self, "network_")
        self._index(documents_of(documents, ids), TextReader(self.encoder_, self.length))
        return self

    def _index(self, documents: list[Document], reader: TextReader) -> None:
        texts = [one.whole for one in documents]
        self._hold(documents, reader.vectors(self._net, texts, "indexing"))

    def _hold(self, documents: list[Document], vectors: np.ndarray) -> None:
        self.documents_, self.vectors_ = documents, vectors
        self._nested = NestedDocuments(vectors)
        vars(self).pop("_places", None)  # of the documents before

    def rank(
        self, queries: Sequence[str], k: int = 10, *, dim: int | None = None,
        workflow: Workflow | None = None,
    ) -> list[Ranking]:  # fmt: skip
        """The k best documents of each query, or all where there are fewer.

        Args:
            dim: numbers that are compared in the end; None: all. workflow: None: the knob's.

        Raises:
            DataError: a query is blank, vectors have fewer numbers, or nothing is indexed.
        """
        asked = self._asked(queries)
        if not hasattr(self, "documents_"):
            raise DataError("no documents are indexed; call index(documents)")
        dims = self.dims_
        way = Way(
            workflow or self.workflow, dims, self.shortlist,
            self.shortlist_dim or usual_shortlist_dim(dims),
        )  # fmt: skip
        vectors = self._read_by(self._net, asked, "reading queries")
        places, cosines = self._nested.search(vectors, k, way, dim)
        return [
            ([self.documents_[place].id for place in row], own)
            for row, own in zip(places, cosines, strict=True)
        ]

    def search(
        self,
        query: Annotated[str, Knob("what is asked")],
        *,
        k: Annotated[int, Knob("documents that are shown", short="k", ge=1)] = 10,
        dim: Dim = None,
        workflow: Annotated[
            Workflow | None, Knob("which vectors find candidates, and which order them")
        ] = None,
    ) -> Hits:
        """Find the documents that answer a query best."""
        return self._hits(query, self.rank([query], k, dim=dim, workflow=workflow)[0])

    def score_pairs(self, queries: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        """(n,) the cosine of each text and its query, by all numbers."""
        return np.asarray((self.encode(queries) * self.encode(texts)).sum(1), dtype=np.float32)

    def index_bytes(self) -> int:
        """Bytes of the vectors."""
        return int(self.vectors_.nbytes)

    def _write(self, folder: Path) -> dict[str, Any]:
        network = self._net
        learned = None if network.encoder is None else network.encoder.model
        record = self.encoder_.keep(learned, folder) | {"map": keep_network(network.map, folder)}
        if hasattr(self, "documents_"):
            write_documents(folder / "documents.jsonl", self.documents_)
            write_tensors(
                folder / "vectors.safetensors", {"vectors": torch.from_numpy(self.vectors_)}
            )
        return record | {"history": self.history_, "best_epoch": self.best_epoch_}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        self.encoder_ = kept_encoder(folder, record, self.model)
        model = self.encoder_.model if self.encoder_.learns else None
        made = cast(SquareMap, network_in(folder, record["map"]))
        self.network_ = MappedMeans(made, model).eval()
        self.history_, self.best_epoch_ = record["history"], record["best_epoch"]
        if (folder / "documents.jsonl").is_file():
            needs("faiss", "a search by vectors")
            vectors = read_tensors(folder / "vectors.safetensors")["vectors"].numpy()
            self._hold(kept_documents(folder / "documents.jsonl"), vectors)
