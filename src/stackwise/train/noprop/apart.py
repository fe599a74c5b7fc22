"""Train blocks apart: in turn, on a pool of processes, or on a Ray cluster, to the same bits.

Each block is a fit of its own, with its own optimizer, noise, checkpoints and best weights, and so
is the readout: with a fixed embedding nothing couples them. Which one is trained when, and where,
changes no number; the number of threads may, and every place takes it from `threads`.
"""

import contextlib
import copy
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stackwise import pool
from stackwise.cluster import connected
from stackwise.errors import TrainingError
from stackwise.learning.network import computing_with
from stackwise.progress import part_of
from stackwise.train.noprop.network import NoPropStack
from stackwise.train.noprop.rule import BlockRule
from stackwise.training.loop import train_phases
from stackwise.training.phases import Phase, Trained
from stackwise.training.session import Session, current_session, session


@dataclass
class Blocks:
    """The fits of all blocks of a stack; called with a number, it does that one.

    Attributes:
        phases: one a block, and one for the readout.
        options: of `train_phases`. threads: that each fit computes with.
        folder: where fit number i keeps checkpoints, in `block-<i>`; None keeps none.
        ends: the time (seconds since 1970) by which all must be done, or None.
        workers: fits at a time.
    """

    stack: NoPropStack
    phases: list[Phase]
    options: dict[str, Any]
    threads: int | None = None
    folder: Path | None = None
    resume: bool = False
    ends: float | None = None
    workers: int = 1

    def __call__(self, place: int) -> tuple[dict[str, Tensor], Trained]:
        """Train one block in this process: its weights, and how the fit went (without a model)."""
        return self.fit(place, None)

    def fit(self, place: int, tell: Any) -> tuple[dict[str, Tensor], Trained]:
        """The same, and tell of its progress."""
        stack, phase = copy.deepcopy(self.stack), self.phases[place]
        rule = phase.rule
        assert isinstance(rule, BlockRule)
        for name, parameter in stack.named_parameters():  # others learn nothing, and cost nothing
            parameter.requires_grad_(name.startswith(self.prefix(place)))
        folder = None if self.folder is None else self.folder / f"block-{place}"
        with (
            computing_with(self.threads),
            session(folder=folder, resume=self.resume, on_event=tell, time_limit=self.share(place)),
        ):
            trained = train_phases(stack, [phase], **self.options)
        weights = {k: v.cpu() for k, v in rule.part(trained.model).state_dict().items()}
        trained.model = nn.Identity()
        return weights, trained

    def prefix(self, place: int) -> str:
        """How the names of a fit's parameters begin."""
        return "readout." if place == len(self.stack.blocks) else f"blocks.{place}."

    def share(self, place: int) -> float | None:
        """Seconds for a fit that begins now: an equal share of what is left for those to come."""
        if self.ends is None:
            return None
        rounds = -(-(len(self.phases) - place) // self.workers)
        return max((self.ends - time.time()) / rounds, 0.5)


def train_blocks(
    blocks: Blocks, *, workers: int = 1, on: str | None = None
) -> tuple[NoPropStack, list[Trained]]:
    """Train every block and put them together.

    Args:
        workers: processes of a pool; 1 trains in this process, one after another.
        on: "ray" or "ray://host:port" for a cluster, which decides how many run at once.

    Raises:
        TrainingError: a block's process died again and again, or its loss is no number.
        StudyError: there is no such cluster.
    """
    outer = current_session()
    # where a run keeps its checkpoints, and clears them once it is done
    blocks.folder = None if outer.folder is None else outer.folder / "checkpoint"
    blocks.resume = outer.resume
    limits = [s for s in (outer.seconds_left(), blocks.options.get("time_limit")) if s is not None]
    blocks.ends = time.time() + min(limits) if limits else None
    blocks.options = blocks.options | {"time_limit": None}
    blocks.workers = workers
    count = len(blocks.phases)
    outer.rewind(0, [])
    made = copy.deepcopy(blocks.stack)
    found: dict[int, Trained] = {}
    with contextlib.closing(_results(blocks, outer, workers, on)) as results:
        for place, (weights, trained) in results:
            part = made.readout if place == len(made.blocks) else made.blocks[place]
            part.load_state_dict(weights)
            found[place] = trained
            if outer.on_event is not None:
                last = {"epoch": 1, "max_epochs": 1, "done": len(found) / count}
                note = f"{blocks.phases[place].name} is trained ({len(found)} of {count})"
                outer.on_event(last | {"phase": blocks.phases[place].name, "note": note})
    history = [found[place] for place in range(count)]
    for place, trained in enumerate(history):
        trained.history = [line | {"fit": place} for line in trained.history]
        for line in trained.history:
            outer.log(line)
    return made, history


Result = tuple[int, tuple[dict[str, Tensor], Trained]]


def _results(
    blocks: Blocks, outer: Session, workers: int, on: str | None
) -> Generator[Result, None, None]:
    """(number, weights and fit) of every block, in the order of their ends."""
    count = len(blocks.phases)
    if on is not None:
        yield from _on_ray(blocks, on)
    elif workers == 1:
        for place in range(count):
            yield place, blocks.fit(place, _told(outer, place, count))
    else:
        done = pool.side_by_side(
            blocks, count, workers=workers, threads=blocks.threads or 1, begins=lambda place: None
        )
        with contextlib.closing(done):
            for place, result in done:
                if isinstance(result, pool.Died):
                    raise TrainingError(f"{blocks.phases[place].name}: {result}")
                yield place, result


def _on_ray(blocks: Blocks, address: str) -> Generator[Result, None, None]:
    ray = connected(address)
    cpus = blocks.threads or 1
    blocks.workers = max(1, int(ray.cluster_resources().get("CPU", 1) // cpus))
    remote = ray.remote(num_cpus=cpus, max_retries=-1)(_afar)
    held = ray.put(blocks)
    waiting = {remote.remote(held, place): place for place in range(len(blocks.phases))}
    try:
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            yield waiting.pop(done), ray.get(done)
    except BaseException:
        for reference in waiting:
            ray.cancel(reference, force=True)
        raise


def _afar(blocks: Blocks, place: int) -> tuple[dict[str, Tensor], Trained]:
    """What a worker of a cluster does; a thread more or less would change the last bits."""
    torch.set_num_threads(blocks.threads or 1)
    return blocks(place)


def _told(outer: Session, place: int, count: int) -> Any:
    tell = outer.on_event
    return None if tell is None else lambda event: tell(part_of(event, place, count, "block"))
