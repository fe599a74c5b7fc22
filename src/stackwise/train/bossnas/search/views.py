"""Views of unlabelled samples: what a path must see as the same.

`views(inputs, generator)` takes a batch of a network's inputs by name, (B, ...) each, and gives the
same with every sample varied by itself. A user may bring one; these are the library's.

    rows     a share of each row's values are those of other rows (arXiv 2106.15147)
    series   a window of each series, stretched to its whole length, louder or softer, with noise
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stackwise.errors import DataError
from stackwise.tasks.images.estimators.augmentation import Recipe, step_generator, vary
from stackwise.training.batches import ArrayBatches

Views = Callable[[dict[str, Tensor], torch.Generator], dict[str, Tensor]]


class ViewBatches(ArrayBatches):
    """Batches in which each input has several views, (B, views, ...).

    Rows that do not fill a last batch wait for another epoch's order.

    Args:
        tensors: inputs by name, and `target` and `weight`. names: of the inputs.
        views: how a sample is varied; None shows it as it is. count: views of a sample.
    """

    def __init__(
        self, tensors: Mapping[str, Any], batch_size: int, *, names: list[str],
        views: Views | None, count: int, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(tensors, batch_size, seed=seed)
        if self.rows < 2:
            raise DataError("a search needs at least 2 training rows; there is 1")
        self.names, self.views, self.count = names, views, count

    def __len__(self) -> int:
        return max(self.rows // self.batch_size, 1)

    def epoch(self, index: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """The batches of epoch `index` from step `start` on."""
        order = self.order(index)
        for step in range(start, len(self)):
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            batch = {n: t[rows] for n, t in self.tensors.items() if n not in self.names}
            inputs = {name: self.tensors[name][rows] for name in self.names}
            generator = step_generator(self.seed, index, step)
            yield batch | stacked_views(inputs, self.views, self.count, generator)


def stacked_views(
    inputs: dict[str, Tensor], views: Views | None, count: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """(B, count, ...) of each input.

    Raises:
        DataError: the user's views give other names or shapes.
    """
    found = [
        inputs if views is None else dict(views(dict(inputs), generator)) for _ in range(count)
    ]
    for one in found:
        for name, tensor in inputs.items():
            if name not in one or one[name].shape != tensor.shape:
                given = list(one[name].shape) if name in one else "nothing"
                raise DataError(
                    f"views gave {given} for {name!r}, which came in as {list(tensor.shape)}; a "
                    "view has the names and the shapes of its sample"
                )
    return {name: torch.stack([one[name] for one in found], 1) for name in inputs}


@dataclass(frozen=True)
class PictureViews:
    """Pictures varied by a recipe.

    Attributes:
        mean, std: (1, C, 1, 1), with which they were normalised.
    """

    recipe: Recipe
    mean: Tensor
    std: Tensor

    def __call__(self, inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """(B, C, H, W) normalised pixels -> the same, varied."""
        pixels = inputs["pixels"] * self.std + self.mean
        varied = vary(pixels, self.recipe, generator, self.mean)
        return {"pixels": (varied - self.mean) / self.std}


@dataclass(frozen=True)
class RowViews:
    """Rows with some of their values from others.

    Attributes:
        share: of a row's columns. noise: deviation that is added to numbers.
    """

    share: float = 0.3
    noise: float = 0.1

    def __call__(self, inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Columns (B, n) -> the same, each swapped by itself."""
        made = {}
        for name, columns in inputs.items():
            swapped = torch.rand(columns.shape, generator=generator) < self.share
            other = torch.rand(columns.shape, generator=generator).argsort(0)
            varied = torch.where(swapped, columns.gather(0, other), columns)
            if varied.is_floating_point():
                varied = varied + self.noise * torch.randn(varied.shape, generator=generator)
            made[name] = varied
        return made


@dataclass(frozen=True)
class SeriesViews:
    """Windows of series.

    Attributes:
        least: share of a series that a window has at least. louder: most that values are scaled by,
            in parts of 1. noise: deviation that is added.
    """

    least: float = 0.7
    louder: float = 0.2
    noise: float = 0.1

    def __call__(self, inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """`values` (B, C, L) and `lengths` (B,) -> the same; the lengths stay."""
        values, lengths = inputs["values"], inputs["lengths"]
        count, channels, width = values.shape
        share = self.least + (1 - self.least) * torch.rand(count, 1, generator=generator)
        begin = (1 - share) * torch.rand(count, 1, generator=generator)
        last = (lengths.to(values.dtype) - 1).clamp_min(1)[:, None]
        steps = (torch.arange(width, dtype=values.dtype)[None] / last).clamp(max=1)
        at = (begin + share * steps) * last
        low = at.floor().long().clamp(max=width - 1)
        high = torch.minimum(low + 1, (lengths - 1).clamp_min(0)[:, None])
        left = values.gather(2, low[:, None].expand(-1, channels, -1))
        right = values.gather(2, high[:, None].expand(-1, channels, -1))
        moved = left + (at - low)[:, None] * (right - left)
        by = 1 + self.louder * (2 * torch.rand(count, 1, 1, generator=generator) - 1)
        varied = moved * by + self.noise * torch.randn(values.shape, generator=generator)
        inside = torch.arange(width)[None] < lengths[:, None]
        return {"values": torch.where(inside[:, None], varied, values), "lengths": lengths}
