"""Vectors in a model's folder: those of words with their list, or what names an encoder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stackwise.build.drug_ner.word_vectors.lookup import EncoderVectors, Vectors, WordVectors
from stackwise.errors import RunError
from stackwise.files import read_tensors, write_tensors
from stackwise.tasks.labels.estimators.pretrained import frozen_in, keep_frozen

FILE = "vectors.safetensors"


def keep_vectors(
    vectors: Vectors, reference: Any, shift: np.ndarray, folder: Path
) -> dict[str, Any]:
    """Write vectors and what is taken off them; returns what a record holds of them.

    Args:
        reference: what the user gave for an encoder.
    """
    tensors = {"shift": torch.from_numpy(shift)}
    record: dict[str, Any] = {}
    if isinstance(vectors, EncoderVectors):
        record = {"encoder": keep_frozen(vectors.opened, reference, folder)}
        record["length"] = vectors.length
    elif isinstance(vectors, WordVectors):
        tensors["vectors"] = torch.from_numpy(vectors.table)
        if vectors.pieces is not None:
            tensors["pieces"] = torch.from_numpy(vectors.pieces)
        record = {"words": list(vectors.words)}
    write_tensors(folder / FILE, tensors)
    return record


def vectors_in(folder: Path, record: Mapping[str, Any]) -> tuple[Vectors, np.ndarray]:
    """The inverse of `keep_vectors`: the vectors, and what is taken off them.

    Raises:
        RunError: there are not as many vectors as words.
    """
    tensors = read_tensors(folder / FILE)
    shift = tensors["shift"].numpy()
    if "encoder" in record:
        opened = frozen_in(folder, record["encoder"])
        return EncoderVectors(opened, int(record["length"])), shift
    words = {str(word): place for place, word in enumerate(record["words"])}
    table = tensors["vectors"].numpy()
    if len(words) != len(table):
        raise RunError(
            f"{folder / FILE} holds {len(table)} vectors where the model has {len(words)} words"
        )
    pieces = tensors.get("pieces")
    return WordVectors(words, table, None if pieces is None else pieces.numpy()), shift
