"""The estimator: learn from pairs, index documents, search, and say why.

retriever = ColBERTerRetriever().fit(queries, positives)
retriever.index(documents)
retriever.search("why do tails wag", k=10, explain=True)
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, cast

import torch
from torch import nn

from stackwise.build.colberter.encoding import encode_documents
from stackwise.build.colberter.index.folder import Index
from stackwise.build.colberter.index.searching import Workflow
from stackwise.build.colberter.indexed import IndexedRetriever
from stackwise.build.colberter.knobs import (
    Stored,
    encoder_knobs,
    loss_knobs,
    matching_knobs,
    reading_knobs,
)
from stackwise.build.colberter.learn.fitting import prepared, taught
from stackwise.build.colberter.learn.stages import phases_of, score_tables, stages_of
from stackwise.build.colberter.model.network import ColBERTer
from stackwise.build.colberter.reading import Reading, begun, reading_of
from stackwise.catalog import Knob, learner
from stackwise.errors import KnobError
from stackwise.file_bounds import within
from stackwise.files import read_tensors, write_tensors
from stackwise.learning.network import NetworkLearner
from stackwise.tasks.retrieval.collection import Document, Pair
from stackwise.tasks.retrieval.estimators.batches import PairBatches
from stackwise.tasks.retrieval.estimators.encoder import (
    Rate,
    kept_encoder,
    new_encoder_knobs,
    usual_rate,
)
from stackwise.tasks.retrieval.estimators.given import learned_from
from stackwise.tasks.retrieval.estimators.pairs import pair_knobs, training_pairs
from stackwise.tasks.retrieval.estimators.ranks import RankOfPairs, watched_pairs
from stackwise.tasks.retrieval.retriever import documents_of
from stackwise.training.knobs import training_knobs
from stackwise.training.session import current_session

TIMED = 16
"""Documents whose indexing is timed where there is a limit."""
FEW_WITHOUT_MATCH = 8
"""Numbers of a word below which words that differ can hardly be told apart."""


@learner(
    "colberter",
    title="Search by one vector a text and a narrow one a word",
    verb="build",
    paper="2203.13088",
    cost="a pass of the encoder a document once, and 2 bytes to 64 a word on the disk",
    verified="tests/build/test_colberter_parity.py",
    requires={"transformers": "llm", "tokenizers": "llm"},
    training={"batch_size": 32, "max_epochs": 20, "patience": 5},
    presets={
        "quick": {"encoder": None, "layers": 1, "width": 32, "heads": 2, "vocabulary": 300,
                  "cls_dim": 32, "token_dim": 16, "max_epochs": 8},
        "standard": {},
        "best": {"negatives": "bm25", "max_epochs": 60, "patience": 10},
    },
    names={
        "ColBERTer": "stackwise.build.colberter.model.network:ColBERTer",
        "WholeWords": "stackwise.build.colberter.model.words:WholeWords",
    },
)  # fmt: skip
class ColBERTerRetriever(IndexedRetriever, NetworkLearner):
    """Find documents by one vector a text, and order them by vectors of their whole words.

    Fitted, besides those of `NetworkLearner`: `reading_` (the encoder and what reads for it), and
    once documents are indexed `index_`.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (
        encoder_knobs, new_encoder_knobs, reading_knobs, matching_knobs, loss_knobs, pair_knobs,
        training_knobs,
    )  # fmt: skip

    def __init__(
        self,
        *,
        workflow: Annotated[
            Workflow, Knob("which vectors find candidates, and which order them")
        ] = "cls+bow",
        candidates: Annotated[int, Knob("passages that are ordered by their words", ge=1)] = 1000,
        stored: Annotated[Stored, Knob("type of the numbers that are stored")] = "float16",
        lr: Rate = None,
    ) -> None:
        """A retriever."""

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        negatives: Sequence[str] | None = None,
        teacher_scores: Any = None,
    ) -> Self:
        """Learn from a loaded task, whose documents are then indexed, or from queries and the texts
        that answer them.

        Args:
            X: a task, or queries. Without y, documents: pairs are made of their titles.
            y: a text that answers each query. negatives: one that does not.
            teacher_scores: (n, 2) of both, whose difference is learned (MarginMSE).

        Raises:
            DataError: there is too little to learn from. KnobError: a knob is out of range.
        """
        self._begin()
        task, pairs, held = learned_from(X, y, negatives, teacher_scores, self.seed_)
        documents = [] if task is None else documents_of(task)
        self._learn(pairs, held, documents)
        if task is not None:
            self.index(documents)
        return self

    def _learn(
        self, pairs: Sequence[Pair], held: Sequence[Pair], documents: Sequence[Document]
    ) -> None:
        """Train the network on pairs; those that are held say what is best.

        Args:
            documents: that are indexed then: of a time limit so much is left as they take.
        """
        self._check_form()
        found = training_pairs(pairs, self.most_pairs, self.seed_)
        taught(found, self.teacher, self.negatives, self.seed_)
        if self.most_pairs < len(pairs):
            self.notes_.append(f"{self.most_pairs:,} of {len(pairs):,} pairs were drawn")
        reading = begun(self, [*found.queries, *found.documents], self.seed_)
        stages = stages_of(self._form(reading), self.max_epochs)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed_)
            network = ColBERTer(**stages[0][1])
        network.encoder = reading.model if reading.learns else None
        batches = PairBatches(
            found, *prepared(reading, found, "reading pairs"), self.batch_size, seed=self.seed_
        )
        validate, watched = None, watched_pairs(held, self.most_pairs, self.seed_)
        if watched is not None:
            sides = prepared(reading, watched, "reading validation pairs")
            validate = RankOfPairs(watched, *sides, score_tables, self.seed_)
        phases = phases_of(
            stages, batches, validate, (self.score_weight, self.cls_weight, self.gate_weight),
            self.patience if validate is not None else None, network.encoder,
            lr=usual_rate(self.lr, tunes=self.tune), weight_decay=self.weight_decay,
            grad_clip=self.grad_clip, schedule=self.schedule, warmup=self.warmup,
        )  # fmt: skip
        with current_session().within(self._seconds_to_learn(reading, network, documents)):
            self.network_ = self.train(network, phases).model.cpu().eval()
        self.reading_ = reading
        if reading.learns:
            cast(Any, self.network_.encoder).eval()

    def _seconds_to_learn(
        self, reading: Reading, network: ColBERTer, documents: Sequence[Document]
    ) -> float | None:
        """What a time limit leaves for training once the documents are indexed; None without."""
        left = current_session().seconds_left()
        if left is None or not documents:
            return None
        some = documents[:: max(len(documents) // TIMED, 1)][:TIMED]
        began = time.monotonic()
        encode_documents(reading, network.eval(), some)
        each = (time.monotonic() - began) / len(some)
        network.train()
        needed = each * len(documents)
        if needed > left:
            self._say(
                f"indexing {len(documents):,} documents takes about {needed:.0f} s, more than the "
                "limit leaves; the network has had the least training that there is"
            )
        return max(left - needed, 1.0)

    def _check_form(self) -> None:
        few = self.final_dim is not None and self.final_dim <= FEW_WITHOUT_MATCH
        if few and not self.exact_match:
            self._say(
                f"with final_dim={self.final_dim} numbers a word, words that differ match too "
                "easily; exact_match=true lets only equal ones match"
            )
        if self.workflow in ("bow+cls", "hybrid") and not self.exact_match:
            raise KnobError(f"workflow={self.workflow} needs exact_match=true")

    def _form(self, reading: Reading) -> dict[str, Any]:
        """The arguments of the whole network."""
        return {
            "width": int(reading.model.config.hidden_size), "cls_dim": self.cls_dim,
            "token_dim": self.token_dim, "final_dim": self.final_dim, "stopwords": self.stopwords,
            "exact_match": self.exact_match, "learned_merge": self.learned_merge,
        }  # fmt: skip

    def _write(self, folder: Path) -> dict[str, Any]:
        network, reading = self._net, self.reading_
        own = {k: v for k, v in network.state_dict().items() if not k.startswith("encoder.")}
        write_tensors(folder / "model.safetensors", own)
        record = reading.keep(network.encoder, folder) | {
            "arguments": network.arguments, "history": self.history_,
            "best_epoch": self.best_epoch_,
        }  # fmt: skip
        if hasattr(self, "index_"):
            self._keep_index(folder / "index")
        return record

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        found = kept_encoder(folder, record, self.encoder)
        path = folder / "model.safetensors"
        tensors = read_tensors(path)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        network = within(ColBERTer, record["arguments"], shapes, path)
        network.load_state_dict(tensors)
        self.reading_ = reading_of(self, found)
        network.encoder = cast(nn.Module, found.model) if found.learns else None
        self.network_ = network.eval()
        self.history_, self.best_epoch_ = record["history"], record["best_epoch"]
        if (folder / "index" / "manifest.json").is_file():
            self.index_ = Index.open(folder / "index", self._made_with())
