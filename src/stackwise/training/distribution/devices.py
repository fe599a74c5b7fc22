"""Where a fit computes: its device, its precision, its part of each batch. All by accelerate."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from stackwise.errors import KnobError
from stackwise.training.distribution.sharding import unseen_by_accelerate

DEVICE_VARIABLE = "ACCELERATE_TORCH_DEVICE"


def accelerator(device: str, precision: str) -> Any:
    """An accelerate `Accelerator` for this device ("auto", "cpu", "cuda", "cuda:1", "mps") and
    precision ("auto", "float32", "bfloat16").

    Raises:
        KnobError: there is no such device here.
    """
    from accelerate.accelerator import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    kind, _, index = device.partition(":")
    here = {"auto", "cpu"} | ({"cuda"} if torch.cuda.is_available() else set())
    here |= {"mps"} if torch.backends.mps.is_available() else set()
    if kind not in here:
        raise KnobError(f"device must be one of {', '.join(sorted(here))} here, got {device!r}")
    if index and not (
        kind == "cuda" and index.isdigit() and int(index) < torch.cuda.device_count()
    ):
        raise KnobError(f"device {device!r} is not here; this machine has {_counted(kind)}")
    if precision == "auto":
        precision = "bfloat16" if kind in ("auto", "cuda") and "cuda" in here else "float32"
    # accelerate keeps device and precision for the whole process; an earlier fit's must not stay.
    # The processes of a distributed run stay joined: they have one device each from the start.
    alone = PartialState._shared_state.get("num_processes", 1) == 1
    AcceleratorState._reset_state(reset_partial_state=alone)
    mixed = "bf16" if precision == "bfloat16" else "no"
    with _environment(DEVICE_VARIABLE, device if index else None), unseen_by_accelerate():
        return Accelerator(cpu=kind == "cpu", mixed_precision=mixed)


def part_of_rows(rows: int, process: int, processes: int) -> tuple[slice, float]:
    """Which rows of a batch one process takes, and their share of what the batch teaches.

    The parts are as equal as they can be and hold each row once. Where there are fewer rows than
    processes, each takes all of them, which teaches the same.
    """
    if rows < processes:
        return slice(0, rows), 1 / processes
    start, stop = rows * process // processes, rows * (process + 1) // processes
    return slice(start, stop), (stop - start) / rows


def part_of_batch(batch: Any, process: int, processes: int) -> Any:
    """The rows of a batch (tensors, or dicts, tuples and lists of them) that one process takes;
    what is of another form is left whole, to the rule.
    """
    if isinstance(batch, Tensor) and batch.ndim:
        return batch[part_of_rows(len(batch), process, processes)[0]]
    if isinstance(batch, dict):
        return {name: part_of_batch(value, process, processes) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return type(batch)(part_of_batch(value, process, processes) for value in batch)
    return batch


def rows_of(batch: Any) -> int | None:
    """The rows of a batch, which are those of its first tensor; None where it holds none."""
    if isinstance(batch, Tensor) and batch.ndim:
        return len(batch)
    inside = batch.values() if isinstance(batch, dict) else batch
    if not isinstance(batch, (dict, tuple, list)):
        return None
    return next((rows for rows in map(rows_of, inside) if rows is not None), None)


def placer(accelerator: Any) -> Callable[[Any], Any]:
    """What brings a batch to this process and its device."""
    from accelerate.utils import operations

    to: Any = operations.send_to_device
    device, process = accelerator.device, accelerator.process_index
    processes = accelerator.num_processes
    if processes > 1:
        return lambda batch: to(part_of_batch(batch, process, processes), device)
    if device.type == "cpu":
        return lambda batch: batch
    return lambda batch: to(batch, device, non_blocking=True)


def _counted(kind: str) -> str:
    return f"{torch.cuda.device_count()} CUDA devices" if kind == "cuda" else f"one {kind}"


@contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    """Set an environment variable inside the block; None leaves it as it is."""
    if value is None:
        yield
        return
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
