"""Search for a path by Monte Carlo tree search, and three plainer ways at the same budget.

A node is a path, its children are edits of it, the root is the model's own order. In each
simulation one goes down from the root by the largest

    UCB(P) = Q(P) / v(P) + c sqrt(ln V / v(P)) - lambda |P| / N          (the paper's score)

(Q: rewards backed up through P, v: its visits, V: simulations so far, N: depth of the model), adds
a child, and backs its reward up. A search does not know what a path is worth: it proposes one, is
told its reward, and goes on, so that many searches run in step and share the model's work.

Source: arXiv 2507.07996. When a node gets another child, the paper leaves open. Read literally (a
random unexplored child with probability 0.1, else the best one) a node has a second child only in
every tenth visit, and trees are thin and deep; `widening` gives a node v^a children instead.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from stackwise.errors import KnobError
from stackwise.route.cola.actions import Edit, Path, Space, blocks_of

Strategy = Literal["mcts", "random", "greedy", "beam"]


@dataclass
class Node:
    """A path in the tree."""

    path: Path
    parent: "Node | None" = None
    visits: int = 0
    reward: float = 0.0
    children: list["Node"] = field(default_factory=list)
    untried: "Iterator[Edit] | None" = None


@dataclass(frozen=True)
class Settings:
    """How a search goes.

    Attributes:
        penalty: lambda. explore: c. random_child: how often a node gets another child.
        widening: exponent of progressive widening; None for the literal rule.
        beam: paths that strategy beam keeps.
    """

    strategy: Strategy = "mcts"
    penalty: float = 5.0
    explore: float = 1.8
    random_child: float = 0.1
    widening: float | None = None
    beam: int = 4


class Search:
    """One search over paths: `propose` a path, `tell` its reward, again and again.

    Attributes:
        evaluated: path -> reward, in the order in which they were first proposed.
        simulations: rewards told so far. hits: proposals whose reward was known already.
    """

    def __init__(self, depth: int, space: Space, settings: Settings, seed: int) -> None:
        if depth > space.longest:
            raise KnobError(f"max_length={space.longest} is below the model's {depth} blocks")
        self.depth, self.space, self.settings = depth, space, settings
        self.random = np.random.default_rng(seed)
        self.root = Node(tuple(range(depth)))
        self.nodes: dict[Path, Node] = {self.root.path: self.root}
        self.evaluated: dict[Path, float] = {}
        self.simulations = self.hits = 0
        self._now = self.root

    def propose(self) -> Path:
        """The next path to try; the first is the model's own."""
        if not self.evaluated:
            self._now = self.root
        elif self.settings.strategy == "mcts":
            self._now = self._descend()
        else:
            self._now = self._edit_of(self._parent())
        return self._now.path

    def tell(self, reward: float) -> None:
        """The reward of the path that was proposed last, between 0 and 1."""
        path = self._now.path
        if path in self.evaluated:
            self.hits += 1
        self.evaluated.setdefault(path, reward)
        self.simulations += 1
        node: Node | None = self._now
        while node is not None:
            node.visits += 1
            node.reward += reward
            node = node.parent

    def best(self) -> Path | None:
        """The shortest path of the largest reward, if that is above 0; fewer blocks break ties."""
        top = max(self.evaluated.values(), default=0.0)
        if top <= 0:
            return None
        return min(
            (path for path, reward in self.evaluated.items() if reward == top),
            key=lambda path: (len(path), blocks_of(path), path),
        )

    def front(self) -> list[tuple[Path, float]]:
        """The paths that no other beats in reward without being longer, shortest first."""
        ordered = sorted(self.evaluated.items(), key=lambda item: (len(item[0]), -item[1], item[0]))
        found: list[tuple[Path, float]] = []
        for path, reward in ordered:
            if not found or reward > found[-1][1]:
                found.append((path, reward))
        return found

    def score(self, node: Node) -> float:
        """UCB of a node that was visited."""
        return ucb(
            node.reward, node.visits, self.simulations, len(node.path), self.depth,
            self.settings.explore, self.settings.penalty,
        )  # fmt: skip

    def _descend(self) -> Node:
        node = self.root
        while True:
            if self._may_widen(node):
                child = self._add_child(node)
                if child is not None:
                    return child
            if not node.children:
                return node
            node = max(node.children, key=self.score)

    def _may_widen(self, node: Node) -> bool:
        if not node.children:
            return True
        if self.settings.widening is not None:
            return len(node.children) < math.ceil(node.visits**self.settings.widening)
        return bool(self.random.random() < self.settings.random_child)

    def _add_child(self, node: Node) -> Node | None:
        """A child by an edit not tried yet, whose path is nowhere in the tree."""
        if node.untried is None:
            edits = list(self.space.edits(node.path))
            node.untried = (edits[i] for i in self.random.permutation(len(edits)))
        for edit in node.untried:
            path = edit(node.path)
            if path not in self.nodes:
                child = self.nodes[path] = Node(path, node)
                node.children.append(child)
                return child
        return None

    def _parent(self) -> Node:
        """The node whose edit is tried next, by the plain strategies."""
        tried = list(self.evaluated)
        if self.settings.strategy == "random":
            return self.nodes[tried[self.random.integers(len(tried))]]
        ranked = sorted(
            tried, key=lambda path: (-self.evaluated[path] + self._price(path), tried.index(path))
        )
        width = self.settings.beam if self.settings.strategy == "beam" else 1
        return self.nodes[ranked[self.random.integers(min(width, len(ranked)))]]

    def _price(self, path: Path) -> float:
        # a reward outweighs any length, so that the plain strategies climb by reward first
        return len(path) / (self.space.longest + 1)

    def _edit_of(self, node: Node) -> Node:
        return self._add_child(node) or node


def ucb(
    reward: float, visits: int, total: int, length: int, depth: int, explore: float, penalty: float
) -> float:
    """Q/v + c sqrt(ln V / v) - lambda |P| / N."""
    wide = math.sqrt(math.log(max(total, 1)) / visits)
    return reward / visits + explore * wide - penalty * length / depth
