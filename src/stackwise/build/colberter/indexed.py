"""What a fitted network is for: index documents, search, say why, and answer in a browser."""

import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, cast

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from stackwise.build.colberter.encoding import encode_documents, encode_queries, encoder_of
from stackwise.build.colberter.explaining import document_scores, explained_hit, explained_table
from stackwise.build.colberter.index.folder import Index
from stackwise.build.colberter.index.searching import QueryVectors, Workflow, search_index
from stackwise.build.colberter.index.segment import Encoded
from stackwise.build.colberter.model.network import ColBERTer
from stackwise.build.colberter.pages.explained import ExplainedHits
from stackwise.build.colberter.pages.server import search_app, serve_app
from stackwise.build.colberter.reading import Reading
from stackwise.catalog import Knob
from stackwise.errors import DataError, RunError
from stackwise.seals import tensors_hash
from stackwise.tasks.retrieval.collection import Document
from stackwise.tasks.retrieval.hits import Hits, hit
from stackwise.tasks.retrieval.retriever import Ranking, Retriever, documents_of
from stackwise.training.session import count_aloud, current_session


class IndexedRetriever(Retriever):
    """A retriever with an index on disk.

    Fitted: `network_`, `reading_`, and once documents are indexed `index_`.
    """

    verbs: ClassVar[tuple[str, ...]] = ("search", "serve")
    fitted: ClassVar[str] = "network_"

    network_: Any
    reading_: Reading
    index_: Index
    workflow: Workflow
    candidates: int
    stored: str
    normalise: str
    whole_words: bool

    @property
    def _net(self) -> ColBERTer:
        check_is_fitted(self, "network_")
        return cast(ColBERTer, self.network_)

    def _say(self, sentence: str) -> None:
        self.notes_.append(sentence)
        warnings.warn(sentence, stacklevel=3)

    def index(
        self, documents: Any, ids: Sequence[str] | None = None, *, out: Path | str | None = None
    ) -> Self:
        """Index documents anew: texts, records, a file, a folder, or `Document`s.

        In a run whatever a kill has left is gone on with; so it is in a folder that is given.

        Args:
            ids: of texts, where they have names. out: the index's folder; else one that lasts as
                long as this object, or until it is saved.
        """
        found = documents_of(documents, ids)
        place = current_session().folder
        if out is not None:
            folder = Path(out)
        elif place is not None:
            folder = place / "checkpoint" / "index"
        else:
            self._room = tempfile.TemporaryDirectory(prefix="stackwise-index-")
            folder = Path(self._room.name) / "index"
        made_with = self._made_with()
        index, done = _gone_on(folder, made_with, found)
        tell = count_aloud("indexing", len(found))
        index.add(found, self._encode, tell=tell, done=done)
        self.index_ = index
        return self

    def _encode(self, documents: Sequence[Document]) -> Encoded:
        found, closed = encode_documents(self.reading_, self._net, documents)
        if closed:
            self._say(f"every word of {closed} passages was gated out; the first of each is kept")
        return found

    def _made_with(self) -> dict[str, Any]:
        """What must not change between indexing and searching."""
        reading, network = self.reading_, self._net
        words = sorted(reading.tokenizer.get_vocab().items())
        encoder = encoder_of(reading, network)
        return {
            "network": tensors_hash(network.state_dict()),
            "encoder": tensors_hash(encoder.state_dict()),
            "tokenizer": tensors_hash({}, str(words)), "normalise": self.normalise,
            "whole_words": self.whole_words, "length": reading.passages.most,
            "exact_match": network.exact_match, "kind": self.stored,
        }  # fmt: skip

    def add(self, documents: Any, ids: Sequence[str] | None = None) -> Self:
        """Index more documents; the folder of the index changes."""
        check_is_fitted(self, "index_")
        self.index_.add(documents_of(documents, ids), self._encode)
        return self

    def delete(self, ids: Sequence[str]) -> Self:
        """Take documents out of the index."""
        check_is_fitted(self, "index_")
        self.index_.delete(ids)
        return self

    def compact(self) -> Self:
        """Give back the bytes of documents that were deleted."""
        check_is_fitted(self, "index_")
        self.index_.compact()
        return self

    def storage(self) -> dict[str, float]:
        """`documents`, `passages`, `vectors_per_document`, `bytes` of what is searched, and
        `times_plaintext`, these over the bytes of the texts.
        """
        check_is_fitted(self, "index_")
        segments = self.index_.segments
        passages, words = (sum(s.record[name] for s in segments) for name in ("passages", "words"))
        texts = sum(s.record["files"]["documents.jsonl"][0] for s in segments)
        count = max(sum(len(segment) for segment in segments), 1)
        return {
            "documents": float(len(self.index_)), "passages": float(passages),
            "vectors_per_document": words / count, "bytes": float(self.index_bytes()),
            "times_plaintext": self.index_bytes() / max(texts, 1),
        }  # fmt: skip

    def index_bytes(self) -> int:
        """Bytes of what is searched, the texts themselves not among them."""
        return self.index_.bytes_on_disk(texts=False)

    def _ranked(self, queries: list[str], k: int) -> list[Ranking]:
        return [
            search_index(self._searched, one, k, self.workflow, max(self.candidates, k))
            for one in encode_queries(self.reading_, self._net, queries)
        ]

    @property
    def _searched(self) -> Index:
        if not hasattr(self, "index_"):
            raise DataError("no documents are indexed; call index(documents)")
        return self.index_

    def document(self, name: str) -> Document:
        """The document of an id."""
        return self._searched.read(name)

    def search(
        self,
        query: Annotated[str, Knob("what is asked")],
        *,
        k: Annotated[int, Knob("documents that are shown", short="k", ge=1)] = 10,
        workflow: Annotated[
            Workflow | None, Knob("which vectors find candidates, and which order them")
        ] = None,
        explain: Annotated[bool, Knob("say what each word of the query found")] = False,
    ) -> Hits:
        """Find the documents that answer a query best.

        Returns:
            hits, the best first. Explained ones have `words` and a `page()` with words shaded.
        """
        (asked,) = encode_queries(self.reading_, self._net, self._asked([query]))
        way: Workflow = workflow or self.workflow
        ranking = search_index(self._searched, asked, k, way, max(self.candidates, k))
        if not explain:
            return self._hits(query, ranking)
        return ExplainedHits(query, [
            hit(rank, score, self.document(name), explained_hit(self, query, asked, name))
            for rank, (name, score) in enumerate(zip(*ranking, strict=True), start=1)
        ])  # fmt: skip

    def explain(self, query: str, id: str) -> pd.DataFrame:
        """What each word of a query found in a document: `query_word`, `document_word`, `score`,
        `share`. The scores add up to the document's.
        """
        (asked,) = encode_queries(self.reading_, self._net, [query])
        return explained_table(self, query, asked, id)

    def score_pairs(self, queries: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        """(n,) the score of each text for its query: what a network learns from this one."""
        asked = encode_queries(self.reading_, self._net, list(queries))
        shown = [Document(str(place), text) for place, text in enumerate(texts)]
        with tempfile.TemporaryDirectory() as folder:
            index = Index.create(Path(folder) / "index", self._made_with())
            index.add(shown, lambda part: encode_documents(self.reading_, self._net, part)[0])
            return np.array([_score_of(index, one, n) for n, one in enumerate(asked)], np.float32)

    def serve(
        self,
        *,
        port: Annotated[int, Knob("of the address", ge=1, le=65535)] = 8000,
        host: Annotated[str, Knob("who may ask: 127.0.0.1 is this machine alone")] = "127.0.0.1",
    ) -> None:
        """Answer searches in a browser until it is stopped (extra `serve`)."""
        check_is_fitted(self, "index_")
        app = search_app(self)
        print(f"http://{host}:{port} searches {len(self.index_):,} documents", flush=True)
        serve_app(app, host, port)

    def _keep_index(self, place: Path) -> None:
        """Let the index lie in a folder; that of a run's checkpoint, which goes, is left."""
        if self.index_.folder.resolve() == place.resolve():
            return
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.index_.folder, place, copy_function=link_or_copy)
        if current_session().folder is not None or self.index_.folder.parent.name == "checkpoint":
            self.index_ = Index.open(place)


def _gone_on(
    folder: Path, made_with: Mapping[str, Any], documents: Sequence[Document]
) -> tuple[Index, int]:
    """The index in a folder with how many of the documents it has, or a new one."""
    if (folder / "manifest.json").is_file():
        try:
            index = Index.open(folder, made_with)
        except RunError:
            index = None
        if index is not None:
            there = [one for segment in index.segments for one in segment.ids]
            same = there == [one.id for one in documents[: len(there)]]
            texts = same and all(
                index.read(one.id).whole == one.whole for one in documents[: len(there)]
            )
            if texts and not any(segment.deleted for segment in index.segments):
                return index, len(there)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return Index.create(folder, made_with), 0


def _score_of(index: Index, query: QueryVectors, number: int) -> float:
    """The merged score of the document of this number."""
    return document_scores(index, query, str(number))[0]


def link_or_copy(source: str, target: str) -> str:
    """Give a file that is never changed a second name, or copy it where the disk has no such."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return str(Path(target))
