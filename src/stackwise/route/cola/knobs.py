"""The knobs that the transform and the probe share: one function whose signature counts."""

from dataclasses import dataclass
from typing import Annotated

from stackwise.catalog import Knob
from stackwise.route.cola.search import Strategy


def search_knobs(
    *,
    simulations: Annotated[int, Knob("paths tried for a question", ge=1)] = 200,
    questions: Annotated[int, Knob("training questions that are searched", ge=1)] = 100,
    penalty: Annotated[float, Knob("lambda: what a path's length costs", ge=0)] = 5.0,
    explore: Annotated[float, Knob("c: weight of what was seldom visited", ge=0)] = 1.8,
    random_child: Annotated[float, Knob("chance that a node gets another child", ge=0, le=1)] = 0.1,
    widening: Annotated[
        float | None, Knob("progressive widening; none is the paper's rule", gt=0, le=1)
    ] = None,
    strategy: Annotated[Strategy, Knob("how paths are searched")] = "mcts",
    skips: Annotated[bool, Knob("blocks may be left out")] = True,
    repeats: Annotated[bool, Knob("blocks may run again")] = True,
    max_block: Annotated[int, Knob("longest run of blocks edited at a time", ge=1)] = 4,
    max_repeat: Annotated[int, Knob("how often a run is repeated at most", ge=1)] = 4,
    max_length: Annotated[int | None, Knob("longest path; none is twice the depth", ge=1)] = None,
    protect: Annotated[list[int] | None, Knob("blocks that are never edited")] = None,
    tolerance: Annotated[float, Knob("validation accuracy that may be lost", ge=0, lt=1)] = 0.0,
    candidates: Annotated[int, Knob("paths tried on all training questions", ge=1)] = 64,
    memory: Annotated[float, Knob("GiB for the streams of shared beginnings", gt=0)] = 0.5,
    workers: Annotated[int, Knob("processes that search side by side", ge=1)] = 1,
    on: Annotated[str | None, Knob("ray, or ray://host:port, for a cluster")] = None,
) -> None:
    """Only the signature counts; see `stackwise.catalog.transform`."""


@dataclass(frozen=True)
class Wanted:
    """The values of `search_knobs` and the seed, as the entry points get them."""

    simulations: int
    questions: int
    penalty: float
    explore: float
    random_child: float
    widening: float | None
    strategy: Strategy
    skips: bool
    repeats: bool
    max_block: int
    max_repeat: int
    max_length: int | None
    protect: list[int] | None
    tolerance: float
    candidates: int
    memory: float
    workers: int
    on: str | None
    random_state: int

    @property
    def most_bytes(self) -> int:
        """The memory for shared beginnings."""
        return round(self.memory * 2**30)
