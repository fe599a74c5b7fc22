"""What every learner that trains a network shares: threads, progress, the loop, and how the network
is handed to transforms.

    network = ...                                   made with torch's random state at the seed
    trained = self.train(network, phases)           the loop, resumed where a run is resumed
    self.network_ = trained.model
"""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from stackwise.learning.learner import Learner
from stackwise.learning.trainable import Trainable, of_task
from stackwise.training.knobs import training_knobs
from stackwise.training.loop import train_phases
from stackwise.training.phases import Phase, Trained
from stackwise.training.session import current_session, session


class NetworkLearner(Learner):
    """A learner that trains a network.

    Fitted attributes, besides those of `Learner`: `network_`, `history_` (a record an epoch),
    `best_epoch_`.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (training_knobs,)
    budget: ClassVar[str | None] = "max_epochs"
    fitted: ClassVar[str] = "network_"

    network_: nn.Module
    history_: list[dict[str, Any]]

    def train(self, network: nn.Module, phases: list[Phase]) -> Trained:
        """Train a network through phases, as the training knobs say; what was learned is noted."""
        with computing_with(self.threads), told(self.verbose):
            trained = train_phases(network, phases, **self.training_options())
        self.history_, self.best_epoch_ = trained.history, trained.best_epoch
        if trained.stopped == "time":
            most = sum(phase.max_epochs for phase in phases)
            self.notes_.append(
                f"the time limit ended training after {len(trained.history)} of at most "
                f"{most} epochs; more time may help"
            )
        return trained

    def learned_for(self) -> int | None:
        """The epoch whose weights are kept; None where several phases have shares of the budget."""
        phases = {line.get("phase") for line in getattr(self, "history_", [])}
        best = int(getattr(self, "best_epoch_", 0))
        return best if len(phases) <= 1 and best > 0 else None

    def training_options(self) -> dict[str, Any]:
        """What the loop is told of the knobs."""
        return {
            "seed": self.seed_, "precision": str(self.precision), "device": self.device,
            "time_limit": self.time_limit,
        }  # fmt: skip

    def trainable(
        self, data: Any, *, batch_size: int | None = None, seed: int | None = None
    ) -> Trainable:
        """What a transform needs to go on training the network (a copy of it).

        Args:
            data: a loaded task.
            batch_size: None takes the one of `fit`. seed: of the batches' order; likewise.
        """
        check_is_fitted(self, self.fitted)
        return of_task(
            copy.deepcopy(self.network_), data, reader=self, batch_size=batch_size,
            seed=self.seed_ if seed is None else seed, finish=self.with_network,
        )  # fmt: skip

    def with_network(self, network: nn.Module) -> Self:
        """A copy of this fitted learner that answers with another network."""
        check_is_fitted(self, self.fitted)
        made = copy.copy(self)
        made.network_ = network.eval()
        return made


@contextlib.contextmanager
def computing_with(count: int | None) -> Iterator[None]:
    """Compute with this many threads; None leaves the number as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def told(verbose: bool) -> Iterator[None]:
    """Print a line an epoch, unless a run tells of its progress already."""
    if not verbose or current_session().on_event or current_session().folder:
        yield
        return
    with session(on_event=_print_epoch):
        yield


def _print_epoch(event: dict[str, Any]) -> None:
    if event.get("metrics"):
        scores = "  ".join(f"{name} {value:.5g}" for name, value in event["metrics"].items())
        print(f"epoch {event['epoch']}/{event['max_epochs']}  {scores}", flush=True)
