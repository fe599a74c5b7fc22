"""One vector a text: the mean of a frozen encoder's last hidden states, compared by cosine.

    score(q, d) = x_q . x_d,    x = m / ||m||,  m = mean over tokens

faiss looks at every vector (extra `retrieval`). Nothing is trained.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import torch

from stackwise.catalog import Knob, ModelRef, baseline
from stackwise.files import read_tensors, write_tensors
from stackwise.optional import needs
from stackwise.tasks.labels.baselines.frozen_encoder import mean_states
from stackwise.tasks.labels.estimators.pretrained import (
    Opened,
    frozen_in,
    keep_frozen,
    opened,
)
from stackwise.tasks.retrieval.retriever import (
    Ranking,
    Retriever,
    documents_of,
    kept_documents,
    write_documents,
)


@baseline(
    "dense",
    title="One vector a text, of a frozen encoder",
    requires={"transformers": "llm", "faiss": "retrieval"},
    presets={"quick": {}},
)
class DenseRetriever(Retriever):
    """Rank documents by the cosine of a frozen encoder's mean vectors.

    Fitted, besides `documents_`: `encoder_`, and `vectors_`, (n, width) float32 of length 1.
    """

    def __init__(
        self,
        *,
        model: Annotated[
            ModelRef | str, Knob("the encoder: a folder, packaged model, hub id, run")
        ] = "minilm",
        length: Annotated[int, Knob("most tokens of a text; what follows is not read", ge=8)] = 256,
    ) -> None:
        """A frozen encoder."""

    encoder_: Opened
    vectors_: np.ndarray

    def fit(self, X: Any, y: Any = None) -> Self:
        """Encode documents: of a loaded task, or of a list, a folder, a file."""
        self._begin()
        documents = documents_of(X)
        needs("faiss", "a search over vectors")
        self.encoder_ = opened(self.model)
        self._indexed(self.encode([one.whole for one in documents]))
        self.documents_ = documents
        return self

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(n, width) float32 vectors of length 1."""
        return mean_states(self.encoder_, texts, self.length).astype(np.float32)

    def _indexed(self, vectors: np.ndarray) -> None:
        import faiss

        self.vectors_ = vectors
        self._index = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(vectors)

    def _ranked(self, queries: list[str], k: int) -> list[Ranking]:
        scores, places = self._index.search(self.encode(queries), min(k, len(self.documents_)))
        return [
            ([self.documents_[place].id for place in row], own)
            for row, own in zip(places, scores, strict=True)
        ]

    def score_pairs(self, queries: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        """(n,) the cosine of each text and its query."""
        return np.asarray((self.encode(queries) * self.encode(texts)).sum(1), dtype=np.float32)

    def index_bytes(self) -> int:
        """Bytes of the vectors."""
        return int(self.vectors_.nbytes)

    def _write(self, folder: Path) -> dict[str, Any]:
        write_documents(folder / "documents.jsonl", self.documents_)
        tensors = {"vectors": torch.from_numpy(self.vectors_)}
        write_tensors(folder / "vectors.safetensors", tensors)
        return {"encoder": keep_frozen(self.encoder_, self.model, folder)}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        needs("faiss", "a search over vectors")
        self.documents_ = kept_documents(folder / "documents.jsonl")
        self.encoder_ = frozen_in(folder, record["encoder"])
        self._indexed(read_tensors(folder / "vectors.safetensors")["vectors"].numpy())
