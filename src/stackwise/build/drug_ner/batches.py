"""Batches of sentences, padded at their ends, and of windows; each brings its words' vectors."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stackwise.build.drug_ner.word_vectors.lookup import Looked
from stackwise.errors import TrainingError
from stackwise.training.batches import ArrayBatches, epoch_generator

NONE = -100
"""The target where there is no word."""


class Features:
    """The vectors of sentences, shifted and scaled, ready to be put into batches.

    Attributes:
        table: (rows + 1, size) float32; the last row, zeros, is that of no word.
        ids: (words of all sentences,) int64. starts: where each sentence begins in it; lengths.
    """

    def __init__(
        self, looked: Looked, sentences: Sequence[Sequence[str]], shift: np.ndarray, scale: float
    ) -> None:
        table = torch.from_numpy(np.ascontiguousarray((looked.table - shift) / scale)).float()
        self.table = torch.cat([table, table.new_zeros(1, table.shape[1])])
        self.ids = torch.from_numpy(looked.ids)
        self.lengths = np.array([len(words) for words in sentences], dtype=np.int64)
        self.starts = np.cumsum(self.lengths) - self.lengths

    @property
    def nothing(self) -> int:
        """The row of no word."""
        return len(self.table) - 1

    def sentences(self, rows: np.ndarray) -> dict[str, Tensor]:
        """`vectors` (B, T, size) and `mask` (B, T) of some sentences."""
        longest = int(self.lengths[rows].max())
        places = torch.from_numpy(self.starts[rows])[:, None] + torch.arange(longest)
        mask = torch.arange(longest) < torch.from_numpy(self.lengths[rows])[:, None]
        ids = torch.where(mask, self.ids[places.clamp(max=len(self.ids) - 1)], self.nothing)
        return {"vectors": functional.embedding(ids, self.table), "mask": mask}

    def windows(self, places: np.ndarray) -> Tensor:
        """(n, window) rows of the table of windows of words, -1 of none."""
        found = torch.from_numpy(places)
        return torch.where(found >= 0, self.ids[found.clamp(min=0)], self.nothing)

    def of_windows(self, windows: Tensor) -> dict[str, Tensor]:
        """`vectors` (B, window, size) and `mask` (B, window)."""
        return {
            "vectors": functional.embedding(windows, self.table), "mask": windows != self.nothing
        }  # fmt: skip


class SentenceBatches:
    """Sentences in a new order each epoch, those of like length together.

    Args:
        targets: of each sentence (n,) int64; None where nothing is told.
    """

    def __init__(
        self, features: Features, targets: Sequence[np.ndarray] | None, batch_size: int, *,
        seed: int,
    ) -> None:  # fmt: skip
        self.features, self.batch_size, self.seed = features, batch_size, seed
        self.rows = np.flatnonzero(features.lengths)
        if not len(self.rows):
            raise TrainingError("there are no training sentences")
        self.targets = None
        if targets is not None:
            self.targets = [torch.from_numpy(one) for one in targets]

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def epoch(self, index: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """The batches of epoch `index` from step `start` on.

        Lengths are sorted with some luck in them, so that a batch holds other sentences each time.
        """
        generator = epoch_generator(self.seed, index)
        luck = torch.rand(len(self.rows), generator=generator).numpy()
        order = self.rows[np.argsort(self.features.lengths[self.rows] * (0.7 + 0.6 * luck))]
        groups = torch.randperm(len(self), generator=generator).tolist()
        for group in groups[start:]:
            rows = order[group * self.batch_size : (group + 1) * self.batch_size]
            batch = self.features.sentences(rows)
            # by what the sum over a sentence's words counts in a mean over sentences, so that this
            # is the mean over the batch's words, however its rows are shared out over processes
            scale = len(rows) / int(self.features.lengths[rows].sum())
            batch["scale"] = torch.full((len(rows),), scale)
            if self.targets is not None:
                batch["target"] = _padded([self.targets[row] for row in rows])
            yield batch


class WindowBatches(ArrayBatches):
    """Windows in a new order each epoch.

    Args:
        windows: (n, window) rows of the features' table. targets: (n,) int64, or None.
    """

    def __init__(
        self, features: Features, windows: Tensor, targets: np.ndarray | None, batch_size: int, *,
        seed: int,
    ) -> None:  # fmt: skip
        tensors = {"windows": windows}
        if targets is not None:
            tensors["target"] = torch.from_numpy(targets)
        super().__init__(tensors, batch_size, seed=seed)
        self.features = features

    def epoch(self, index: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """The batches of epoch `index` from step `start` on."""
        for batch in super().epoch(index, start):
            yield self.features.of_windows(batch.pop("windows")) | batch


def _padded(targets: Sequence[Tensor]) -> Tensor:
    """(B, T) int64, `NONE` behind each end."""
    return torch.nn.utils.rnn.pad_sequence(list(targets), batch_first=True, padding_value=NONE)
