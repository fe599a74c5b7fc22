"""How near a path comes to what all paths say together.

    c(x)   = mean over all a in A_k of the unit vector of z'(a; x)
    r_k(a) = || q(z(a; x1)) - c(x2) ||^2 + || q(z(a; x2)) - c(x1) ||^2      of unit vectors, 0 to 8

on held-out samples, with one pair of views that is the same for all. Less is better. Running
statistics of batch normalisation are shared by paths and belong to none: before each path is run,
those of its layers are taken anew from one training batch, so that the order of paths changes
nothing. (The authors' code takes the center of vectors that are not normalised, and long ones
decide; here it is the mean that training chases.)
"""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stackwise.layers.evaluating import in_evaluation
from stackwise.learning.outputs import output_loss
from stackwise.train.bossnas.search.bootstrapping import (
    Inputs,
    Labelled,
    Pair,
    Prefix,
    distance,
    unit,
    view,
)
from stackwise.train.bossnas.search.sampling import Candidate


@contextlib.contextmanager
def taking_statistics(module: nn.Module) -> Iterator[None]:
    """Batch norms that run within the block take over the statistics of the batch, whole."""
    norms = [one for one in module.modules() if isinstance(one, _BatchNorm)]
    momenta, modes = [one.momentum for one in norms], [one.training for one in norms]
    for one in norms:
        one.momentum = 1.0
        one.train()
    try:
        yield
    finally:
        for one, momentum, mode in zip(norms, momenta, modes, strict=True):
            one.momentum = momentum
            one.train(mode)


@torch.no_grad()
def center_and_ratings(
    pair: Pair, paths: Sequence[Candidate], calibration: Inputs, seen: Inputs
) -> tuple[Tensor, list[float]]:
    """The center of a block's paths, and the rating of each.

    Args:
        calibration: (B, ...) a training batch. seen: (n, 2, ...) views of held-out samples.

    Returns:
        (2, n, size) the unit vectors of the center for both views, and a rating a path.
    """
    names = list(seen)
    views = [view(seen, side, names) for side in (0, 1)]
    with in_evaluation(pair):
        # a prefix is the teacher's for both: what stands there online is no part of the rating
        fixed = isinstance(pair.online.source, Prefix)
        asked = pair.teacher.source if fixed else pair.online.source
        teachers = _entered(pair.teacher.source, paths, calibration, views)
        own = teachers if fixed else _entered(asked, paths, calibration, views)
        total = torch.zeros(())
        for state, path, _ in paths:
            with taking_statistics(pair.teacher):
                pair.teacher.behind(teachers[state][0], path, state)
            said = [unit(pair.teacher.behind(h, path, state)) for h in teachers[state][1:]]
            total = total + torch.stack(said)
        center = unit(total)
        ratings = []
        for state, path, _ in paths:
            online = nn.Sequential(pair.online, pair.predictor)
            with taking_statistics(online):
                pair.predictor(pair.online.behind(own[state][0], path, state))
            answers = [pair.predictor(pair.online.behind(h, path, state)) for h in own[state][1:]]
            apart = distance(answers[0], center[1]) + distance(answers[1], center[0])
            ratings.append(float(apart.mean()))
    return center, ratings


@torch.no_grad()
def losses_of_paths(
    model: Labelled, paths: Sequence[Candidate], calibration: Inputs, held: dict[str, Tensor]
) -> list[float]:
    """The rating of the supervised rival: each path's loss on held-out samples, (n, 1, ...)."""
    names = list(calibration)
    found = []
    with in_evaluation(model):
        entered = _entered(model.online.source, paths, calibration, [view(held, 0, names)])
        for state, path, _ in paths:
            with taking_statistics(model.online):
                model.online.behind(entered[state][0], path, state)
            answers = model.answer(model.online.behind(entered[state][1], path, state))
            found.append(float(output_loss(answers, held)))
    return found


def _entered(
    source: nn.Module, paths: Sequence[Candidate], calibration: Inputs, views: Sequence[Inputs]
) -> dict[int, list[Tensor]]:
    """What the block is given in each state: of the training batch, then of each view."""
    found = {}
    for state in sorted({state for state, _, _ in paths}):
        with taking_statistics(source):
            first = source(calibration, state)
        found[state] = [first, *(source(one, state) for one in views)]
    return found


@torch.no_grad()
def settle(network: nn.Module, calibration: Inputs) -> None:
    """Give a network the statistics of one training batch."""
    with in_evaluation(network), taking_statistics(network):
        network(**calibration)
