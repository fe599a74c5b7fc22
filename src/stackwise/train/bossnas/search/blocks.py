"""Search block after block, or all apart: in turn, on a pool of processes, or on a Ray cluster.

    greedy   block k is trained behind the best paths of blocks 1 .. k-1, as in the paper: blocks
             wait for each other
    apart    block k is trained behind a stem of its own, and a bridge from there to each state in
             which it may be entered: blocks wait for nobody, and every architecture can be rated

Each block is a fit of its own, with its own optimizer, random numbers and checkpoints, so that a
kill loses no finished block. The paths that are fixed and the block that is trained are two lists:
nothing provisional ever stands in the prefix.
"""

import contextlib
import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from stackwise.errors import KnobError
from stackwise.learning.apart import FitsApart
from stackwise.train.bossnas.search.bootstrapping import Labelled, Pair, Prefix, Stem
from stackwise.train.bossnas.search.rating import center_and_ratings, losses_of_paths
from stackwise.train.bossnas.search.ratings import Rated, Ratings
from stackwise.train.bossnas.search.rule import BootstrapRule, LabelledRule
from stackwise.train.bossnas.search.sampling import Candidate, candidates, paths_of_a_step
from stackwise.train.bossnas.search.settings import Samples, Settings
from stackwise.train.bossnas.search.views import ViewBatches, stacked_views
from stackwise.train.bossnas.spaces.space import Architecture, Space
from stackwise.training.loop import train_phases
from stackwise.training.phases import Phase, Trained
from stackwise.training.session import current_session

RATED, CALIBRATED = 512, 256
"""Held-out samples by which paths are rated at most, and training samples whose statistics batch
norms take."""


@dataclass
class Searched:
    """What a search found.

    Attributes:
        ratings: of every path. best: the architecture of the least sum.
        stem, layers: of the best one, with the weights of the search: the teachers', or those of
            the rival that learns labels.
        fits: how each block's training went. blocks: what was trained, by block.
    """

    ratings: Ratings
    best: Architecture
    stem: nn.Module
    layers: list[nn.Module]
    fits: list[Trained]
    blocks: list[nn.Module]


@dataclass(kw_only=True)
class BlockSearches(FitsApart):
    """The fits of all blocks.

    Attributes:
        phase: the knobs of a block's fit: `max_epochs`, `batch_size`. options: of `train_phases`.
        rule_options: of `Backprop`.
        stems, layers: of the blocks that are fixed: the online network's, then the teacher's.
        state: in which the next block is entered.
    """

    space: Space
    settings: Settings
    samples: Samples
    batch_size: int
    max_epochs: int
    rule_options: dict[str, Any]
    options: dict[str, Any]
    stems: list[nn.Module] = field(default_factory=list)
    layers: list[list[nn.Module]] = field(default_factory=lambda: [[], []])
    state: int = 0
    kind: ClassVar[str] = "block"

    def states(self, place: int) -> list[int]:
        """Those in which a block is searched."""
        if self.settings.order == "apart":
            return self.space.entries(place)
        return [self.state]

    def model(self, place: int, every: list[Candidate]) -> nn.Module:
        """The block's networks, fresh but for the prefix; they depend on (seed, place) alone."""
        settings, space = self.settings, self.space
        ends = sorted({end for _, _, end in every})
        with torch.random.fork_rng(devices=[]):
            drawn = np.random.SeedSequence((settings.seed, place)).generate_state(1, np.uint64)
            torch.manual_seed(int(drawn[0] >> np.uint64(2)))
            teachers: nn.Module | None = None
            if place and settings.order == "greedy":
                source: nn.Module = self._prefix(0)
                teachers = self._prefix(1)
            else:
                source = Stem(space, place, self.states(place) if place else None)
            if settings.objective == "supervised":
                return Labelled(space, place, source, ends, self.samples.n_outputs)
            return Pair(space, place, source, teachers, ends, settings.hidden, settings.size)

    def _prefix(self, side: int) -> Prefix:
        """Copies of the fixed paths, online or of the teacher."""
        stem, layers = self.stems[side], self.layers[side]
        return copy.deepcopy(Prefix(stem, layers, fixed=self.settings.stop_gradient))

    def one(self, place: int) -> tuple[dict[str, Tensor], list[Candidate], list[float], Trained]:
        """Train a block and rate its paths."""
        settings, samples = self.settings, self.samples
        every = candidates(
            self.space, place, self.states(place), settings.rate_sample, settings.seed
        )
        model = self.model(place, every)

        def draw(epoch: int, step: int) -> list[Candidate]:
            return paths_of_a_step(
                self.space, place, every, settings.sampling, settings.paths, settings.seed, epoch,
                step,
            )  # fmt: skip

        rule: Any = LabelledRule(draw, samples.names, **self.rule_options)
        if settings.objective != "supervised":
            rule = BootstrapRule(
                draw, samples.names, together=settings.objective == "ensemble",
                own=settings.own_views, ema=settings.ema, **self.rule_options,
            )  # fmt: skip
        batches = ViewBatches(
            samples.tensors, self.batch_size, names=samples.names, views=samples.views,
            count=settings.views, seed=settings.seed + place,
        )  # fmt: skip
        phase = Phase(self.names[place], rule, batches, self.max_epochs, keep="last")
        trained = train_phases(model, [phase], **self.options)
        ratings = self.rated(trained.model.cpu(), every, batches.rows)
        weights = {name: tensor.cpu() for name, tensor in trained.model.state_dict().items()}
        trained.model = nn.Identity()
        return weights, every, ratings, trained

    def rated(self, model: nn.Module, every: list[Candidate], rows: int) -> list[float]:
        """The ratings of a trained block's paths."""
        samples, settings = self.samples, self.settings
        generator = torch.Generator().manual_seed(settings.seed + 2**31)
        few = torch.randperm(rows, generator=generator)[:CALIBRATED]
        first = samples.of(samples.tensors, few)
        calibration = {name: first[name] for name in samples.names}
        kept = torch.arange(len(samples.held[samples.names[0]]))[:RATED]
        held = samples.of(samples.held, kept)
        inputs = {name: held[name] for name in samples.names}
        if isinstance(model, Labelled):
            shown = held | stacked_views(inputs, None, 1, generator)
            return losses_of_paths(model, every, calibration, shown)
        assert isinstance(model, Pair)
        seen = stacked_views(inputs, samples.views, 2, generator)
        return center_and_ratings(model, every, calibration, seen)[1]


def search(searches: BlockSearches, time_limit: float | None = None) -> Searched:
    """Search every block.

    Args:
        time_limit: seconds for all of them.

    Raises:
        TrainingError: a block's process died again and again, or its loss is no number.
        KnobError: settings that do not go together. StudyError: there is no such cluster.
    """
    space, settings = searches.space, searches.settings
    settings.check(space)
    searches.state = space.start
    apart = settings.order == "apart"
    if not apart and (searches.workers > 1 or searches.on):
        raise KnobError(
            "blocks wait for each other with order=greedy: take order=apart for workers"
        )
    tables: dict[int, Rated] = {}
    models: dict[int, nn.Module] = {}
    fits: dict[int, Trained] = {}
    with contextlib.closing(searches.results(time_limit)) as results:
        for place, (weights, every, found, trained) in results:
            model = searches.model(place, every)
            model.load_state_dict(weights)
            models[place], fits[place] = model.eval().requires_grad_(False), trained
            tables[place] = Rated(
                tuple((state, path, end, value)
                      for (state, path, end), value in zip(every, found, strict=True))
            )  # fmt: skip
            if not apart:
                _fix(searches, model, tables[place])
    count = len(space.depths)
    ratings = Ratings(space, [tables[place] for place in range(count)])
    best = ratings.best
    layers = searches.layers[-1]
    stem = searches.stems[-1] if searches.stems else None
    if apart:
        states, layers = space.states(best), []
        for place in range(count):
            layers += taught(models[place]).block.cut(best[place], states[place])
        stem = taught(models[0]).source.stem  # type: ignore[assignment]
    history = [fits[place] for place in range(count)]
    for place, trained in enumerate(history):
        trained.history = [line | {"fit": place} for line in trained.history]
        for line in trained.history:
            current_session().log(line)
    assert stem is not None
    return Searched(ratings, best, stem, list(layers), history, [models[p] for p in range(count)])


def taught(model: nn.Module) -> Any:
    """The branch that is kept of a block's networks: the teacher, where there is one."""
    return model.teacher if isinstance(model, Pair) else model.online


def _fix(searches: BlockSearches, model: Any, rated: Rated) -> None:
    """Fix a block's best path: the next one stands behind it."""
    state, path, end, _ = rated.best
    branches = (model.online, taught(model))
    layers = [[*_before(branch), *branch.block.cut(path, state)] for branch in branches]
    searches.stems = [branch.source.stem for branch in branches]
    searches.layers, searches.state = layers, end


def _before(branch: Any) -> list[nn.Module]:
    source = branch.source
    return list(source.layers) if isinstance(source, Prefix) else []
