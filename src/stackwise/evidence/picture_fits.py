"""Networks on pictures side by side: the same splits, rates to choose among, and epochs for all.

A learning rate is chosen a network, by accuracy on the validation pictures of the first seed; it
then stays for the other seeds. Test pictures are used once a network and seed. A seed parts the
pictures anew and sets the first weights and the order of training.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from stackwise.tasks.images.task import ImagesTask


@dataclass
class PictureFits:
    """What one network did over the seeds.

    Attributes:
        accuracy: per cent of the test pictures, by seed. validation: of the validation pictures.
        lr: that was chosen. parameters: of the network.
    """

    lr: float
    parameters: int
    accuracy: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)


def fitted_over_seeds(
    build: Callable[..., Any],
    tasks: Mapping[int, ImagesTask],
    lrs: Sequence[float],
) -> PictureFits:
    """Fit over seeds.

    Args:
        build: takes `lr` and `random_state`, and gives a learner that is not fitted.
        tasks: the pictures of each seed.
    """
    first, *others = tasks
    tried = [_fitted(build(lr=lr, random_state=first), tasks[first]) for lr in lrs]
    best = max(range(len(lrs)), key=lambda place: tried[place][0])
    validation, learner = tried[best]
    done = PictureFits(lrs[best], size_of(learner.network_))
    _note(done, validation, learner, tasks[first])
    for seed in others:
        validation, learner = _fitted(build(lr=lrs[best], random_state=seed), tasks[seed])
        _note(done, validation, learner, tasks[seed])
    return done


def _fitted(learner: Any, task: ImagesTask) -> tuple[float, Any]:
    task.fit(learner)
    return task.judge(learner, "validation").scores["accuracy"], learner


def _note(done: PictureFits, validation: float, learner: Any, task: ImagesTask) -> None:
    test = task.judge(learner, "test").scores["accuracy"]
    done.accuracy.append(round(100 * test, 2))
    done.validation.append(round(100 * validation, 2))


def ahead(ours: PictureFits, others: PictureFits) -> list[float]:
    """By how many points of test accuracy ours is ahead, by seed."""
    return [round(a - b, 2) for a, b in zip(ours.accuracy, others.accuracy, strict=True)]


def size_of(network: nn.Module) -> int:
    """Parameters of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def least_with(wanted: int, values: Sequence[Any], build: Callable[[Any], nn.Module]) -> Any:
    """The first of rising values with which a network has so many parameters, or the last one."""
    return next((value for value in values if size_of(build(value)) >= wanted), values[-1])


def table_of(fits: Mapping[str, PictureFits]) -> dict[str, Any]:
    """All networks of a comparison, as numbers of a claim."""
    return {
        "test_accuracy_percent": {name: done.accuracy for name, done in fits.items()},
        "validation_accuracy_percent": {name: done.validation for name, done in fits.items()},
        "parameters": {name: done.parameters for name, done in fits.items()},
        "chosen_lr": {name: done.lr for name, done in fits.items()},
    }
