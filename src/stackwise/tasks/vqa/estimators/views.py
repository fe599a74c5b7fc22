"""Pictures in two resolutions, as a vision tower takes them.

    low     the whole picture at r x r
    crops   the whole picture at (gh r) x (gw r), cut into gh gw crops of r x r

Both are stretched to their sizes and nothing is padded, so that the two cover the same pixels: what
becomes smaller is averaged (as a sum over whole pixels where the sizes divide), what becomes larger
is bicubic.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stackwise.tasks.images.reading.decode import Channels, Content, decode
from stackwise.tasks.vqa.estimators.crops import cut

MOST_HELD = 1 << 30
"""Bytes of pictures at their sizes that are held; others are decoded each time."""
Grid = tuple[int, int]
"""(gh, gw)."""


class Views:
    """Views of pictures by their numbers.

    Args:
        contents, names: of each picture, not decoded yet.
        side: r. channels: 1 or 3. mean, std: of a channel, of pictures from 0 to 1.
        grid: (height, width) of a picture -> its (gh, gw); None for the low view alone.
        most: crops of a picture at most; fewer are filled up with zeros.
    """

    def __init__(
        self,
        contents: Sequence[Content],
        names: Sequence[str],
        *,
        side: int,
        channels: Channels,
        mean: Sequence[float],
        std: Sequence[float],
        grid: Callable[[int, int], Grid] | None = None,
        most: int = 0,
    ) -> None:
        self.contents, self.names = contents, names
        self.side, self.channels, self.grid, self.most = side, channels, grid, most
        self.mean = torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1)
        self.std = torch.tensor(std, dtype=torch.float32).view(-1, 1, 1)
        self._held: dict[int, tuple[Tensor, Tensor | None, Grid]] = {}
        self._bytes = 0

    def of(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        """`low` (B, C, r, r) and, where there is a grid, `crops` (B, most, C, r, r) and `grids`
        (B, 2): gh and gw of each.
        """
        found = [self._one(number) for number in numbers]
        views = {"low": self._normalised(torch.stack([low for low, _, _ in found]))}
        if self.grid is not None:
            views["crops"] = self._normalised(
                torch.stack([c for _, c, _ in found if c is not None])
            )
            views["grids"] = torch.tensor([grid for _, _, grid in found])
        return views

    def _one(self, number: int) -> tuple[Tensor, Tensor | None, Grid]:
        if number in self._held:
            return self._held[number]
        whole = decode(self.contents[number], channels=self.channels, name=self.names[number])
        low = stretched(whole, self.side, self.side)
        grid, crops = (1, 1), None
        if self.grid is not None:
            grid = gh, gw = self.grid(*whole.shape[:2])
            cells = cut(stretched(whole, gh * self.side, gw * self.side)[None], gh, gw)[0]
            crops = cells.new_zeros(self.most, *cells.shape[1:])
            crops[: len(cells)] = cells
        size = low.numel() + (0 if crops is None else crops.numel())
        if self._bytes + size <= MOST_HELD:
            self._held[number] = low, crops, grid
            self._bytes += size
        return low, crops, grid

    def _normalised(self, pictures: Tensor) -> Tensor:
        return pictures.float().div_(255).sub_(self.mean).div_(self.std)


def stretched(picture: np.ndarray, height: int, width: int) -> Tensor:
    """(H, W, C) uint8 -> (C, height, width) uint8."""
    if picture.shape[:2] != (height, width):
        smaller = height <= picture.shape[0] and width <= picture.shape[1]
        how: Any = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
        plain = picture[..., 0] if picture.shape[2] == 1 else picture
        image = Image.fromarray(np.ascontiguousarray(plain)).resize((width, height), how)
        picture = np.asarray(image).reshape(height, width, picture.shape[2])
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
