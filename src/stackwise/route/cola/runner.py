"""Run paths of many samples through a model, and never run the same beginning twice.

Paths that were found by edits share beginnings. A trie over (sample, beginning) keeps the stream
after each block that ran, within a budget of memory; a path starts at its longest known beginning.
Many paths run in step: the block for which the most paths wait goes next, for all of them at once.

Blocks are played as the model itself called them on a row of this length (stack/replay.py), which
is recorded once; rows are padded at their right, where a causal model does not look. Whether this
gives what the model gives is checked at the start, and where it does not, paths run through
`Stack.path`, sample by sample, with nothing shared.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.route.cola.actions import Path
from stackwise.stack import Stack, record
from stackwise.tasks.choices.asking import letter_logits, padded

CLOSE = 1e-3
"""Largest difference of logits, over the largest of them, at which the shared runs are trusted."""


@dataclass
class Work:
    """What running cost.

    Attributes:
        blocks: blocks that ran, one a sample. without: those that would have run with nothing
            shared. paths: that ran.
    """

    blocks: int = 0
    without: int = 0
    paths: int = 0

    @property
    def share(self) -> float:
        """Blocks that ran over those without sharing."""
        return self.blocks / self.without if self.without else 1.0


class Trie:
    """Streams by sample and beginning of a path; the least recently used go first."""

    def __init__(self, most_bytes: int) -> None:
        self.most, self.held = most_bytes, 0
        self._streams: OrderedDict[tuple[int, Path], Tensor] = OrderedDict()

    def put(self, sample: int, path: Path, stream: Tensor) -> None:
        """Keep the stream after `path`."""
        key = (sample, path)
        if key not in self._streams:
            self.held += stream.nbytes
        self._streams[key] = stream
        while self.held > self.most and len(self._streams) > 1:
            _, gone = self._streams.popitem(last=False)
            self.held -= gone.nbytes

    def longest(self, sample: int, path: Path) -> tuple[int, Tensor | None]:
        """How much of a path is known, and the stream after it."""
        for length in range(len(path), 0, -1):
            key = (sample, path[:length])
            if key in self._streams:
                self._streams.move_to_end(key)
                return length, self._streams[key]
        return 0, None


@dataclass
class _Job:
    place: int
    sample: int
    path: Path
    done: int
    stream: Tensor = field(repr=False)


class Runner:
    """Answers of a causal language model along paths, for a set of prompts.

    Args:
        tokens: the prompts' tokens; sample i is the i-th.
        most_bytes: of the streams that are kept. share: False runs every path from its start.
        rows: samples that a block takes at once.
    """

    def __init__(
        self,
        model: nn.Module,
        tokens: Sequence[Sequence[int]],
        *,
        most_bytes: int = 2**29,
        share: bool = True,
        rows: int = 16,
    ) -> None:
        self.model, self.tokens, self.rows, self.share = model, tokens, rows, share
        self.stack = Stack.of(model)
        self.work = Work()
        self.trie = Trie(most_bytes)
        self.ids, self.last = padded(tokens)
        self.device = next(model.parameters()).device
        self.by_hand = True
        try:
            self._record()
            self.by_hand = self._agrees()
        except (TypeError, ValueError, RuntimeError, IndexError, ModelError):
            self.by_hand = False

    @torch.no_grad()
    def logits(self, asked: Sequence[tuple[int, Path]]) -> list[Tensor]:
        """(vocabulary,) at the last token of each (sample, path)."""
        if not self.by_hand:
            return [self._through_the_stack(sample, path) for sample, path in asked]
        streams = self._streams(asked)
        found: list[Tensor] = []
        for start in range(0, len(asked), self.rows):
            group = range(start, min(start + self.rows, len(asked)))
            ends = [streams[i][self.last[asked[i][0]]] for i in group]
            found += list(self._head(torch.stack(ends)).cpu())
        return found

    def _streams(self, asked: Sequence[tuple[int, Path]]) -> list[Tensor]:
        """(T, width) after each path."""
        done: dict[int, Tensor] = {}
        waiting: list[_Job] = []
        for place, (sample, path) in enumerate(asked):
            self.work.paths += 1
            self.work.without += len(path)
            known, stream = self.trie.longest(sample, path) if self.share else (0, None)
            waiting.append(
                _Job(place, sample, path, known, self.start[sample] if stream is None else stream)
            )
        while waiting:
            ready = [job for job in waiting if job.done == len(job.path)]
            done |= {job.place: job.stream for job in ready}
            waiting = [job for job in waiting if job.done < len(job.path)]
            if waiting:
                self._advance(waiting)
        return [done[place] for place in range(len(asked))]

    def _advance(self, waiting: list[_Job]) -> None:
        """Run the block that most jobs wait for; jobs of one sample and beginning run it once."""
        wanted: dict[int, dict[tuple[int, Path], list[_Job]]] = {}
        for job in waiting:
            block = job.path[job.done]
            key = (job.sample, job.path[: job.done + 1] if self.share else (job.place,))
            wanted.setdefault(block, {}).setdefault(key, []).append(job)
        block = max(wanted, key=lambda index: (len(wanted[index]), -index))
        groups = list(wanted[block].values())[: self.rows]
        streams = torch.stack([jobs[0].stream for jobs in groups])
        out = self.replay.block(block, streams)
        self.work.blocks += len(groups)
        for jobs, stream in zip(groups, out, strict=True):
            for job in jobs:
                job.done, job.stream = job.done + 1, stream
            if self.share:
                self.trie.put(jobs[0].sample, jobs[0].path[: jobs[0].done], stream)

    @torch.no_grad()
    def _record(self) -> None:
        """Learn how blocks are called on a row of this length, and the stream before the first."""
        ids = self.ids.to(self.device)
        self.replay, _ = record(self.stack, input_ids=ids[:1], use_cache=False)
        self.start = [
            stream
            for part in ids.split(self.rows)
            for stream in self.replay.stem(input_ids=part, use_cache=False)
        ]

    def _head(self, streams: Tensor) -> Tensor:
        """(B, vocabulary) logits of streams (B, width) that come out of the last block."""
        ids = self.ids[:1, :1].to(self.device).expand(len(streams), 1)
        logits: Tensor = self.replay.head(streams[:, None], input_ids=ids).logits
        return logits[:, 0]

    @torch.no_grad()
    def _agrees(self) -> bool:
        """Whether the model's own order, run by hand, gives what the model gives."""
        own = tuple(range(len(self.stack)))
        sample = int(self.last.argmin())  # the shortest row has the most padding
        (expected,) = letter_logits(self.model, [self.tokens[sample]])
        work, self.work = self.work, Work()
        (found,) = self.logits([(sample, own)])
        self.work, self.trie = work, Trie(self.trie.most)
        size = float(expected.abs().max())
        return bool((found - expected).abs().max() <= CLOSE * max(size, 1e-6))

    def _through_the_stack(self, sample: int, path: Path) -> Tensor:
        self.work.paths += 1
        self.work.without += len(path)
        self.work.blocks += len(path)
        with self.stack.path(path):
            return letter_logits(self.model, [self.tokens[sample]])[0]
