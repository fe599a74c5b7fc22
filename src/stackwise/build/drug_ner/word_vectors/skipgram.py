"""Word vectors learned here: skip-gram with negative sampling, and pieces of words on request.

    loss = - sum over neighbours c of w  log sigmoid(u_w v_c)
           - k times the mean over words n, drawn by count^0.75, of log sigmoid(-u_w v_n)

The words n are drawn once for the places of a step. With pieces, u_w is the mean of the word's own
vector and those of its runs of 3 to 5 letters (between < and >), which share 2^14 rows by a hash: a
word that training never saw has those of its pieces.

Sources: arXiv 1310.4546 (skip-gram), 1607.04606 (pieces).
"""

import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.training.batches import epoch_generator, for_all

BUCKETS = 1 << 14
PIECES = (3, 4, 5)
NEGATIVES, SHARED = 5, 64
"""k, and how many words are drawn for a step; the mean over these stands for the k."""
RARE = 1e-3
"""A word of more than this share of the text is left out more often, the more frequent it is."""


def pieces_of(word: str) -> list[int]:
    """The rows of a word's pieces."""
    whole = f"<{word}>"
    return [
        zlib.crc32(whole[at : at + size].encode()) % BUCKETS
        for size in PIECES for at in range(len(whole) - size + 1)
    ]  # fmt: skip


def counted(sentences: Sequence[Sequence[str]], min_count: int) -> dict[str, int]:
    """The words with at least so many places, the most frequent first, and how many each has."""
    counts = Counter(word for words in sentences for word in words)
    kept = [(word, count) for word, count in counts.items() if count >= min_count]
    return dict(sorted(kept, key=lambda one: (-one[1], one[0])))


class SkipGram(nn.Module):
    """The vectors of words, and those of what stands near them.

    Args:
        counts: of each word. size: numbers of a vector. pieces: rows of each word's, or None.
    """

    def __init__(
        self, counts: Sequence[int], size: int, pieces: Sequence[Sequence[int]] | None = None
    ) -> None:
        super().__init__()
        self.own = nn.Parameter((torch.rand(len(counts), size) - 0.5) / size)
        self.near = nn.Parameter(torch.zeros(len(counts), size))
        noise = torch.tensor(counts, dtype=torch.float64) ** 0.75
        self.register_buffer("noise", noise.cumsum(0) / noise.sum(), persistent=False)
        self.grams: nn.Parameter | None = None
        if pieces is not None:
            self.grams = nn.Parameter((torch.rand(BUCKETS, size) - 0.5) / size)
            flat = torch.tensor([row for of in pieces for row in of], dtype=torch.int64)
            lengths = torch.tensor([len(of) for of in pieces])
            self.register_buffer("flat", flat, persistent=False)
            self.register_buffer("begins", lengths.cumsum(0) - lengths, persistent=False)
            self.register_buffer("lengths", lengths, persistent=False)

    def words(self, ids: Tensor) -> Tensor:
        """(n,) words -> (n, size)."""
        own = functional.embedding(ids, self.own)
        if self.grams is None:
            return own
        flat, begins, lengths = (self.get_buffer(name) for name in ("flat", "begins", "lengths"))
        count = lengths[ids]
        ends = count.cumsum(0)
        places = torch.arange(int(ends[-1]), device=ids.device)
        places = places - (ends - count - begins[ids]).repeat_interleave(count)
        found = functional.embedding_bag(flat[places], self.grams, ends - count, mode="sum")
        return (own + found) / (count + 1)[:, None]

    def forward(
        self, word: Tensor, near: Tensor, mask: Tensor, shared: Mapping[str, Tensor]
    ) -> Tensor:
        """The mean loss of a place.

        Args:
            word: (B,). near: (B, 2 w) the words around it. mask: (B, 2 w) which of them count.
            shared: `draws` (b,) random numbers in [0, 1), by the first of which words are drawn.
        """
        draws = shared["draws"]
        noise = self.get_buffer("noise")
        drawn = torch.searchsorted(noise, draws[:SHARED].to(noise.dtype)).clamp(max=len(noise) - 1)
        vectors = self.words(word)
        with_near = (functional.embedding(near, self.near) * vectors[:, None]).sum(-1)
        with_drawn = vectors @ functional.embedding(drawn, self.near).T
        right = (functional.logsigmoid(with_near) * mask).sum(1)
        wrong = functional.logsigmoid(-with_drawn).mean(1) * NEGATIVES * mask.sum(1)
        return -(right + wrong).mean()

    @torch.no_grad()
    def table(self) -> Tensor:
        """(words, size) the vector of each word."""
        return self.words(torch.arange(len(self.own)))


class PlaceBatches:
    """The places of a text in a new order each epoch, with the words around them.

    Args:
        ids: of the words of each sentence; -1 of those that have no vector.
        window: words on each side at most; how many, is drawn for each place.
        counts: of each word, by which frequent ones are left out.
    """

    def __init__(
        self, ids: Sequence[Sequence[int]], counts: Sequence[int], *, window: int, batch_size: int,
        seed: int,
    ) -> None:  # fmt: skip
        kept = [torch.tensor([one for one in row if one >= 0]) for row in ids]
        kept = [row for row in kept if len(row) > 1]
        gap = torch.full((window,), -1)
        parts = [gap, *(part for row in kept for part in (row, gap))]
        self.text = torch.cat(parts).to(torch.int64)
        self.places = (self.text >= 0).nonzero()[:, 0]
        share = torch.tensor(counts, dtype=torch.float64) / max(sum(counts), 1)
        self.keep = (RARE / share).sqrt().clamp(max=1.0)
        self.window, self.batch_size, self.seed = window, batch_size, seed

    def __len__(self) -> int:
        return -(-len(self.places) // self.batch_size)

    def epoch(self, index: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """The batches of epoch `index` from step `start` on."""
        generator = epoch_generator(self.seed, index)
        order = self.places[torch.randperm(len(self.places), generator=generator)]
        luck = torch.rand(len(self.text), generator=generator, dtype=torch.float64)
        on = (self.text >= 0) & (luck < self.keep[self.text.clamp(min=0)])
        reach = torch.randint(1, self.window + 1, (len(order),), generator=generator)
        steps = torch.cat([torch.arange(-self.window, 0), torch.arange(1, self.window + 1)])
        for step in range(start, len(self)):
            rows = slice(step * self.batch_size, (step + 1) * self.batch_size)
            places = order[rows]
            around = places[:, None] + steps
            mask = on[around] & (steps.abs() <= reach[rows, None]) & on[places, None]
            own = epoch_generator(self.seed + 1, index * len(self) + step)
            yield {
                "word": self.text[places], "near": self.text[around].clamp(min=0), "mask": mask,
                "shared": for_all({"draws": torch.rand(len(places), generator=own)}),
            }  # fmt: skip
