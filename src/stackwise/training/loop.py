"""The one training loop.

Notable:
- a fit is a list of phases; a phase has a rule, batches and a budget, and may begin by replacing
  the model with a deeper, smaller or other one;
- the order of the rows depends on (seed, epoch) alone and the random states are kept, so that a
  run that was killed ends with the same weights, bit for bit, as one that was not;
- nothing is read back from the device within an epoch but now and then: losses wait in a list and
  are looked at together, which also finds the exact step at which one stopped being a number;
- a rule sees the plain model: where there are several processes each takes its rows of a batch, and
  the loop averages gradients before an optimizer steps (see `exchange`).
"""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stackwise.errors import Interrupted, TrainingError
from stackwise.layers.batch_statistics import gathered_batch_statistics
from stackwise.training import checkpoints
from stackwise.training.batches import Batches
from stackwise.training.best import Best
from stackwise.training.distribution.devices import accelerator, placer
from stackwise.training.distribution.exchange import Exchange
from stackwise.training.distribution.sharding import (
    Sharded,
    in_parts_as,
    part_here,
    reached_from_outside,
    whole_tensors,
)
from stackwise.training.distribution.sharding import is_wanted as sharding_is_wanted
from stackwise.training.heap import keeping_memory
from stackwise.training.interrupts import StopRequest, being_written, stop_signals
from stackwise.training.phases import Phase, Trained
from stackwise.training.rules import Rule
from stackwise.training.scalars import Scalars
from stackwise.training.session import Session, current_session

EPOCH_PAUSE = 2.0  # seconds at least between checkpoints at the ends of epochs
STEP_PAUSE = 30.0  # seconds at least between checkpoints within an epoch
WRITE_PAUSE = 20.0  # and this many times what writing the last one took: at most 5 % of the time
PACE_AFTER = 1.0  # seconds of a phase's steps, before which nothing is said of the time left
LOOK_EVERY = 200  # steps between looks at the losses
_outer: ContextVar[Session | None] = ContextVar("stackwise_session_of_the_outer_fit", default=None)
AGREE_EVERY = 20  # steps after which the processes of a distributed fit ask each other to stop


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
        TrainingError: a loss, a weight or the watched score is not a number; the step and the
            last checkpoint are named.
        RunError: the session resumes from a checkpoint that is damaged or of another model.
        Interrupted: Ctrl-C or SIGTERM, after a checkpoint was written (inside a session).
    """
    if not phases:
        raise TrainingError("there is nothing to train: no phase was given")
    for phase in phases:
        if phase.max_epochs < 1:
            raise TrainingError(
                f"max_epochs must be at least 1, got {phase.max_epochs} for phase {phase.name!r}"
            )
    # a fit inside of another one is a part of its work: it keeps nothing, and tells nobody unless
    # the outer one opened a session for it
    opened = current_session()
    session = Session() if opened is _outer.get() else opened
    forked = list(range(torch.cuda.device_count()))
    with (
        torch.random.fork_rng(devices=forked),
        stop_signals(active=session.folder is not None) as request,
        keeping_memory(model),
    ):
        loop = TrainingLoop(
            model, phases, session, request, accelerator(device, precision), time_limit
        )
        torch.manual_seed(seed)
        inside = _outer.set(opened)
        try:
            return loop.run()
        finally:
            _outer.reset(inside)


@dataclass
class TrainingLoop:
    """The state of a fit while it runs; what of it a rule may use is `stackwise.training.Loop`.

    Attributes:
        model: the module of the phase.
        step: batches seen in this phase. place: of them, in this epoch. epoch_steps: its length.
        stopped: why the phase ended; "" while it runs.
    """

    model: nn.Module
    phases: list[Phase]
    session: Session
    request: StopRequest
    accelerator: Any  # accelerate's, which is not typed
    time_limit: float | None = None
    phase_index: int = 0
    epoch: int = 0
    place: int = 0
    step: int = 0
    epoch_steps: int = 0
    total_steps: int = 0
    optimizers: list[Optimizer] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    scalars: Scalars = field(default_factory=Scalars)
    best: Best = field(default_factory=Best)
    stopped: str = ""

    def __post_init__(self) -> None:
        self.fit = self.session.next_fit()
        self.file = self.session.checkpoint(self.fit)
        self.before = self.phase_began = 0.0  # seconds: an earlier process's, those to this phase
        self.started = self.written = self.told = time.monotonic()
        self.writing = 0.0  # seconds that the last checkpoint took
        several = self.accelerator.num_processes > 1
        self.in_parts = several and sharding_is_wanted()
        self.exchange = Exchange(self.accelerator, in_parts=self.in_parts)
        self.plain = not several and self.accelerator.mixed_precision == "no"
        self.unasked = 0  # steps since the processes asked each other to stop
        self.allowed = min(self._limits(), default=math.inf)  # seconds from now on
        self.cut = False  # whether the limit ended a phase

    @property
    def phase(self) -> Phase:
        """The phase that runs."""
        return self.phases[self.phase_index]

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before a resume included."""
        return self.before + time.monotonic() - self.started

    @property
    def process(self) -> int:
        """The number of this process, from 0."""
        return self.exchange.process

    @property
    def processes(self) -> int:
        """How many processes learn together."""
        return self.exchange.processes

    @property
    def schedule_steps(self) -> int:
        """The steps over which the learning rate's schedule goes."""
        return self.phase.schedule_steps or self.total_steps

    @property
    def share(self) -> float:
        """Of the batch's rows, how many this process has."""
        return self.exchange.share

    def backward(self, loss: Tensor) -> None:
        """Backward through `loss`, a mean over this process's rows; a rule calls this and not
        `loss.backward()`.

        Outside of autocast: each product's backward then has the type that its forward had.
        """
        if self.plain:
            torch.autograd.backward(loss)
            return
        with torch.autocast(self.accelerator.device.type, enabled=False):
            torch.autograd.backward(self.exchange.weighed(loss))

    def average_gradients(self, optimizer: Optimizer) -> None:
        """Average what the parameters of `optimizer` learned over the processes."""
        self.exchange.average(optimizer)

    def sum_over_processes(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over the processes; no gradient goes through it."""
        return self.exchange.sum(tensor)

    def for_each_row(self, rows: int, draw: Callable[[int], Tensor]) -> Tensor:
        """`draw(rows)`, of which each of several processes keeps those of its own rows."""
        return self.exchange.for_each_row(rows, draw)

    def run(self) -> Trained:
        """Go through the phases, from a checkpoint where the session resumes one."""
        found = checkpoints.read(self.file) if self.file and self.session.resume else None
        if found is not None:
            self._restore(*found)
        else:
            self._begin()
        if self.file is not None and self._is_main:
            checkpoints.sweep(self.file)
            # epochs that the checkpoint does not know will be logged again
            self.session.rewind(self.fit, self.history)
        finished = bool(self.stopped) and self._is_last
        while True:
            self._finish_phase()
            if self._is_last:
                break
            self.phase_index += 1
            self._begin()
        if not finished:
            self._save()
        if self.exchange.several:
            # a process that leaves while another writes can take it down with it
            self.accelerator.wait_for_everyone()
        self.model.zero_grad(set_to_none=True)
        score = None if math.isnan(self.best.score) else self.best.score
        return Trained(
            self.model.eval(), self.history, self.best.epoch, score,
            "time" if self.cut else self.stopped, self.step, self.seconds,
        )  # fmt: skip

    @property
    def _is_last(self) -> bool:
        """No other phase follows this one."""
        return self.stopped == "time" or self.phase_index + 1 == len(self.phases)

    def _begin(self) -> None:
        """Begin a phase: its model, its optimizers, its counters."""
        self.epoch = self.place = self.step = 0
        self.best, self.stopped, self.phase_began = Best(), "", self.seconds
        self._prepare(self.phase.start(self.model))

    def _prepare(self, model: nn.Module) -> None:
        """Put the phase's model on its device and make its optimizers."""
        self.model = model.to(self.accelerator.device)
        self.exchange.begin(self.model)
        if self.in_parts:
            bfloat16 = self.accelerator.mixed_precision == "bf16"
            self.sharded = Sharded(self.model, self.accelerator.device, bfloat16=bfloat16)
        self.epoch_steps = len(self.phase.batches)
        self.total_steps = self.epoch_steps * self.phase.max_epochs
        self.optimizers = self.phase.rule.optimizers(self.model)
        self.exchange.guard(self.optimizers)
        self.model.train()

    def _finish_phase(self) -> None:
        """Run the epochs that are left, then put the phase's weights in place."""
        while not self.stopped:
            # in one process there is nothing to gather and nothing in parts
            with gathered_batch_statistics(self.model), reached_from_outside():
                self._epoch()
            due = self._save_is_due(EPOCH_PAUSE)
            late, over, stop, due = self.exchange.agree(
                self._out_of_time(), self._share_is_over(), self.request.asked, due
            )
            if self.phase.patience is not None and self.best.stale >= self.phase.patience:
                self.stopped = "patience"
            elif self.phase.slack is not None and self.best.behind > self.phase.slack:
                self.stopped = "slack"
            elif self.epoch >= self.phase.max_epochs:
                self.stopped = "epochs"
            elif late or over:
                self.stopped, self.cut = "time" if late else "share", True
            elif stop:
                self._interrupt()
            elif due:
                self._save()
        if self.phase.keep == "best" and self.best.weights:
            self.model.load_state_dict(self.best.weights)
        if self.exchange.agree(self.request.asked)[0]:
            self._interrupt()
        if self.in_parts:
            self.model = self.sharded.plain()

    def _epoch(self) -> None:
        """One pass over the batches, then validation."""
        rule, model, autocast = self.phase.rule, self.model, self._autocast
        take = placer(self.accelerator)
        for batch in self.phase.batches.epoch(self.epoch, self.place):
            self.exchange.divide(batch)
            with autocast():
                scalars = rule.step(self, model, take(batch))
            self.scalars.add(self.exchange.counted(scalars))
            self.place += 1
            self.step += 1
            if self.place % LOOK_EVERY == 0:
                self._look()
            if self.place < self.epoch_steps and self._between_steps():
                break
        self._look()
        means = self.exchange.means(self.scalars.means(self.place))
        self.exchange.settle(self.model)
        scores = {name: float(value) for name, value in rule.validate(self.model).items()}
        self.place = 0
        self.epoch += 1
        self._judge(scores)
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
        if self._is_main:
            self.session.log(line)
        self._tell(metrics)

    def _between_steps(self) -> bool:
        """Look at the clock and the signals; True ends the epoch early."""
        if time.monotonic() - self.told > 0.5:
            self._tell({})
        self.unasked += 1
        # a checkpoint is the first process's: it holds no gradient that is not averaged yet
        if self.exchange.several and (self.unasked < AGREE_EVERY or self.exchange.waiting):
            return False
        self.unasked = 0
        due = self._save_is_due(STEP_PAUSE)
        late = self._out_of_time() or self._share_is_over()
        late, stop, due = self.exchange.agree(late, self.request.asked, due)
        if due and not stop:
            self._save()
        if stop:
            self._interrupt()
        return late

    def _look(self) -> None:
        """Read the waiting scalars; refuse a loss or weights that are not numbers."""
        bad = self.scalars.read()
        if bad is not None:
            ago, value = bad
            self._refuse(f"the loss is {value} at step {self.step - ago} (epoch {self.epoch + 1})")
        parts = [part_here(p.detach()) for p in self.model.parameters() if p.requires_grad]
        learned = [part for part in parts if part.numel()]
        # the largest magnitude: the sum of squares of large but good weights could overflow
        wrong = not math.isfinite(float(nn.utils.get_total_norm(learned, norm_type=math.inf)))
        if self.exchange.agree(wrong)[0] if self.in_parts else wrong:
            at = f"step {self.step} (epoch {self.epoch + 1})"
            self._refuse(f"weights are no longer numbers at {at}")

    def _refuse(self, reason: str) -> None:
        kept = self.file is not None and self.file.exists()
        good = f"the last good checkpoint is {self.file}" if kept else "no checkpoint was written"
        raise TrainingError(f"{reason}; {good}; try a smaller lr or grad_clip")

    def _judge(self, scores: dict[str, float]) -> None:
        """Keep the weights of a strictly better score."""
        name = self.phase.rule.monitor
        if name is None or not self.phase.rule.settled:
            self.best.epoch = self.epoch
            return
        if name not in scores:
            raise TrainingError(
                f"the rule watches {name!r}, but its validation returned {sorted(scores)}; "
                "set monitor to one of these, or to None"
            )
        if not math.isfinite(scores[name]):
            self._refuse(f"the validation {name} is {scores[name]} after epoch {self.epoch}")
        keep = self.phase.keep == "best"
        self.best.consider(
            self.model, scores[name], self.epoch, mode=self.phase.rule.mode, keep=keep
        )

    def _interrupt(self) -> None:
        with being_written():
            self._save()
        self.accelerator.wait_for_everyone()
        raise Interrupted(f"Interrupted after {self.epoch} epochs; the checkpoint is written")

    def _out_of_time(self) -> bool:
        return any(left <= 0 for left in self._limits())

    def _share_is_over(self) -> bool:
        """Whether the phase has had its share of a limit, and others are to follow."""
        return time.monotonic() - self.started > self.phase.ends_at * self.allowed

    def _limits(self) -> list[float]:
        """Seconds left by the fit's own limit and by the session's, where there is one."""
        own = None if self.time_limit is None else self.time_limit - self.seconds
        return [left for left in (own, self.session.seconds_left()) if left is not None]

    def _tell(self, metrics: dict[str, float]) -> None:
        self.told = time.monotonic()
        if self.session.on_event is None or not self._is_main:
            return
        left, at_most = self._left()
        self.session.on_event(
            {
                "phase": self.phase.name,
                "epoch": self.epoch,
                "max_epochs": self.phase.max_epochs,
                "step": self.step,
                "steps": self.total_steps,
                "seconds": self.seconds,
                "seconds_left": left,
                "at_most": at_most,
            }
            | ({"metrics": metrics} if metrics else {})
        )

    def _left(self) -> tuple[float | None, bool]:
        """Seconds to the end of the fit, None where nobody knows; whether it may end sooner.

        A phase with patience, or one that others follow, ends nobody knows when: a limit alone
        says how long that can take. A pace is one after a second of steps.
        """
        limits = self._limits()
        open_end = self.phase.patience is not None or not self._is_last
        spent = self.seconds - self.phase_began
        if self.step == self.total_steps and self._is_last:
            return 0.0, False
        if not limits and (open_end or spent < PACE_AFTER):
            return None, open_end
        pace = (self.total_steps - self.step) * spent / max(self.step, 1)
        paced = self._is_last and spent >= PACE_AFTER
        left = min([*limits, *([pace] if paced else [])])
        return max(left, 0.0), open_end or left < pace or not paced

    def _save_is_due(self, pause: float) -> bool:
        passed = time.monotonic() - self.written
        return self.file is not None and passed > max(pause, WRITE_PAUSE * self.writing)

    def _save(self) -> None:
        """Write the checkpoint of this moment."""
        if self.file is None:
            return
        self._look()
        sums = self.exchange.means(self.scalars.sums)
        if not (self._is_main or self.in_parts):
            return
        began = time.monotonic()
        # where the weights lie in parts, every process takes part in putting them together
        keep = self._is_main
        tensors = checkpoints.snapshot(self.model, self.optimizers, keep=keep)
        tensors |= checkpoints.prefixed("best", whole_tensors(self.best.weights, keep=keep))
        tensors |= checkpoints.prefixed("rule", self.phase.rule.state())
        place = {
            "phase": self.phase_index,
            "epoch": self.epoch,
            "place": self.place,
            "step": self.step,
            "sums": sums,
            "history": self.history,
            "stopped": self.stopped,
            "cut": self.cut,
            "seconds": self.seconds,
            "phase_began": self.phase_began,
            "groups": [checkpoints.group_settings(optimizer) for optimizer in self.optimizers],
            "arguments": getattr(self.model, "arguments", None),
        }
        if self._is_main:
            checkpoints.write(self.file, tensors, place | self.best.place())
        self.written = time.monotonic()
        self.writing = self.written - began

    def _restore(self, tensors: dict[str, Tensor], place: dict[str, Any]) -> None:
        """Rebuild the model that the checkpoint holds and go back to its moment."""
        assert self.file is not None
        with checkpoints.belonging(self.file):
            self.phase_index = min(place["phase"], len(self.phases) - 1)
            model = self.model
            for phase in self.phases[: self.phase_index + 1]:
                again = phase.rebuild
                model = again(place["arguments"]) if again else phase.start(model)
            self._prepare(model)
            checkpoints.put_back(self.model, self.optimizers, tensors, place["groups"])
            self.phase.rule.load_state(self.model, checkpoints.under("rule", tensors))
            for name in ("epoch", "place", "step", "history", "stopped", "phase_began"):
                setattr(self, name, place[name])
            self.cut = place.get("cut", False)  # checkpoints of earlier versions lack it
            # JSON holds no NaN: it is null there
            self.scalars.sums = {n: math.nan if s is None else s for n, s in place["sums"].items()}
            now = self.model.state_dict()
            best = checkpoints.under("best", tensors)
            kept = {name: in_parts_as(t, now[name]) for name, t in best.items()}
            self.best = Best.at(place, kept)
            self.before = place["seconds"]
            checkpoints.set_random_states(checkpoints.under("random", tensors))

    @property
    def _is_main(self) -> bool:
        return bool(self.accelerator.is_main_process)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.accelerator.mixed_precision == "no":
            return nullcontext()
        return self.accelerator.autocast()  # type: ignore[no-any-return]
