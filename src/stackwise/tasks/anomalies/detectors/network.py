"""Detectors that train a network on windows: a variational one, with the rule that trains it."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from stackwise.knobs import Knob
from stackwise.learning.network import NetworkLearner
from stackwise.tasks.anomalies.detectors.detector import Detector
from stackwise.tasks.anomalies.detectors.knobs import detector_knobs
from stackwise.tasks.anomalies.detectors.windows import WindowBatches, windows_of
from stackwise.training.knobs import training_knobs
from stackwise.training.phases import Phase
from stackwise.training.rules import Backprop, Loop

HELD = 0.1
"""Share of each stretch, at its end, that decides when to stop, where `patience` asks for it."""
BATCH = 64
SCORED = 512
"""Windows that go through the network at once when moments are scored."""

Window = Annotated[int, Knob("moments of a window", ge=1, search=(20, 100))]
LearningRate = Annotated[float, Knob("learning rate of Adam", gt=0, log=True, search=(1e-4, 5e-3))]
L2 = Annotated[float, Knob("weight decay inside of Adam's gradient", ge=0)]
Decay = Annotated[float, Knob("factor of the learning rate each `decay_every` epochs", gt=0, le=1)]
DecayEvery = Annotated[int, Knob("epochs between two such steps", ge=1)]


class Variational(Protocol):
    """A network that draws: what the rule and the detector ask of it.

    Attributes:
        noise_shapes: of the normal numbers that it takes for each window.
    """

    noise_shapes: list[tuple[int, ...]]

    def losses(self, windows: Tensor, *noise: Tensor) -> dict[str, Tensor]:
        """(B, n, w) and noise (B, *shape) each -> `loss` and its parts, scalars."""
        ...

    def last_errors(self, windows: Tensor) -> Tensor:
        """(B, n, w) -> (B, n) the error of each channel at the last moment."""
        ...


class VariationalRule(Backprop):
    """Adam on a loss that draws, its learning rate falling by steps.

    Weight decay is L2 inside of Adam and acts on every parameter, as in the public code.
    """

    def __init__(self, *, lr_decay: float, decay_every: int, **options: Any) -> None:
        super().__init__(quiet_loss, **options)
        self.first_lr, self.lr_decay, self.decay_every = self.lr, lr_decay, decay_every

    def optimizers(self, model: nn.Module) -> list[Optimizer]:
        """One Adam over all parameters."""
        self.parameters = [parameter for _, parameter in self.named(model)]
        return [Adam(self.parameters, lr=self.lr, weight_decay=self.weight_decay, fused=True)]

    def step(self, loop: Loop, model: Any, batch: Any) -> dict[str, Tensor]:
        """Draw the noise of each window, and take one step."""
        windows = batch["windows"]
        noise = [
            loop.for_each_row(len(windows), _drawn(shape, windows)) for shape in model.noise_shapes
        ]
        parts: dict[str, Tensor] = model.losses(windows, *noise)
        loop.backward(parts["loss"])
        self.update(loop, loop.optimizers[0])
        return {name: value.detach() for name, value in parts.items()}

    def take_step(self, loop: Loop, optimizer: Optimizer) -> None:
        """With the learning rate of this epoch."""
        self.lr = self.first_lr * self.lr_decay ** (loop.epoch // self.decay_every)
        for group in optimizer.param_groups:
            group["lr"] = self.lr
        super().take_step(loop, optimizer)


def quiet_loss(network: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """The loss of a batch of windows with nothing drawn."""
    windows = batch["windows"].to(next(network.parameters()).device)
    quiet = [windows.new_zeros(len(windows), *shape) for shape in network.noise_shapes]
    found: Tensor = network.losses(windows, *quiet)["loss"]
    return found


def _drawn(shape: tuple[int, ...], like: Tensor) -> Any:
    return lambda rows: torch.randn(rows, *shape, dtype=like.dtype, device=like.device)


class NetworkDetector(Detector, NetworkLearner):
    """A detector that trains a variational network on windows.

    Fitted attributes besides those of `Detector`: `network_`, `history_`, `best_epoch_`.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (training_knobs, detector_knobs)

    window: int
    lr_decay: float
    decay_every: int

    def build_network(self, channels: int) -> nn.Module:
        """The network for so many channels; torch's random state is at the seed."""
        raise NotImplementedError

    def network_of(self, arguments: Mapping[str, Any]) -> nn.Module:
        """A network with these constructor's arguments, into which weights are read."""
        raise NotImplementedError

    def learn(self, stretches: list[np.ndarray]) -> None:
        """Train on the windows of the stretches."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed_)
            network = self.build_network(stretches[0].shape[1])
        kept, held = self._held_out(stretches)
        size = BATCH if self.batch_size == "auto" else int(self.batch_size)
        batches = WindowBatches(kept, self.window, size, seed=self.seed_)
        rule = VariationalRule(
            lr=self.lr, weight_decay=self.weight_decay, grad_clip=self.grad_clip,
            schedule=self.schedule, warmup=self.warmup, lr_decay=self.lr_decay,
            decay_every=self.decay_every, validate=None if held is None else _mean_loss(held),
        )  # fmt: skip
        phase = Phase("train", rule, batches, self.max_epochs, self.patience)
        self.network_ = self.train(network, [phase]).model.eval()

    def _held_out(
        self, stretches: list[np.ndarray]
    ) -> tuple[list[np.ndarray], WindowBatches | None]:
        """What is trained on, and the windows that decide when to stop; all and none without
        `patience`, or where the ends of the stretches are shorter than a window.
        """
        if self.patience is None:
            return stretches, None
        cuts = [len(one) - max(round(HELD * len(one)), self.window) for one in stretches]
        kept = [
            one[:cut] if cut >= self.window else one
            for one, cut in zip(stretches, cuts, strict=True)
        ]
        ends = [one[cut:] for one, cut in zip(stretches, cuts, strict=True) if cut >= self.window]
        if not ends:
            self.notes_.append(
                "the normal moments are too few to hold some out: patience had no effect"
            )
            return stretches, None
        return kept, WindowBatches(ends, self.window, SCORED, shuffle=False)

    @torch.no_grad()
    def errors(self, values: np.ndarray) -> np.ndarray:
        """(T, n) scaled -> (T - window + 1, n)."""
        network: Any = self.network_
        device = next(self.network_.parameters()).device
        view = windows_of(torch.from_numpy(values), self.window)
        found = [
            network.last_errors(view[start : start + SCORED].to(device))
            for start in range(0, len(view), SCORED)
        ]
        return np.asarray(torch.cat(found).double().cpu().numpy())

    def kept(self) -> dict[str, Any]:
        """The weights."""
        return {f"network.{name}": one for name, one in self.network_.state_dict().items()}

    def take_back(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Put the weights into the network."""
        self.network_.load_state_dict(
            {name.removeprefix("network."): torch.as_tensor(one) for name, one in arrays.items()}
        )
        self.network_.eval()

    def _write(self, folder: Any) -> dict[str, Any]:
        own: Any = self.network_
        return super()._write(folder) | {"arguments": own.arguments, "history": self.history_}

    def _read(self, folder: Any, record: Mapping[str, Any]) -> None:
        self.network_ = self.network_of(record["arguments"])
        self.history_ = record["history"]
        super()._read(folder, record)


def _mean_loss(held: WindowBatches) -> Any:
    """network -> its mean loss on held windows, nothing drawn."""

    def validate(network: Any) -> dict[str, float]:
        total, rows = 0.0, 0
        for batch in held.epoch(0):
            count = len(batch["windows"])
            total, rows = total + float(quiet_loss(network, batch)) * count, rows + count
        return {"loss": total / rows}

    return validate
