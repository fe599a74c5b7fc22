"""The axes of a network whose arguments `width`, `depth` and `hidden` are its sizes."""

from typing import Any

from stackwise.train.sortednet.spaces import Extent, Sizes


class WidthDepthHidden:
    """Units of the stream, blocks, and units within a block."""

    arguments: dict[str, Any]

    def extents(self) -> dict[str, Extent]:
        """How far each axis goes."""
        return {
            "width": Extent(self.arguments["width"]),
            "depth": Extent(self.arguments["depth"], unit="blocks"),
            "ffn": Extent(self.arguments["hidden"]),
        }

    @staticmethod
    def resized(sizes: Sizes) -> dict[str, Any]:
        """The arguments of a sub-model that are others."""
        return {"width": sizes["width"], "depth": sizes["depth"], "hidden": sizes["ffn"]}
