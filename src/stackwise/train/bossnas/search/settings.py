"""What a search is told: how paths learn, in which order blocks do, and on which samples."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from stackwise.errors import KnobError
from stackwise.train.bossnas.search.bootstrapping import Objective
from stackwise.train.bossnas.search.sampling import Sampling, check_fair
from stackwise.train.bossnas.search.views import Views
from stackwise.train.bossnas.spaces.space import Space

Order = Literal["greedy", "apart"]
"""Each block behind the best of those before it, or each by itself."""


@dataclass(frozen=True)
class Settings:
    """How blocks are searched.

    Attributes:
        order: `greedy`, each block behind the best paths of those before it, or `apart`.
        paths: of a step. own_views: a pair of views a path, or one for all.
        ema: tau at the beginning. hidden, size: of the projections.
        stop_gradient: later blocks teach earlier ones nothing.
        rate_sample: paths of a block that are rated; None for all.
    """

    objective: Objective = "ensemble"
    order: Order = "greedy"
    sampling: Sampling = "random"
    paths: int = 4
    own_views: bool = True
    ema: float = 0.99
    hidden: int = 4096
    size: int = 256
    stop_gradient: bool = True
    rate_sample: int | None = None
    seed: int = 0

    @property
    def views(self) -> int:
        """Views of a sample in a batch."""
        if self.objective == "supervised":
            return self.paths if self.own_views else 1
        return 2 * self.paths if self.own_views else 2

    def check(self, space: Space) -> None:
        """Refuse what does not go together.

        Raises:
            KnobError: such settings.
        """
        if self.objective == "ensemble" and self.paths < 2:
            raise KnobError(f"ensemble needs paths of 2 or more, got {self.paths}; plain has one")
        if self.sampling == "fair":
            for block in range(len(space.depths)):
                check_fair(space, block, entered(space, block, self.order))


def entered(space: Space, block: int, order: Order) -> list[int]:
    """The states in which a block may be entered; what greedy makes of them is known later."""
    return space.entries(block) if order == "apart" or block == 0 else space.entries(block)[:1]


@dataclass(frozen=True)
class Samples:
    """What a search sees.

    Attributes:
        tensors: of the training samples: the inputs by `names`, and `target` and `weight`, which
            only the supervised rival reads.
        held: the same of those by which paths are rated.
        views: how a sample is varied. n_outputs: classes, or 1.
    """

    tensors: Mapping[str, Any]
    held: Mapping[str, Any]
    names: list[str]
    views: Views
    n_outputs: int = 1

    def of(self, part: Mapping[str, Any], rows: Any) -> dict[str, Tensor]:
        """Rows of the training or the held-out samples."""
        return {name: tensor[rows] for name, tensor in part.items()}
