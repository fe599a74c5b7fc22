"""The knobs that the transform and the probe share."""

from typing import Annotated

from stackwise.catalog import Knob
from stackwise.route.cola import search

Simulations = Annotated[int, Knob("paths tried for a question", ge=1)]
Questions = Annotated[int, Knob("training questions that are searched", ge=1)]
Penalty = Annotated[float, Knob("lambda: what a path's length costs", ge=0)]
Explore = Annotated[float, Knob("c: weight of what was seldom visited", ge=0)]
RandomChild = Annotated[float, Knob("chance that a node gets another child", ge=0, le=1)]
Widening = Annotated[
    float | None, Knob("progressive widening; none is the paper's rule", gt=0, le=1)
]
Strategy = Annotated[search.Strategy, Knob("how paths are searched")]
Skips = Annotated[bool, Knob("blocks may be left out")]
Repeats = Annotated[bool, Knob("blocks may run again")]
MaxBlock = Annotated[int, Knob("longest run of blocks edited at a time", ge=1)]
MaxRepeat = Annotated[int, Knob("how often a run is repeated at most", ge=1)]
MaxLength = Annotated[int | None, Knob("longest path; none is twice the depth", ge=1)]
Protect = Annotated[list[int] | None, Knob("blocks that are never edited")]
Tolerance = Annotated[float, Knob("validation accuracy that may be lost", ge=0, lt=1)]
Candidates = Annotated[int, Knob("paths tried on all training questions", ge=1)]
Memory = Annotated[float, Knob("GiB for the streams of shared beginnings", gt=0)]
Workers = Annotated[int, Knob("processes that search side by side", ge=1)]
On = Annotated[str | None, Knob("ray, or ray://host:port, for a cluster")]
RandomState = Annotated[int, Knob("the seed", ge=0)]
Controls = Annotated[bool, Knob("search for wrong answers and at random too")]
