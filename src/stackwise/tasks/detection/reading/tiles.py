"""Cut large pictures into tiles, and the boxes with them.

Tiles of one picture share no pixel: the fewest rows and columns of tiles that are no larger than
asked, of nearly one size. A box belongs to each tile in which a share of it lies that is at least
`keep`, and is cut at the tile's border; where no tile has so much of it, it is left out.

To look for boxes in a new picture, windows overlap, so that what lies on a border is whole in one.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from stackwise.tasks.detection.boxes import Boxes
from stackwise.tasks.detection.reading.scenes import Region, Scenes

OVERLAP = 0.25
"""Share of a window's side that the next one covers too."""


def edges(side: int, tile: int) -> list[int]:
    """0, ..., side: the fewest pieces of at most `tile` pixels."""
    pieces = -(-side // tile)
    return [round(place * side / pieces) for place in range(pieces + 1)]


def tiles_of(size: tuple[int, int], tile: int) -> list[Region]:
    """The tiles of a picture of (height, width), row by row."""
    down, across = edges(size[0], tile), edges(size[1], tile)
    return [
        (x1, y1, x2, y2)
        for y1, y2 in pairwise(down)
        for x1, x2 in pairwise(across)
    ]  # fmt: skip


def windows_of(size: tuple[int, int], tile: int) -> list[Region]:
    """Overlapping windows of at most `tile` pixels a side that cover a picture."""

    def starts(side: int) -> list[int]:
        if side <= tile:
            return [0]
        steps = -(-(side - tile) // max(int(tile * (1 - OVERLAP)), 1))
        return [round(step * (side - tile) / steps) for step in range(steps + 1)]

    height, width = size
    return [
        (x, y, min(x + tile, width), min(y + tile, height))
        for y in starts(height) for x in starts(width)
    ]  # fmt: skip


def boxes_in(of: Boxes, region: Region, keep: float) -> tuple[Boxes, np.ndarray]:
    """The boxes of a picture in a tile, in the tile's pixels; (n,) bool which those are."""
    x1, y1, x2, y2 = region
    within = np.clip(of.boxes, (x1, y1, x1, y1), (x2, y2, x2, y2)).astype(np.float32)
    size = (of.boxes[:, 2:] - of.boxes[:, :2]).prod(1)
    left = (within[:, 2:] - within[:, :2]).prod(1)
    kept = (left > 0) & (left >= keep * size)
    shift = np.array([x1, y1, x1, y1], np.float32)
    return Boxes(within[kept] - shift, of.labels[kept], of.crowd[kept]), kept


def cut_into_tiles(
    scenes: Scenes, boxes: Sequence[Boxes], tile: int, keep: float
) -> tuple[Scenes, list[Boxes], np.ndarray, list[str]]:
    """All pictures with a side above `tile`, cut.

    Returns:
        The tiles, and pictures that needed no cut; their boxes; (m,) the picture of each; notes.
    """
    tiles: list[tuple[int, Region | None, str]] = []
    found: list[Boxes] = []
    cut = lost = 0
    for row, size in enumerate(scenes.sizes):
        if max(size) <= tile:
            tiles.append((row, scenes.regions[row], scenes.names[row]))
            found.append(boxes[row])
            continue
        cut += 1
        seen = np.zeros(len(boxes[row].boxes), bool)
        for region in tiles_of(size, tile):
            tiles.append((row, region, f"{scenes.names[row]} at {region[0]},{region[1]}"))
            inside, kept = boxes_in(boxes[row], region, keep)
            found.append(inside)
            seen |= kept
        lost += int((~seen).sum())
    notes = []
    if cut:
        notes.append(
            f"{cut:,} {'picture is' if cut == 1 else 'pictures are'} cut into tiles of at most "
            f"{tile} pixels: {len(tiles):,} samples"
        )
    if lost:
        notes.append(
            f"{lost:,} {'box has' if lost == 1 else 'boxes have'} less than {keep:.0%} in every "
            "tile: left out"
        )
    return scenes.tiled(tiles), found, np.array([row for row, *_ in tiles]), notes
