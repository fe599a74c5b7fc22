"""The learner: vectors of words, a network over them, and a threshold that validation chooses."""

import copy
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from stackwise.build.drug_ner.batches import Features, SentenceBatches, WindowBatches
from stackwise.build.drug_ner.losses import ClassWeight, TagLoss, class_weights
from stackwise.build.drug_ner.networks import Activation, Arch, TagNetwork
from stackwise.build.drug_ner.pretraining import layer_phases
from stackwise.build.drug_ner.putting_through import (
    likeliest,
    log_softmax,
    marginals,
    outputs_of,
)
from stackwise.build.drug_ner.representation import window_places
from stackwise.build.drug_ner.selection import Select, selected
from stackwise.build.drug_ner.settings import PRETRAINED, Settings, settled
from stackwise.build.drug_ner.word_vectors.choosing import SKIPGRAM, chosen_vectors
from stackwise.build.drug_ner.word_vectors.keeping import keep_vectors, vectors_in
from stackwise.build.drug_ner.word_vectors.lookup import Vectors
from stackwise.catalog import Knob, learner
from stackwise.learning.kept_network import keep_network, network_in
from stackwise.learning.labelled_estimator import held_out_knobs
from stackwise.learning.network import NetworkLearner
from stackwise.learning.trainable import Trainable
from stackwise.tasks.tags.estimators.coding import Coding, InOut, Prefixed, Runs
from stackwise.tasks.tags.estimators.estimator import TaggedRows, known_spans
from stackwise.tasks.tags.estimators.wordwise import WordwiseEstimator
from stackwise.tasks.tags.sentences import check_tagged
from stackwise.training.batches import Batches
from stackwise.training.knobs import training_knobs
from stackwise.training.phases import Phase
from stackwise.training.rules import Backprop

SENTENCES_A_STEP, WINDOWS_A_STEP = 32, 256
LITTLE = 1e-4
"""How much the loss counts beside F1 where a network is judged."""


@learner(
    "drug-ner",
    title="Names found by word vectors and how far they jump",
    paper="1610.01891",
    cost="seconds to minutes on a CPU; word vectors first, then a small LSTM",
    training={
        "max_epochs": 15, "patience": 5, "min_steps": 150,
    },
    presets={
        "quick": {
            "vector_size": 16, "vector_epochs": 2, "hidden": 16, "max_epochs": 5, "min_steps": 0,
            "min_count": 1,
        },
        "standard": {},
        "best": {"bidirectional": True, "unknown": "pieces", "max_epochs": 30},
    },
    names={
        "labels_from_names": "stackwise.tasks.tags.names:labels_from_names",
        "train_vectors": "stackwise.build.drug_ner.word_vectors.lookup:train_vectors",
    },
)  # fmt: skip
class TokenTagger(NetworkLearner, WordwiseEstimator):
    """Find names in text from word vectors alone: no dictionary, no features made by hand.

    Fitted, besides what every tagger has: `vectors_`, `shift_` and `scale_` (what is taken off
    vectors, and by what they are divided), `network_`.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (held_out_knobs, training_knobs)

    def __init__(
        self,
        *,
        arch: Annotated[
            Arch, Knob("LSTM, plain layers, or layers that learn before: RBMs, auto-encoders")
        ] = "lstm",
        representation: Annotated[
            Literal["auto", "sequence", "window"],
            Knob("whole sentences or windows of words; auto is sentences for an LSTM alone"),
        ] = "auto",
        window: Annotated[int, Knob("words of a window", search=(3, 7))] = 5,
        vectors: Annotated[
            str | Any,
            Knob("skipgram trains them; else a file or mapping of them, or an encoder: minilm"),
        ] = SKIPGRAM,
        vector_size: Annotated[int, Knob("numbers of a vector", ge=2, log=True)] = 100,
        vector_epochs: Annotated[int, Knob("passes of skip-gram over the text", ge=1)] = 15,
        min_count: Annotated[int, Knob("words that are rarer have no vector", ge=1)] = 2,
        unknown: Annotated[
            Literal["mean", "pieces"],
            Knob("what skip-gram has for a word without vector: the mean, or its letters"),
        ] = "mean",
        text: Annotated[
            str | Any | None, Knob("a file of further texts, untagged, for skip-gram to read")
        ] = None,
        distance: Annotated[
            Literal["auto", "elementwise", "scalar", "none"],
            Knob("distance to the word before, beside each vector; auto is none in windows"),
        ] = "auto",
        layers: Annotated[int | None, Knob("layers; none is 2 where they learn before, else 1",
                                           ge=1, le=8, search=(1, 2))] = None,
        hidden: Annotated[int | None, Knob("units of the first; none is 128 of an LSTM, else 256",
                                           ge=1, log=True, search=(64, 256))] = None,
        bidirectional: Annotated[bool, Knob("an LSTM that reads both ways")] = False,
        activation: Annotated[
            Activation | None, Knob("of plain layers; none is relu, or sigmoid for dbn and sae")
        ] = None,
        dropout: Annotated[
            float, Knob("before the last layer", ge=0, lt=1, search=(0.0, 0.5))
        ] = 0.3,
        scheme: Annotated[
            Literal["in-out", "BIO", "IOBES"], Knob("what is said of each word of a sentence")
        ] = "in-out",
        crf: Annotated[bool, Knob("a chain over the classes of a sentence on top")] = False,
        select: Annotated[
            Select, Knob("windows to learn from: all, a band of frequency, or clusters with names")
        ] = "all",
        class_weight: Annotated[
            Literal["auto", "sqrt", "inverse", "none"],
            Knob("rare classes count more: root of the inverse share, or it; auto: root, no crf"),
        ] = "auto",
        pretrain_epochs: Annotated[
            int, Knob("passes for each layer that learns before; 0 for none", ge=0)
        ] = 10,
        pretrain_lr: Annotated[
            float | None, Knob("of these; none is 0.01 of RBMs, 0.001 of auto-encoders", gt=0)
        ] = None,
        noise: Annotated[
            float, Knob("share of inputs put out where auto-encoders learn", ge=0, lt=1)
        ] = 0.2,
    ) -> None:  # fmt: skip
        """A tagger on word vectors."""

    vectors_: Vectors
    shift_: np.ndarray
    scale_: float
    network_: nn.Module

    def _learn(self, train: TaggedRows, held: TaggedRows | None) -> None:
        settings = settled(self)
        self.window_ = self.window if settings.representation == "window" else None
        window_places([1], self.window)  # is it large enough?
        self.coding_ = self._coding()
        self.vector_history_: list[dict[str, Any]] = []
        self.vectors_ = chosen_vectors(self, train.sentences, self.seed_, self._train_vectors)
        looked = self.vectors_.lookup(train.sentences)
        used = looked.table[looked.ids].astype(np.float64)
        self.shift_ = used.mean(0).astype(np.float32)
        # one factor for all numbers: distances keep their proportions
        self.scale_ = float(np.sqrt(used.var(0).mean())) or 1.0
        features = self._features(train.sentences, looked)
        codes = self._codes(train)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed_)
            network = self._network(settings)
        batches, loss = self._batches(features, train, codes), self._loss(codes)
        validate = self._validation(held)
        rule = Backprop(
            loss, lr=self.lr, weight_decay=self.weight_decay, grad_clip=self.grad_clip,
            schedule=self.schedule, warmup=self.warmup, validate=validate, monitor="watched",
            mode="max",
        )  # fmt: skip
        # few sentences make short epochs, of which it takes more to learn and to lose patience
        epochs = max(self.max_epochs, math.ceil(self.min_steps / max(len(batches), 1)))
        patience = None
        if validate is not None and self.patience is not None:
            patience = max(self.patience, epochs // 3)
        phases = [
            *self._before(settings, network, features),
            Phase("train", rule, batches, epochs, patience),
        ]
        trained = self.train(network, phases)
        self.history_ = self.vector_history_ + self.history_
        self.network_ = trained.model.cpu().eval()
        self.tune(held)

    def _coding(self) -> Coding:
        if self.window_ is not None:
            return Runs(self.types_, self.window_)
        if self.scheme == "in-out":
            return InOut(self.types_)
        return Prefixed(self.types_, self.scheme)

    def _train_vectors(self, network: nn.Module, rule: Any, batches: Any, epochs: int) -> nn.Module:
        """Skip-gram in the same session, as a fit of its own before the network's."""
        found = self.train(network, [Phase("vectors", rule, batches, epochs, keep="last")])
        self.vector_history_ = self.history_
        return found.model

    def _codes(self, rows: TaggedRows) -> list[np.ndarray]:
        """(n,) the class of each word of each sentence."""
        pairs = zip(rows.sentences, rows.spans, strict=True)
        return [self.coding_.encode(spans, len(words)) for words, spans in pairs]

    def _network(self, settings: Settings) -> TagNetwork:
        return TagNetwork(
            size=self.vectors_.size, n_outputs=len(self.coding_.classes), window=self.window_,
            widths=settings.widths, recurrent=settings.recurrent,
            bidirectional=self.bidirectional, activation=settings.activation,
            distance=settings.distance, dropout=self.dropout, crf=self.crf,
        )  # fmt: skip

    def _features(self, sentences: list[list[str]], looked: Any = None) -> Features:
        found = self.vectors_.lookup(sentences) if looked is None else looked
        return Features(found, sentences, self.shift_, self.scale_)

    def _step_size(self) -> int:
        if self.batch_size != "auto":
            return int(self.batch_size)
        return SENTENCES_A_STEP if self.window_ is None else WINDOWS_A_STEP

    def _batches(self, features: Features, train: TaggedRows, codes: list[np.ndarray]) -> Batches:
        if self.window_ is None:
            return SentenceBatches(features, codes, self._step_size(), seed=self.seed_)
        windows = features.windows(window_places(features.lengths.tolist(), self.window_))
        labels = np.concatenate(codes)
        kept = selected(
            self.select, train.sentences, windows.numpy(), labels, features.table.numpy(),
            self.seed_,
        )  # fmt: skip
        if len(kept) < len(labels):
            self.notes_.append(
                f"{self.select} keeps {len(kept):,} of {len(labels):,} windows to learn from"
            )
        return WindowBatches(
            features, windows[kept], labels[kept], self._step_size(), seed=self.seed_
        )

    def _before(self, settings: Settings, network: TagNetwork, features: Features) -> list[Phase]:
        """A phase a layer that learns before the network does, from windows of the whole text."""
        if settings.arch not in PRETRAINED or not self.pretrain_epochs:
            return []
        batches: Batches
        if self.window_ is None:
            batches = SentenceBatches(features, None, self._step_size(), seed=self.seed_)
        else:
            places = window_places(features.lengths.tolist(), self.window_, stream=True)
            rows = features.windows(places)
            batches = WindowBatches(features, rows, None, self._step_size(), seed=self.seed_)
        return layer_phases(
            network, batches, machines=settings.arch == "dbn", epochs=self.pretrain_epochs,
            lr=self.pretrain_lr, noise=self.noise,
        )  # fmt: skip

    def _loss(self, codes: list[np.ndarray]) -> TagLoss:
        if self.crf:
            return TagLoss()
        how: ClassWeight = "sqrt" if self.class_weight == "auto" else self.class_weight
        return TagLoss(class_weights(codes, len(self.coding_.classes), how))

    def _validation(self, held: TaggedRows | None) -> Any:
        """What judges a network on held-out sentences: F1 at the best threshold; None without."""
        if held is None or not any(held.spans):
            return None
        known = TaggedRows(held.sentences, known_spans(held.spans, self.types_))
        return partial(self._judged, features=self._features(held.sentences), held=known)

    def _judged(self, network: nn.Module, features: Features, held: TaggedRows) -> dict[str, float]:
        """F1 at the best threshold, and what is watched: it, and where it stays the same the mean
        of -log p of the classes, which moves first.
        """
        values = self._of_outputs(network, outputs_of(network, features, self.window_))
        answering = copy.copy(self)
        answering.network_ = network
        threshold, f1 = answering.best_threshold(values, held.spans)
        log_p = np.concatenate(answering._normalised(values, log=True))
        codes = np.concatenate(self._codes(held))
        loss = float(-log_p[np.arange(len(codes)), codes].mean())
        return {"watched": f1 - LITTLE * loss, "f1": f1, "loss": loss, "threshold": threshold}

    def _values(self, sentences: list[list[str]]) -> list[np.ndarray]:
        """(n, C) log probabilities of each sentence; emissions where there is a chain."""
        outputs = outputs_of(self.network_, self._features(sentences), self.window_)
        return self._of_outputs(self.network_, outputs)

    def _of_outputs(self, network: nn.Module, outputs: list[np.ndarray]) -> list[np.ndarray]:
        if getattr(network, "chain", None) is not None:
            return outputs
        return [log_softmax(one) for one in outputs]

    def _chosen(self, values: Any, threshold: float) -> list[np.ndarray]:
        chain: Any = getattr(self.network_, "chain", None)
        if chain is None:
            return super()._chosen(values, threshold)
        return likeliest(chain, values, threshold)

    def _normalised(self, values: Any, *, log: bool = False) -> list[np.ndarray]:
        chain: Any = getattr(self.network_, "chain", None)
        if chain is None:
            return super()._normalised(values, log=log)
        found = marginals(chain, values)
        return [np.log(np.maximum(one, 1e-300)) for one in found] if log else found

    def _sure(self, probabilities: np.ndarray, codes: np.ndarray, start: int, end: int) -> float:
        """Of a window the probability of the whole name, else the mean over its words."""
        last = start + 1 if self.window_ is not None else end
        return super()._sure(probabilities, codes, start, last)

    def trainable(
        self, data: Any, *, batch_size: int | None = None, seed: int | None = None
    ) -> Trainable:
        """What a transform needs to go on training the network (a copy of it).

        Args:
            data: a loaded task of tags, or (sentences, tags).
            batch_size, seed: None takes those of `fit`.
        """
        check_is_fitted(self, self.fitted)
        train, held = self._rows_of(data)
        features = self._features(train.sentences)
        codes = self._codes(train)
        reader = copy.copy(self)
        reader.notes_ = []
        reader.batch_size = batch_size or self.batch_size
        reader.seed_ = self.seed_ if seed is None else seed
        validate = self._validation(held)
        return Trainable(
            model=copy.deepcopy(self.network_), batches=reader._batches(features, train, codes),
            loss=self._loss(codes), validate=validate,
            monitor=None if validate is None else "watched", mode="max", finish=self.with_network,
        )  # fmt: skip

    def _rows_of(self, data: Any) -> tuple[TaggedRows, TaggedRows | None]:
        """Training and held-out sentences of a task or of a pair, with names of known types."""
        if hasattr(data, "names_of"):
            parts = [TaggedRows(*data.names_of(part)) for part in ("train", "validation")]
        else:
            given = TaggedRows(*check_tagged(*data)[:2])
            parts = [part for part in self._split(given, None) if part is not None]
        known = [
            TaggedRows(one.sentences, known_spans(one.spans, self.types_)) for one in parts
        ]  # fmt: skip
        return known[0], known[1] if len(known) > 1 and len(known[1]) else None

    def _write(self, folder: Path) -> dict[str, Any]:
        record = super()._write(folder) | {"window": self.window_, "history": self.history_}
        record |= {"best_epoch": self.best_epoch_, "scale": self.scale_}
        record["vectors"] = keep_vectors(self.vectors_, self.vectors, self.shift_, folder)
        return record | {"network": keep_network(self.network_, folder)}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        self.window_ = record["window"]
        self.history_, self.best_epoch_ = record["history"], record["best_epoch"]
        self.scale_ = float(record["scale"])
        self.vectors_, self.shift_ = vectors_in(folder, record["vectors"])
        self.network_ = network_in(folder, record["network"]).eval()
