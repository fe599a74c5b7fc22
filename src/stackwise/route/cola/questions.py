"""Search a path for each of many questions, in step, on one machine or several.

The reward of a path for a question is 1 where the model, run along it, gives the right answer. So
the search knows the label: what it finds says what the blocks can do, not what a user without the
label would get. Each question has its own random state, from its row and the seed, so that
neither the other questions nor the number of workers changes what is found for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from stackwise.cluster import connected
from stackwise.route.cola.actions import Path, Space
from stackwise.route.cola.runner import Runner, Work
from stackwise.route.cola.search import Search, Settings
from stackwise.stack import Stack
from stackwise.tasks.choices.asking import written_answer
from stackwise.tasks.choices.source import Question
from stackwise.tasks.choices.task import same_answer


@dataclass(frozen=True)
class Asked:
    """A question with what the model reads of it.

    Attributes:
        letters: the tokens of its choices; empty where the answer is written.
        target: what the search is rewarded for: the right answer, unless a control says otherwise.
    """

    question: Question
    tokens: tuple[int, ...]
    letters: tuple[int, ...]
    target: int | str


@dataclass
class Outcome:
    """What was found for one question.

    Attributes:
        said: path -> what the model answers along it (the number of a choice, or a text).
        right: whether the model's own order gives the right answer.
        path: the shortest path that gives the target, None where none was found.
        simulations, hits: proposals, and those whose answer was known already.
    """

    row: int
    answer: int | str
    target: int | str
    depth: int
    said: dict[Path, int | str] = field(repr=False)
    path: Path | None
    simulations: int
    hits: int

    @property
    def own(self) -> Path:
        """The model's own order."""
        return tuple(range(self.depth))

    @property
    def right(self) -> bool:
        """Whether the model answers rightly as it is."""
        return agrees(self.said[self.own], self.answer)

    @property
    def solved(self) -> bool:
        """Whether some path gives the target."""
        return self.path is not None


def agrees(said: int | str, answer: int | str) -> bool:
    """Whether what was said is the answer."""
    return said == answer if isinstance(answer, int) else same_answer(str(said), answer)


class Asker:
    """Asks a model along paths, and remembers what it said."""

    def __init__(self, model: Any, tokenizer: Any, asked: Sequence[Asked], **options: Any) -> None:
        self.model, self.tokenizer, self.asked = model, tokenizer, asked
        self.runner = Runner(model, [one.tokens for one in asked], **options)
        self.said: list[dict[Path, int | str]] = [{} for _ in asked]

    def ask(self, wanted: Sequence[tuple[int, Path]]) -> None:
        """Find out what the model answers to each (question, path), where that is not known."""
        new = [(i, path) for i, path in dict.fromkeys(wanted) if path not in self.said[i]]
        chosen = [(i, path) for i, path in new if self.asked[i].letters]
        for (i, path), row in zip(
            chosen, self.runner.logits(chosen) if chosen else [], strict=True
        ):
            self.said[i][path] = int(row[list(self.asked[i].letters)].argmax())
        for i, path in new:
            if not self.asked[i].letters:
                self.said[i][path] = self._written(i, path)

    @torch.no_grad()
    def _written(self, i: int, path: Path) -> str:
        work = self.runner.work
        work.paths, work.blocks, work.without = (
            work.paths + 1, work.blocks + len(path), work.without + len(path)
        )  # fmt: skip
        with Stack.of(self.model).path(path):
            return written_answer(self.model, self.tokenizer, self.asked[i].tokens)


def search_questions(
    model: Any,
    tokenizer: Any,
    asked: Sequence[Asked],
    *,
    simulations: int,
    space: Space,
    settings: Settings,
    seed: int = 0,
    together: int = 16,
    workers: int = 1,
    on: str | None = None,
    most_bytes: int = 2**29,
    share: bool = True,
) -> tuple[list[Outcome], Work]:
    """Search a path for each question.

    Args:
        together: questions whose searches go in step.
        workers: processes on this machine. on: `ray` or `ray://host:port` for a cluster.

    Returns:
        an outcome a question, in their order, and what running the model cost.
    """
    groups = [asked[start : start + together] for start in range(0, len(asked), together)]
    options: dict[str, Any] = {
        "simulations": simulations, "space": space, "settings": settings, "seed": seed,
        "most_bytes": most_bytes, "share": share,
    }  # fmt: skip
    if on is not None:
        parts = _on_ray(on, model, tokenizer, groups, options)
    elif workers > 1:
        from joblib import Parallel, delayed

        parts = Parallel(n_jobs=workers)(
            delayed(search_group)(model, tokenizer, group, **options) for group in groups
        )
    else:
        parts = [search_group(model, tokenizer, group, **options) for group in groups]
    total = Work()
    for _, work in parts:
        total.blocks += work.blocks
        total.without += work.without
        total.paths += work.paths
    return [outcome for outcomes, _ in parts for outcome in outcomes], total


def search_group(
    model: Any,
    tokenizer: Any,
    asked: Sequence[Asked],
    *,
    simulations: int,
    space: Space,
    settings: Settings,
    seed: int,
    most_bytes: int,
    share: bool,
) -> tuple[list[Outcome], Work]:
    """The searches of a few questions, in step; the model's weights are not changed."""
    depth = len(Stack.of(model))
    asker = Asker(model, tokenizer, asked, most_bytes=most_bytes, share=share)
    searches = [
        Search(depth, space, settings, seed * 1_000_003 + one.question.row) for one in asked
    ]
    for _ in range(simulations):
        proposed = [(i, search.propose()) for i, search in enumerate(searches)]
        asker.ask(proposed)
        for i, path in proposed:
            searches[i].tell(float(agrees(asker.said[i][path], asked[i].target)))
    outcomes = [
        Outcome(
            one.question.row, one.question.answer, one.target, depth, said, search.best(),
            search.simulations, search.hits,
        )
        for one, said, search in zip(asked, asker.said, searches, strict=True)
    ]  # fmt: skip
    return outcomes, asker.runner.work


def _on_ray(
    address: str, model: Any, tokenizer: Any, groups: Sequence[Any], options: dict[str, Any]
) -> list[Any]:
    ray = connected(address)
    held, reader = ray.put(model), ray.put(tokenizer)
    remote: Any = ray.remote  # whose overloads know no keyword arguments
    task = remote(num_cpus=1)(search_group)
    return list(ray.get([task.remote(held, reader, group, **options) for group in groups]))
