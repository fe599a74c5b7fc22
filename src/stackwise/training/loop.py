"""The one training loop.

Notable:
- a fit is a list of phases; a phase has a rule, batches and a budget, and may begin by replacing
  the model with a deeper, smaller or other one;
- the order of the rows depends on (seed, epoch) alone and the random states are kept, so that a
  run that was killed ends with the same weights, bit for bit, as one that was not;
- nothing is read back from the device within an epoch: losses wait in a list and are looked at
  together, which also finds the exact step at which one stopped being a number.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stackwise.errors import Interrupted, KnobError, TrainingError
from stackwise.training import checkpoints
from stackwise.training.batches import Batches
from stackwise.training.rules import Rule
from stackwise.training.session import Session, current_session

EPOCH_PAUSE = 2.0  # seconds between checkpoints at the ends of epochs
STEP_PAUSE = 30.0  # seconds between checkpoints within an epoch
LOOK_EVERY = 200  # steps between looks at the losses


@dataclass
class Phase:
    """A part of a fit: one rule, one budget.

    Attributes:
        start: previous model -> the model of this phase. By default it goes on with the same.
        rebuild: constructor arguments (`model.arguments`) -> a model of the same form; needed to
            resume into a phase whose `start` made another model.
        keep: whether the phase ends with its best or its last weights.
    """

    name: str
    rule: Rule
    batches: Batches
    max_epochs: int
    patience: int | None = None
    start: Callable[[nn.Module], nn.Module] = lambda previous: previous
    rebuild: Callable[[dict[str, Any]], nn.Module] | None = None
    keep: Literal["best", "last"] = "best"


@dataclass
class Trained:
    """What a fit made."""

    model: nn.Module
    history: list[dict[str, Any]]
    best_epoch: int
    best_score: float | None
    stopped: str
    steps: int
    seconds: float


def train(
    model: nn.Module,
    rule: Rule,
    batches: Batches,
    *,
    max_epochs: int,
    patience: int | None = None,
    seed: int = 0,
    precision: str = "auto",
    device: str = "auto",
    time_limit: float | None = None,
    name: str = "train",
) -> Trained:
    """Train `model` in one phase; see `train_phases`."""
    phase = Phase(name, rule, batches, max_epochs, patience)
    return train_phases(
        model, [phase], seed=seed, precision=precision, device=device, time_limit=time_limit
    )


def train_phases(
    model: nn.Module,
    phases: list[Phase],
    *,
    seed: int = 0,
    precision: str = "auto",
    device: str = "auto",
    time_limit: float | None = None,
) -> Trained:
    """Train through `phases`, beginning with `model`.

    Raises:
        TrainingError: a loss or the watched score is not a number; the step and the last
            checkpoint are named.
        Interrupted: Ctrl-C or SIGTERM, after a checkpoint was written (inside a session).
    """
    if not phases:
        raise TrainingError("there is nothing to train: no phase was given")
    loop = Loop(phases, current_session(), precision, device, time_limit)
    forked = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=forked), _stop_signals(loop):
        torch.manual_seed(seed)
        return loop.run(model)


@dataclass
class Loop:
    """The state of a fit while it runs. Rules read `step`, `total_steps`, `epoch`, `optimizers`.

    Attributes:
        step: batches seen in this phase. place: of them, in this epoch. epoch_steps: its length.
    """

    phases: list[Phase]
    session: Session
    precision: str = "auto"
    device_name: str = "auto"
    time_limit: float | None = None
    phase_index: int = 0
    epoch: int = 0
    place: int = 0
    step: int = 0
    epoch_steps: int = 0
    total_steps: int = 0
    optimizers: list[Optimizer] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    stop_asked: bool = False

    def __post_init__(self) -> None:
        self.fit = self.session.next_fit()
        self.file = self.session.checkpoint(self.fit)
        self.accelerator = _accelerator(self.device_name, self.precision)
        self.before = 0.0  # seconds that an earlier process spent on this fit
        self.started = self.written = self.told = time.monotonic()
        self.sums: dict[str, float] = {}
        self.waiting: dict[str, list[Tensor]] = {}
        self.best: dict[str, Tensor] = {}
        self.best_epoch, self.best_score, self.stale = -1, math.nan, 0
        self.stopped = ""

    @property
    def phase(self) -> Phase:
        """The phase that runs."""
        return self.phases[self.phase_index]

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before a resume included."""
        return self.before + time.monotonic() - self.started

    def backward(self, loss: Tensor) -> None:
        """Backward through `loss`; a rule calls this and not `loss.backward()`.

        Outside of autocast: each product's backward then has the type that its forward had.
        """
        if self.accelerator.mixed_precision == "no":
            self.accelerator.backward(loss)
            return
        with torch.autocast(self.accelerator.device.type, enabled=False):
            self.accelerator.backward(loss)

    def run(self, model: nn.Module) -> Trained:
        """Go through the phases, from a checkpoint where the session resumes one."""
        found = checkpoints.read(self.file) if self.file and self.session.resume else None
        if found is not None:
            model = self._restore(model, *found)
            if self.stopped:
                return self._trained(model)
        else:
            model = self._begin(model)
        while True:
            self._finish_phase(model)
            if self.phase_index + 1 == len(self.phases) or self.stopped == "time":
                break
            self.phase_index += 1
            model = self._begin(model)
        self._save(model)
        return self._trained(model)

    def _begin(self, model: nn.Module) -> nn.Module:
        """Begin a phase: its model, its optimizers, its counters."""
        model = self.phase.start(model).to(self.accelerator.device)
        self.epoch = self.place = self.step = self.stale = 0
        self.best, self.best_epoch, self.best_score = {}, -1, math.nan
        self.stopped = ""
        self._make_optimizers(model)
        return model

    def _make_optimizers(self, model: nn.Module) -> None:
        self.epoch_steps = len(self.phase.batches)
        self.total_steps = self.epoch_steps * self.phase.max_epochs
        self.optimizers = self.phase.rule.optimizers(model)
        model.train()

    def _finish_phase(self, model: nn.Module) -> None:
        """Run the epochs that are left, then put the phase's weights in place."""
        running = self.accelerator.prepare_model(model) if self._distributed else model
        while not self.stopped:
            self._epoch(model, running)
            patience = self.phase.patience
            if patience is not None and self.stale >= patience:
                self.stopped = "patience"
            elif self.epoch >= self.phase.max_epochs:
                self.stopped = "epochs"
            elif self._out_of_time():
                self.stopped = "time"
            elif time.monotonic() - self.written > EPOCH_PAUSE or self.stop_asked:
                self._save(model)
            if self.stop_asked:
                self._interrupt(model)
        if self.phase.keep == "best" and self.best:
            model.load_state_dict(self.best)

    def _epoch(self, model: nn.Module, running: nn.Module) -> None:
        """One pass over the batches, then validation."""
        rule, autocast = self.phase.rule, self._autocast
        for batch in self.phase.batches.epoch(self.epoch, self.place):
            with autocast():
                scalars = rule.step(self, running, self._on_device(batch))
            for name, value in scalars.items():
                self.waiting.setdefault(name, []).append(value.detach())
            self.place += 1
            self.step += 1
            if self.place % LOOK_EVERY == 0:
                self._look()
            if self._between_steps(model):
                break
        self._look()
        means = {name: total / max(self.place, 1) for name, total in self.sums.items()}
        scores = {name: float(value) for name, value in rule.validate(model).items()}
        self.sums, self.place = {}, 0
        self.epoch += 1
        self._keep_best(model, scores)
        metrics = {f"train_{name}": value for name, value in means.items()}
        metrics |= {f"validation_{name}": value for name, value in scores.items()}
        line = {
            "fit": self.fit,
            "phase": self.phase.name,
            "epoch": self.epoch,
            "step": self.step,
            "metrics": metrics,
            "seconds": round(self.seconds, 3),
        }
        self.history.append(line)
        self.session.log(line)
        self._tell(metrics)

    def _between_steps(self, model: nn.Module) -> bool:
        """Look at the clock and the signals; True ends the epoch early."""
        if self.place == self.epoch_steps:
            return False
        now = time.monotonic()
        if now - self.told > 0.5:
            self._tell({})
        if self.stop_asked:
            self._interrupt(model)
        if self.file is not None and now - self.written > STEP_PAUSE:
            self._save(model)
        return self._out_of_time()

    def _look(self) -> None:
        """Sum the waiting scalars; refuse a loss that is not a number, naming its step."""
        for name, values in self.waiting.items():
            read = torch.stack(values).double().cpu()
            bad = (~read.isfinite()).nonzero()
            if name == "loss" and len(bad):
                step = self.step - len(values) + int(bad[0]) + 1
                raise TrainingError(
                    f"the loss is {float(read[bad[0]])} at step {step} (epoch {self.epoch + 1}); "
                    f"{self._last_good()}; try a smaller lr or grad_clip"
                )
            # added one by one, so that a resume in mid-epoch gives the same rounding
            total = self.sums.get(name, 0.0)
            for value in read.tolist():
                total += value
            self.sums[name] = total
        self.waiting = {}

    def _last_good(self) -> str:
        if self.file is not None and self.file.exists():
            return f"the last good checkpoint is {self.file}"
        return "no checkpoint was written yet"

    def _keep_best(self, model: nn.Module, scores: dict[str, float]) -> None:
        """Keep the weights of a strictly better score."""
        name = self.phase.rule.monitor
        if name is None or not self.phase.rule.settled:
            self.best_epoch = self.epoch
            return
        score = scores[name]
        if not math.isfinite(score):
            raise TrainingError(
                f"the validation {name} is {score} after epoch {self.epoch}; {self._last_good()}; "
                "try a smaller lr or grad_clip"
            )
        sign = 1 if self.phase.rule.mode == "min" else -1
        if math.isnan(self.best_score) or sign * score < sign * self.best_score:
            self.best_score, self.best_epoch, self.stale = score, self.epoch, 0
            if self.phase.keep == "best":
                self.best = {name: t.detach().clone() for name, t in model.state_dict().items()}
        else:
            self.stale += 1

    def _interrupt(self, model: nn.Module) -> None:
        self._look()
        self._save(model)
        raise Interrupted(f"Interrupted in epoch {self.epoch + 1}; the checkpoint is written")

    def _out_of_time(self) -> bool:
        limits = [
            left for left in (self.session.seconds_left(), self._own_left()) if left is not None
        ]
        return bool(limits) and min(limits) <= 0

    def _own_left(self) -> float | None:
        return None if self.time_limit is None else self.time_limit - self.seconds

    def _tell(self, metrics: dict[str, float]) -> None:
        self.told = time.monotonic()
        if self.session.on_event is None:
            return
        done = max(self.epoch * self.epoch_steps + self.place, 1)
        left = (self.total_steps - done) * self.seconds / done if self.seconds else None
        self.session.on_event(
            {
                "phase": self.phase.name,
                "epoch": self.epoch,
                "max_epochs": self.phase.max_epochs,
                "step": self.step,
                "steps": self.total_steps,
                "seconds": self.seconds,
                "seconds_left": left,
            }
            | ({"metrics": metrics} if metrics else {})
        )

    def _save(self, model: nn.Module) -> None:
        """Write the checkpoint of this moment."""
        self.written = time.monotonic()
        if self.file is None or not self.accelerator.is_main_process:
            return
        self._look()
        tensors = checkpoints.prefixed("model", dict(model.state_dict()))
        tensors |= checkpoints.prefixed("best", self.best)
        tensors |= checkpoints.prefixed("rule", self.phase.rule.state())
        tensors |= checkpoints.prefixed("random", checkpoints.random_states())
        for index, optimizer in enumerate(self.optimizers):
            own = checkpoints.optimizer_tensors(optimizer)
            tensors |= checkpoints.prefixed(f"optimizer{index}", own)
        place = {
            "phase": self.phase_index,
            "epoch": self.epoch,
            "place": self.place,
            "step": self.step,
            "sums": self.sums,
            "stale": self.stale,
            "best_epoch": self.best_epoch,
            "best_score": self.best_score,
            "history": self.history,
            "stopped": self.stopped,
            "seconds": self.seconds,
            "groups": [checkpoints.group_settings(optimizer) for optimizer in self.optimizers],
            "arguments": getattr(model, "arguments", None),
        }
        checkpoints.write(self.file, tensors, place)

    def _restore(
        self, model: nn.Module, tensors: dict[str, Tensor], place: dict[str, Any]
    ) -> nn.Module:
        """Rebuild the model that the checkpoint holds and go back to its moment."""
        self.phase_index = place["phase"]
        for phase in self.phases[: self.phase_index + 1]:
            model = phase.rebuild(place["arguments"]) if phase.rebuild else phase.start(model)
        model = model.to(self.accelerator.device)
        model.load_state_dict(checkpoints.under("model", tensors))
        self._make_optimizers(model)
        for index, optimizer in enumerate(self.optimizers):
            own = checkpoints.under(f"optimizer{index}", tensors)
            checkpoints.load_optimizer(optimizer, place["groups"][index], own)
        self.best = checkpoints.under("best", tensors)
        self.phase.rule.load_state(model, checkpoints.under("rule", tensors))
        for name in ("epoch", "place", "step", "sums", "stale", "best_epoch", "history", "stopped"):
            setattr(self, name, place[name])
        self.best_score = math.nan if place["best_score"] is None else place["best_score"]
        self.before = place["seconds"]
        self.session.rewind(self.fit, self.history)
        checkpoints.set_random_states(checkpoints.under("random", tensors))
        return model

    def _trained(self, model: nn.Module) -> Trained:
        model.eval()
        score = None if math.isnan(self.best_score) else self.best_score
        return Trained(
            model, self.history, self.best_epoch, score, self.stopped, self.step, self.seconds
        )

    @property
    def _distributed(self) -> bool:
        return bool(self.accelerator.num_processes > 1)

    @property
    def _autocast(self) -> Callable[[], Any]:
        if self.accelerator.mixed_precision == "no":
            return nullcontext
        return self.accelerator.autocast  # type: ignore[no-any-return]

    def _on_device(self, batch: Any) -> Any:
        device = self.accelerator.device
        if device.type == "cpu" or not isinstance(batch, dict):
            return batch
        return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def _accelerator(device: str, precision: str) -> Any:
    """An accelerate `Accelerator` for this device and precision."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    kind = device.partition(":")[0]
    here = {"auto", "cpu"} | ({"cuda"} if torch.cuda.is_available() else set())
    here |= {"mps"} if torch.backends.mps.is_available() else set()
    if kind not in here:
        raise KnobError(f"device must be one of {', '.join(sorted(here))} here, got {device!r}")
    if precision == "auto":
        precision = "bfloat16" if kind in ("auto", "cuda") and "cuda" in here else "float32"
    AcceleratorState._reset_state()  # it would keep the precision of an earlier fit
    mixed = "bf16" if precision == "bfloat16" else "no"
    return Accelerator(cpu=kind == "cpu", mixed_precision=mixed)


@contextmanager
def _stop_signals(loop: Loop) -> Iterator[None]:
    """Inside a session, let Ctrl-C and SIGTERM ask the loop to stop after the step."""
    if loop.session.folder is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: Any) -> None:
        if loop.stop_asked and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C does not wait
        loop.stop_asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
