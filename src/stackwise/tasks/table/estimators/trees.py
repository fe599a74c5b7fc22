"""Trees of any package as tensors, so that they are exported like a network.

A tree is a list of nodes. At an inner node with threshold t a row goes left where

    x <= t    (x < t of some packages)      a number
    x in S                                  a category, S the node's set
    as the node says                        x is missing

and a leaf adds its value to a score. All trees step together, a level at a time, from (rows, trees)
numbers of nodes to their children; a leaf is its own child.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@dataclass
class Node:
    """A node of a tree.

    Attributes:
        feature: the column that it asks.
        threshold: of a number. left_set: the codes that go left, of a category, or None.
        missing_left: where a missing value goes.
        left, right: the numbers of its children within the tree; -1 of a leaf.
        value: what a leaf adds.
    """

    feature: int = 0
    threshold: float = 0.0
    left_set: frozenset[int] | None = None
    missing_left: bool = False
    left: int = -1
    right: int = -1
    value: float = 0.0


@dataclass
class Forest:
    """Trees, each with the score that it adds to, and the scores before any tree."""

    trees: list[list[Node]] = field(default_factory=list)
    scores: list[int] = field(default_factory=list)
    base: list[float] = field(default_factory=lambda: [0.0])
    strict: bool = False


class TreeTensors(nn.Module):
    """A forest that answers (B, a) numbers and (B, b) codes with (B, scores) float64."""

    feature: Tensor
    threshold: Tensor
    missing_left: Tensor
    below: Tensor
    value: Tensor
    place: Tensor
    allowed: Tensor
    roots: Tensor
    owner: Tensor
    base: Tensor

    def __init__(self, forest: Forest, cardinalities: list[int]) -> None:
        super().__init__()
        self.strict = forest.strict
        self.cardinalities = list(cardinalities)
        starts = np.cumsum([0, *(len(tree) for tree in forest.trees)])
        nodes = [node for tree in forest.trees for node in tree]
        children = np.arange(len(nodes)).repeat(2).reshape(-1, 2)
        for start, tree in zip(starts, forest.trees, strict=False):
            for number, node in enumerate(tree):
                if node.left >= 0:
                    children[start + number] = start + node.right, start + node.left
        sets: list[frozenset[int] | None] = [None]  # place 0: a node that asks for a number
        place = []
        for node in nodes:
            if node.left_set is None:
                place.append(0)
            else:
                place.append(len(sets))
                sets.append(node.left_set)
        allowed = np.zeros((len(sets), max([1, *cardinalities]) + 1), dtype=bool)
        for row, codes in enumerate(sets):
            allowed[row, sorted(codes or ())] = True
        owner = np.zeros((len(forest.trees), len(forest.base)))
        owner[np.arange(len(forest.trees)), forest.scores] = 1.0
        found: dict[str, Any] = {
            "feature": [node.feature for node in nodes],
            "threshold": np.array([node.threshold for node in nodes], dtype=np.float64),
            "missing_left": np.array([node.missing_left for node in nodes], dtype=bool),
            "below": children, "place": place, "allowed": allowed, "roots": starts[:-1],
            "value": np.array([node.value for node in nodes], dtype=np.float64),
            "owner": owner, "base": np.array(forest.base, dtype=np.float64),
        }  # fmt: skip
        for name, values in found.items():
            self.register_buffer(name, torch.as_tensor(np.asarray(values)))
        self.depth = max((depth_of(tree) for tree in forest.trees), default=0)

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """(B, a) float32 numbers, NaN where missing; (B, b) int64 codes, the cardinality where
        there is none.
        """
        most = torch.tensor(self.cardinalities, dtype=torch.int64)
        known = categorical < most if len(self.cardinalities) else categorical.bool()
        nothing = torch.full_like(categorical, -1)
        codes = torch.where(known, categorical, nothing)
        missing = torch.cat([torch.isnan(numeric), ~known], 1)
        values = torch.cat([numeric.double(), codes.double()], 1)
        places = torch.cat([torch.zeros_like(numeric, dtype=torch.int64), codes.clamp(min=0)], 1)
        now = self.roots + torch.zeros_like(values[:, :1], dtype=torch.int64)
        for _ in range(self.depth):
            asked = self.feature[now]
            value, gone = values.gather(1, asked), missing.gather(1, asked)
            limit = self.threshold[now]
            left = value < limit if self.strict else value <= limit
            row = self.place[now]
            in_set = self.allowed[row, places.gather(1, asked)]
            # onnxruntime chooses between numbers and not between truths
            left = ((row > 0) & in_set) | ((row == 0) & left)
            left = (gone & self.missing_left[now]) | (~gone & left)
            now = self.below[now, left.long()]
        scores: Tensor = self.value[now] @ self.owner + self.base
        return scores


def depth_of(tree: list[Node]) -> int:
    """The steps from the root to the deepest leaf."""
    depth, level = 0, [0]
    while level := [c for n in level for c in (tree[n].left, tree[n].right) if c >= 0]:
        depth += 1
    return depth
