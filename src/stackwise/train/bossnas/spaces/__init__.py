"""What is searched: the stem, the operations of every layer, and which may follow which."""

from stackwise.train.bossnas.spaces.hytra import HyTra
from stackwise.train.bossnas.spaces.inverted import MBConvSpace
from stackwise.train.bossnas.spaces.known import space_of
from stackwise.train.bossnas.spaces.operations import OperationSpace
from stackwise.train.bossnas.spaces.own import SearchSpace
from stackwise.train.bossnas.spaces.rows import RowSpace
from stackwise.train.bossnas.spaces.slimmable import SlimSpace
from stackwise.train.bossnas.spaces.space import Architecture, Path, Space

__all__ = [
    "Architecture", "HyTra", "MBConvSpace", "OperationSpace", "Path", "RowSpace", "SearchSpace",
    "SlimSpace", "Space", "space_of",
]  # fmt: skip
