"""What is claimed of skipping and looping blocks, with the controls that the claim needs.

Two models. One is trained here, in seconds, to name the largest of four numbers ("composed"
questions: its mistakes are real ones), once a seed. The other is SmolLM2-135M, truly pretrained, on
questions composed from the exchanges of a packaged chat corpus: the right answer among three
answers to other questions of its subject; three disjoint draws.
"""

import functools
import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from stackwise import data
from stackwise.evidence.claims import Claim, judge
from stackwise.evidence.pictures import BLUE, ORANGE, canvas, numbers_of
from stackwise.route.cola.actions import Space
from stackwise.route.cola.analysis import front, rates
from stackwise.route.cola.entry import asked_of, rewarded_for_wrong
from stackwise.route.cola.questions import Outcome, search_questions
from stackwise.route.cola.search import Settings
from stackwise.route.cola.task_path import accuracies, angular_path, task_path
from stackwise.stack import Stack
from stackwise.tasks.choices.asking import padded
from stackwise.tasks.choices.source import read_questions
from stackwise.tasks.choices.task import ChoicesTask
from stackwise.tasks.language.decoder import new_decoder
from stackwise.tasks.language.tokenizers import learned_tokenizer
from stackwise.training.batches import ArrayBatches
from stackwise.training.loop import train
from stackwise.training.rules import Backprop

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"trained": 1500, "depth": 4, "searched": 8, "held": 24, "simulations": 20,
              "seeds": [0], "pretrained": 0},
    "cpu": {"trained": 80_000, "depth": 8, "searched": 60, "held": 300, "simulations": 100,
            "seeds": [0, 1, 2], "pretrained": 8},
    "gpu": {"trained": 40_000, "depth": 12, "searched": 300, "held": 1000, "simulations": 200,
            "seeds": [0, 1, 2], "pretrained": 100},
}  # fmt: skip
TIMED = (
    "A search with sharing and one without for each draw, one after the other; which is first "
    "alternates. "
    "What is not shared, the ends of the model and keeping the books, takes its part of the time."
)
PIECE, ENOUGH = 2_000, 0.85
"""Questions between looks at a model in training, and the share of right ones at which it ends."""
SUBJECTS = ("history", "literature", "movies", "science", "sports", "trivia")


def largest(count: int, seed: int) -> list[dict[str, Any]]:
    """Composed questions: which of four numbers is the largest?"""
    generator = random.Random(seed)
    drawn = [generator.sample(range(10, 100), 4) for _ in range(count)]
    return [
        {"question": "largest?", "choices": [str(n) for n in numbers],
         "answer": numbers.index(max(numbers))}
        for numbers in drawn
    ]  # fmt: skip


@functools.cache
def exchanges() -> list[dict[str, Any]]:
    """Composed questions: an answer among three answers to other questions of its subject."""
    generator = random.Random(0)
    made = []
    for subject in SUBJECTS:
        pairs = [
            [message["content"] for message in chat["messages"][:2]]
            for chat in data.chats("chatterbot")
            if chat["subject"] == subject and len(chat["messages"][1]["content"]) <= 60
        ]
        answers = sorted({answer for _, answer in pairs})
        for asked, right in pairs:
            if len(answers) < 8 or len(asked) > 120 or not asked.endswith("?"):
                continue
            others = generator.sample([a for a in answers if a != right], 3)
            options = generator.sample([right, *others], 4)
            made.append({"question": asked, "choices": options, "answer": options.index(right)})
    generator.shuffle(made)
    return made


class Trained:
    """A small decoder that names the largest number, and questions that it has not seen."""

    def __init__(self, given: dict[str, Any], seed: int) -> None:
        held = largest(given["searched"] + 2 * given["held"], 1_000 + seed)
        whole = len(held)
        self.task = ChoicesTask.load(
            held, validation=given["held"] / whole, test=given["held"] / whole, split_seed=seed,
            answer_rule="0",
        )  # fmt: skip
        learned = read_questions(largest(given["trained"], seed), rule="0")
        prompts = [self.task.prompt(one, None) for one in learned]
        self.tokenizer = learned_tokenizer(prompts[:500], 400)
        tokens = [self.tokenizer(prompt)["input_ids"] for prompt in prompts]
        letters = self.task.letters(self.tokenizer, 4)
        ids, last = padded(tokens)
        answers = torch.tensor([letters[int(one.answer)] for one in learned])
        every = {"ids": ids, "last": last, "answer": answers}
        torch.manual_seed(seed)
        self.model = new_decoder(
            len(self.tokenizer), layers=given["depth"], width=64, heads=4, length=64
        )
        # trained only until about 85 % are right, on questions of its own: mistakes are needed
        shown = {name: tensor[:200] for name, tensor in every.items()}
        for start in range(200, given["trained"], PIECE):
            piece = {name: tensor[start : start + PIECE] for name, tensor in every.items()}
            rule = Backprop(_letter_loss, lr=1e-3, warmup=0.2, weight_decay=0.01)
            rows = ArrayBatches(piece, 64, seed=seed)
            train(self.model, rule, rows, max_epochs=1, seed=seed, precision="float32")
            self.model.cpu().eval()
            if _accuracy(self.model, shown) >= ENOUGH:
                break


@torch.no_grad()
def _accuracy(model: nn.Module, shown: dict[str, Tensor]) -> float:
    logits = model(input_ids=shown["ids"], use_cache=False).logits
    said = logits[torch.arange(len(shown["ids"])), shown["last"]].argmax(-1)
    return float((said == shown["answer"]).double().mean())


def _letter_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    logits = model(input_ids=batch["ids"], use_cache=False).logits
    at = logits[torch.arange(len(batch["ids"])), batch["last"]]
    return torch.nn.functional.cross_entropy(at, batch["answer"])


def measure(scale: str) -> list[Claim]:
    """Search, with and without controls, then one path for all; on both models."""
    given = SETTINGS[scale]
    seeds = given["seeds"]
    found = [_one_model(given, seed) for seed in seeds]
    claims = _claims(found, seeds)
    if given["pretrained"]:
        claims += _pretrained(given["pretrained"], seeds)
    return claims


def _one_model(given: dict[str, Any], seed: int) -> dict[str, Any]:
    """Everything that is measured of one trained model."""
    made = Trained(given, seed)
    model, tokenizer, task = made.model, made.tokenizer, made.task
    parts = {part: asked_of(task, part, model, tokenizer) for part in
             ("train", "validation", "test")}  # fmt: skip
    depth = len(Stack.of(model))
    both = Space(longest=2 * depth)

    def search(space: Space = both, settings: Settings | None = None, asked: Any = None,
               share: bool = True) -> tuple[list[Outcome], Any, float]:  # fmt: skip
        began = time.perf_counter()
        outcomes, work = search_questions(
            model, tokenizer, parts["train"] if asked is None else asked, share=share, seed=seed,
            simulations=given["simulations"], space=space, settings=settings or Settings(),
        )  # fmt: skip
        return outcomes, work, time.perf_counter() - began

    outcomes, work, seconds = search()
    _, _, alone = search(share=False)
    misled, _, _ = search(asked=rewarded_for_wrong(parts["train"], seed))
    kept, _ = task_path(model, tokenizer, outcomes, parts["train"], parts["validation"])
    test, length = parts["test"], len(kept.path)
    own = tuple(range(depth))
    dropped = angular_path(model, [one.tokens for one in parts["train"][:32]], depth - length) \
        if length < depth else own  # fmt: skip
    generator = np.random.default_rng(seed)
    drawn = [tuple(sorted(generator.permutation(depth)[: min(length, depth)].tolist()))
             for _ in range(5)]  # fmt: skip
    paths = list(dict.fromkeys([own, kept.path, dropped, *drawn]))
    scores = dict(zip(paths, accuracies(model, tokenizer, test, paths), strict=True))
    return {
        "rates": rates(outcomes),
        "skips alone": rates(search(Space(repeats=False, longest=2 * depth))[0]),
        "repeats alone": rates(search(Space(skips=False, longest=2 * depth))[0]),
        "random": rates(search(settings=Settings("random"))[0]),
        "widening": rates(search(settings=Settings(widening=0.5))[0]),
        "no penalty": rates(search(settings=Settings(penalty=0.0))[0]),
        "to the right answer": _reached(outcomes),
        "to a wrong answer": _reached(misled),
        "front": front(outcomes),
        "depth": depth,
        "share": work.share,
        "time": seconds / alone,
        "path": kept.path,
        "test": {"model": scores[own], "path": scores[kept.path], "least angles": scores[dropped],
                 "random blocks": float(np.mean([scores[path] for path in drawn]))},
    }  # fmt: skip


def _reached(outcomes: Sequence[Outcome]) -> float:
    """Of the questions whose target the model does not say by itself, the share that reach it."""
    off = [one for one in outcomes if one.said[one.own] != one.target]
    return sum(one.solved for one in off) / len(off) if off else float("nan")


def _claims(found: list[dict[str, Any]], seeds: list[int]) -> list[Claim]:
    def of(name: str, key: str) -> list[float]:
        return [one[name][key] for one in found]

    def each(name: str) -> list[float]:
        return [one[name] for one in found]

    def less(a: Sequence[float], b: Sequence[float]) -> list[float]:
        return [x - y for x, y in zip(a, b, strict=True)]

    corrected = of("rates", "corrected")
    alone = [max(pair) for pair in zip(of("skips alone", "corrected"),
                                       of("repeats alone", "corrected"), strict=True)]  # fmt: skip
    tests = {name: [one["test"][name] for one in found] for name in found[0]["test"]}
    lengths = [len(one["path"]) for one in found]
    shorter = [one["depth"] - len(one["path"]) for one in found]
    kept = [min(cut, 0.005 - loss + 1e-9) for cut, loss in
            zip(shorter, less(tests["model"], tests["path"]), strict=True)]  # fmt: skip
    over_angles = less(tests["path"], tests["least angles"])
    over_random = less(tests["path"], tests["random blocks"])
    beats = [min(pair) for pair in zip(over_angles, over_random, strict=True)]
    return [
        Claim(
            "shorter", "a shorter path keeps most questions right that the model gets right (60 %)",
            judge(of("rates", "shorter"), margin=0.6),
            {"share": of("rates", "shorter"), "accuracy": of("rates", "accuracy"),
             "mean blocks of the paths": of("rates", "depth"),
             "blocks of the model": found[0]["depth"],
             "curves": {"front": [one["front"].values.tolist() for one in found],
                        "accuracy": of("rates", "accuracy")}},
            seeds, "The search is told the answer: an upper bound, not an accuracy.",
        ),
        Claim(
            "corrected", "some path puts most questions right that the model gets wrong (60 %)",
            judge(corrected, margin=0.6),
            {"share": corrected, "vote of all paths, no label": of("rates", "vote"),
             "accuracy": of("rates", "accuracy")},
            seeds, "The search is told the answer: an upper bound, not an accuracy.",
        ),
        Claim(
            "right-over-wrong",
            "the search reaches right answers more often than wrong ones that it is rewarded for",
            judge(less(each("to the right answer"), each("to a wrong answer"))),
            {"reaches the right answer": each("to the right answer"),
             "reaches a wrong one, drawn at random": each("to a wrong answer")},
            seeds,
            "Over questions whose target the model does not say by itself. Where the two are "
            "alike, paths reach any answer, and what is found for one question says nothing of it.",
        ),
        Claim(
            "both-actions", "skipping and looping together correct more than either alone",
            judge(less(corrected, alone)),
            {"both": corrected, "skips alone": of("skips alone", "corrected"),
             "repeats alone": of("repeats alone", "corrected")},
            seeds,
        ),
        Claim(
            "tree-over-chance", "the tree search solves more than random edits of as many paths",
            judge(less(of("rates", "with_the_label"), of("random", "with_the_label"))),
            {"tree search": of("rates", "with_the_label"),
             "random edits": of("random", "with_the_label"),
             "tree search, widening": of("widening", "with_the_label"),
             "tree search, no penalty": of("no penalty", "with_the_label"),
             "mean blocks, tree search": of("rates", "depth"),
             "mean blocks, random edits": of("random", "depth"),
             "mean blocks, widening": of("widening", "depth"),
             "mean blocks, no penalty": of("no penalty", "depth")},
            seeds,
        ),
        Claim(
            "task-path",
            "one path for all questions is shorter than the model and within half a point of it",
            judge(kept),
            {"blocks of the path": lengths, **{f"test accuracy, {n}": v for n, v in tests.items()}},
            seeds, "Chosen on training and validation questions; the test questions asked once.",
        ),
        Claim(
            "task-path-over-others",
            "it is better than dropping as many blocks by least angle, and than random ones",
            judge(beats) if any(shorter) else "not testable at this scale",
            {"path": tests["path"], "least angles": tests["least angles"],
             "random blocks, mean of 5": tests["random blocks"], "blocks dropped": shorter},
            seeds,
        ),
        Claim(
            "sharing", "shared beginnings leave at most 60 % of the blocks to run",
            judge([0.6 - share for share in each("share")]),
            {"blocks run, of those without sharing": each("share"),
             "time, of that without sharing": each("time")},
            seeds,
            "Blocks of these small models take so little time that keeping the books shows; time "
            "is judged on the pretrained model.",
        ),
    ]  # fmt: skip


def _pretrained(count: int, seeds: list[int]) -> list[Claim]:
    """A few searches on SmolLM2-135M, over disjoint draws of questions."""
    from stackwise.models import open_model
    from stackwise.tasks.language.reading import tokenizer_of

    model = open_model("smollm2-135m")
    tokenizer = tokenizer_of(model)
    pool = exchanges()
    depth = len(Stack.of(model))
    found: list[dict[str, float]] = []
    reached, shared = [], []
    for draw in range(len(seeds)):
        rows = pool[draw * 2 * count : (draw + 1) * 2 * count]
        task = ChoicesTask.load(rows, validation=0.05, test=0.4, split_seed=0, answer_rule="0")
        asked = asked_of(task, "train", model, tokenizer)[:count]
        settings: dict[str, Any] = {
            "simulations": 15, "space": Space(longest=2 * depth), "settings": Settings(),
        }  # fmt: skip
        outcomes, _ = search_questions(model, tokenizer, asked, seed=draw, **settings)
        wrong = rewarded_for_wrong(asked, draw)
        misled, _ = search_questions(model, tokenizer, wrong, seed=draw, **settings)
        shared.append(_shared_time(model, tokenizer, asked, settings, first=draw % 2 == 0))
        found.append(rates(outcomes))
        reached.append((_reached(outcomes), _reached(misled)))
    return [
        Claim(
            "pretrained",
            "a pretrained model has shorter right paths for most questions that it gets right",
            judge([one["shorter"] for one in found], margin=0.5),
            {"share": [one["shorter"] for one in found],
             "accuracy": [one["accuracy"] for one in found],
             "corrected": [one["corrected"] for one in found],
             "mean blocks of the paths": [one["depth"] for one in found],
             "reaches the right answer": [right for right, _ in reached],
             "reaches a wrong one, drawn at random": [wrong for _, wrong in reached]},
            list(range(len(seeds))),
            f"SmolLM2-135M, {count} questions a draw, 15 paths each, in plain text. The search is "
            "told the answer: compare the last two rows.",
        ),
        Claim(
            "time-follows",
            "on a pretrained model sharing saves as much time as it saves blocks, to a tenth",
            judge([1.1 * blocks - spent for blocks, spent in shared]),
            {"blocks run, of those without sharing": [blocks for blocks, _ in shared],
             "time, of that without sharing": [spent for _, spent in shared]},
            list(range(len(seeds))), TIMED,
        ),
    ]  # fmt: skip


def _shared_time(
    model: Any, tokenizer: Any, asked: Any, settings: dict[str, Any], *, first: bool
) -> tuple[float, float]:
    """Share of the blocks, and of the time, that a search takes with shared beginnings."""
    seconds, shares = {}, {}
    for share in (first, not first):
        began = time.perf_counter()
        _, work = search_questions(model, tokenizer, asked, seed=0, share=share, **settings)
        seconds[share] = time.perf_counter() - began
        shares[share] = work.share
    return shares[True], seconds[True] / seconds[False]


def picture(record: dict[str, Any]) -> "Figure":
    """Looping and skipping: questions with a right path of at most so many blocks, the answer known
    to the search; the dots are the models as they are.
    """
    numbers = numbers_of(record, "shorter")
    curves = numbers["curves"]
    figure, axes = canvas()
    for number, (curve, accuracy) in enumerate(
        zip(curves["front"], curves["accuracy"], strict=True)
    ):
        depth, solved = zip(*curve, strict=True)
        axes.step(depth, solved, where="post", color=BLUE, lw=1.6,
                  label="some path is right (answer known)" if number == 0 else None)  # fmt: skip
        axes.plot([numbers["blocks of the model"]], [accuracy], "o", color=ORANGE,
                  label="the model as it is" if number == 0 else None)  # fmt: skip
    axes.set_xlabel("blocks of the path, at most")
    axes.set_ylabel("share of the questions")
    axes.set_ylim(0, 1.03)
    axes.legend(frameon=False, fontsize=8)
    return figure
