"""The transform and the probe: one path for a task, and what single questions could do with."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from torch import nn

from stackwise.catalog import Knob, probe, transform
from stackwise.errors import DataError, KnobError, ModelError
from stackwise.findings import Findings
from stackwise.route.cola import analysis
from stackwise.route.cola.actions import Space
from stackwise.route.cola.knobs import Wanted, search_knobs
from stackwise.route.cola.questions import Asked, Outcome, search_questions
from stackwise.route.cola.search import Settings
from stackwise.route.cola.task_path import accuracies, angular_path, task_path
from stackwise.stack import Stack
from stackwise.tasks.language.reading import context_of, tokenizer_of
from stackwise.training.knobs import seeded

TITLE = "Skip or loop the blocks of a frozen language model"
PAPER = "2507.07996"
PRESETS = {
    "quick": {"simulations": 20, "questions": 24}, "standard": {},
    "best": {"simulations": 400, "questions": 500},
}  # fmt: skip


@transform(
    "cola",
    title=TITLE,
    paper=PAPER,
    cost="a search: many runs of the model on your questions; no training",
    tasks=("choices",),
    takes=("decoder",),
    presets=PRESETS,
    shared=(search_knobs, seeded),
)
def cola(
    model: Any,
    data: Any = None,
    **search: Any,
) -> nn.Module:
    """Find one path through the blocks for a task, and keep it as a model.

    Paths are searched for training questions, with their answers; the one that is kept is chosen
    on validation questions and is no longer than the model, unless a longer one is better there.

    Args:
        model: a causal language model of transformers with its tokenizer beside it. Not changed.
        data: a loaded task of questions.

    Returns:
        a model of the same class, whose blocks are those of the path; repeats are copies.

    Raises:
        DataError: no questions, or none that fits. ModelError: not such a model.
    """
    wanted = Wanted(**search)
    space, settings, tokenizer = _prepare(model, data, wanted)
    train = asked_of(data, "train", model, tokenizer)
    picked = _drawn(train, wanted.questions, wanted.random_state)
    outcomes, _ = search_questions(
        model, tokenizer, picked, settings=settings, **_budget(wanted, space)
    )
    kept, _ = _path(model, tokenizer, data, outcomes, picked, wanted)
    return Stack.of(model).rebuild(kept.path)


@probe(
    "cola",
    title=TITLE,
    paper=PAPER,
    tasks=("choices",),
    takes=("decoder",),
    shared=(search_knobs, seeded),
)
def cola_paths(
    model: Any,
    data: Any = None,
    *,
    controls: Annotated[bool, Knob("search for wrong answers and at random too")] = True,
    **search: Any,
) -> Findings:
    """See which blocks single questions could skip or loop, and what one path for all would do.

    The searches know the answers: what they reach is an upper bound that nobody gets without them.
    Beside it stand the same searches rewarded for a wrong answer, random paths at the same budget,
    and the vote of all paths; and one path for the task, chosen without the test questions and
    judged on them.

    Args:
        model: a causal language model of transformers with its tokenizer beside it. Not changed.
        data: a loaded task of questions.
    """
    wanted = Wanted(**search)
    space, settings, tokenizer = _prepare(model, data, wanted)
    shared, seed = _budget(wanted, space), wanted.random_state
    picked = _drawn(asked_of(data, "train", model, tokenizer), wanted.questions, seed)
    outcomes, work = search_questions(model, tokenizer, picked, settings=settings, **shared)
    table = {"search": analysis.rates(outcomes)}
    if controls:
        wrong = rewarded_for_wrong(picked, seed)
        if wrong:
            misled, _ = search_questions(model, tokenizer, wrong, settings=settings, **shared)
            table["search for a wrong answer"] = analysis.rates(misled)
        blind, _ = search_questions(
            model, tokenizer, picked, settings=Settings("random"), **shared
        )  # fmt: skip
        table["random paths"] = analysis.rates(blind)
    kept, finalists = _path(model, tokenizer, data, outcomes, picked, wanted)
    tested = _tested(model, tokenizer, data, picked, kept.path, seed)
    return _findings(outcomes, work, table, kept, finalists, tested)


def _budget(wanted: Wanted, space: Space) -> dict[str, Any]:
    """What every search of a call gets alike."""
    return {
        "simulations": wanted.simulations, "space": space, "seed": wanted.random_state,
        "workers": wanted.workers, "on": wanted.on, "most_bytes": wanted.most_bytes,
    }  # fmt: skip


def _path(
    model: Any, tokenizer: Any, data: Any, outcomes: list[Outcome], picked: list[Asked],
    wanted: Wanted,
) -> Any:  # fmt: skip
    """The path that is kept for the task, and those that came close."""
    return task_path(
        model, tokenizer, outcomes, picked, asked_of(data, "validation", model, tokenizer),
        candidates=wanted.candidates, tolerance=wanted.tolerance, most_bytes=wanted.most_bytes,
    )  # fmt: skip


def asked_of(task: Any, part: str, model: Any, tokenizer: Any) -> list[Asked]:
    """The questions of a part, as a model reads them."""
    questions, tokens = task.encode(task.part(part)[0], tokenizer, context_of(model))
    return [
        Asked(one, tuple(row), tuple(task.letters(tokenizer, len(one.choices))), one.answer)
        for one, row in zip(questions, tokens, strict=True)
    ]


def _prepare(model: Any, data: Any, wanted: Wanted) -> tuple[Space, Settings, Any]:
    if not isinstance(model, nn.Module) or not hasattr(model, "config"):
        raise ModelError(f"a {type(model).__name__} is no causal language model with blocks")
    if getattr(data, "name", None) != "choices":
        raise DataError("the search needs questions with their answers: no target, no reward")
    if not (wanted.skips or wanted.repeats):
        raise KnobError("skips and repeats are both off: there is nothing to search")
    depth = len(Stack.of(model))
    for block in wanted.protect or []:
        if not 0 <= block < depth:
            raise KnobError(f"protect names block {block}, the model has {depth} (0..{depth - 1})")
    tokenizer = tokenizer_of(model)
    if tokenizer is None:
        raise ModelError(
            f"a {type(model).__name__} has no tokenizer beside it; save one into its folder"
        )
    space = Space(
        wanted.skips,
        wanted.repeats,
        wanted.max_block,
        wanted.max_repeat,
        wanted.max_length or 2 * depth,
        frozenset(wanted.protect or ()),
    )
    return (
        space,
        Settings(
            wanted.strategy, wanted.penalty, wanted.explore, wanted.random_child, wanted.widening
        ),
        tokenizer,
    )


def _drawn(asked: Sequence[Asked], most: int, seed: int) -> list[Asked]:
    """At most so many of the questions, at random, in their order."""
    if len(asked) <= most:
        return list(asked)
    picked = np.sort(np.random.default_rng(seed).permutation(len(asked))[:most])
    return [asked[i] for i in picked]


def rewarded_for_wrong(asked: Sequence[Asked], seed: int) -> list[Asked]:
    """The questions with choices, each with a wrong choice, drawn once, as the target."""
    generator = np.random.default_rng(seed)
    found = []
    for one in asked:
        if one.letters:
            step = int(generator.integers(1, len(one.letters)))
            target = (int(one.question.answer) + step) % len(one.letters)
            found.append(Asked(one.question, one.tokens, one.letters, target))
    return found


def _tested(
    model: Any, tokenizer: Any, data: Any, train: Sequence[Asked], kept: Any, seed: int
) -> dict[str, tuple[int, float]]:
    """Length and test accuracy: the model, the path, and what else is as short."""
    depth = len(Stack.of(model))
    own = tuple(range(depth))
    paths = {"the model as it is": own, "the path for the task": kept}
    if len(kept) < depth:
        tokens = [one.tokens for one in train[:32]]
        paths["least angles dropped"] = angular_path(model, tokens, depth - len(kept))
    generator = np.random.default_rng(seed)
    drawn = [
        tuple(sorted(generator.permutation(depth)[: min(len(kept), depth)].tolist()))
        for _ in range(5)
    ]
    test = asked_of(data, "test", model, tokenizer)
    every = list(dict.fromkeys([*paths.values(), *drawn]))
    scores = dict(zip(every, accuracies(model, tokenizer, test, every), strict=True))
    found = {name: (len(path), scores[path]) for name, path in paths.items()}
    if len(kept) < depth:
        mean = float(np.mean([scores[path] for path in drawn]))
        found["random blocks dropped, mean of 5"] = (len(kept), mean)
    return found


def _findings(
    outcomes: Sequence[Outcome], work: Any, table: dict[str, dict[str, float]], kept: Any,
    finalists: Sequence[Any], tested: dict[str, tuple[int, float]],
) -> Findings:  # fmt: skip
    import pandas as pd

    from stackwise.route.cola.figures import front_figure, use_figure

    per_question = pd.DataFrame(
        [
            {"row": one.row, "right": float(one.right), "solved": float(one.solved),
             "depth": len(one.path) if one.path else np.nan, "tried": len(one.said),
             "simulations": one.simulations, "known_again": one.hits}
            for one in outcomes
        ]
    )  # fmt: skip
    tables: dict[str, pd.DataFrame] = {
        "rates": pd.DataFrame(table).T,
        "front": analysis.front(outcomes),
        "blocks": analysis.block_use(outcomes),
        "questions": per_question,
        "finalists": pd.DataFrame(
            [{"depth": len(one.path), "train": one.train, "validation": one.validation}
             for one in finalists]
        ),
        "test": pd.DataFrame(
            {name: {"depth": size, "accuracy": score} for name, (size, score) in tested.items()}
        ).T,
    }  # fmt: skip
    found = table["search"]
    summary = {
        "note": "the search used the answers: what it reaches is an upper bound, not an accuracy",
        "accuracy of the model on the searched questions": found["accuracy"],
        "right along some path, with the answer known": found["with_the_label"],
        "right ones that a shorter path keeps right": found["shorter"],
        "wrong ones that some path puts right": found["corrected"],
        "vote of all paths, without answers": found["vote"],
        "evenness of the use of blocks": analysis.evenness(outcomes),
        "path for the task": " ".join(map(str, kept.path)),
        **{f"test accuracy, {name}": score for name, (_, score) in tested.items()},
        "blocks run, of those without sharing": work.share,
        "answers known already": int(sum(one.hits for one in outcomes)),
    }
    figures = {"front": front_figure(tables["front"], outcomes[0].depth, found["accuracy"]),
               "blocks": use_figure(tables["blocks"])}  # fmt: skip
    return Findings(tables, figures, summary)
