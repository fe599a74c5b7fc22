"""Checkpoints: one safetensors file that holds all that a resume needs.

Tensors (weights, best weights, gradients that wait for a step, optimizer and random states) are the
file's tensors, the rest (phase, place in the data, history, constructor arguments) is JSON in its
header, with a hash of all of it (format 2). One file is renamed into its place at once, so that a
kill leaves the old checkpoint or the new one, never a mixture.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from stackwise.errors import RunError, StackwiseError
from stackwise.files import parse_json, plain, write_tensors
from stackwise.seals import tensors_hash
from stackwise.shapes import NUMBER, SCORE, misfit
from stackwise.training.distribution.sharding import in_parts_as, whole_tensors

FORMAT = 2
PLACE = {"format": int, "phase": int, "sums": {"*": SCORE}, "seconds": NUMBER, "groups": [[dict]],
         "history": [dict]}  # fmt: skip
"""What the header of a checkpoint holds, besides what the loop sets as it is."""


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under names that begin with `prefix`."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `prefixed`: those tensors, under their own names."""
    head = f"{prefix}/"
    return {name[len(head) :]: t for name, t in tensors.items() if name.startswith(head)}


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """The gradients that wait for an optimizer's step: there are some within an accumulation."""
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def set_gradients(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """The inverse of `gradients`."""
    parameters = dict(model.named_parameters())
    for name, gradient in tensors.items():
        parameter = parameters[name]
        parameter.grad = in_parts_as(gradient.to(parameter.device), parameter)


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer as named tensors: `<parameter>/<name>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}/{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, values in state.items()
        for name, value in values.items()
    }


def load_optimizer(
    optimizer: Optimizer, groups: list[dict[str, Any]], tensors: dict[str, Tensor]
) -> None:
    """Put a state from `optimizer_tensors`, and the groups' settings, into a new optimizer."""
    state: dict[int, dict[str, Tensor]] = {}
    learned = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for key, tensor in tensors.items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = in_parts_as(tensor, learned[int(index)])
    fresh = optimizer.state_dict()
    merged = [own | kept for own, kept in zip(fresh["param_groups"], groups, strict=True)]
    optimizer.load_state_dict({"state": state, "param_groups": merged})


def group_settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The settings of an optimizer's groups that JSON can hold."""
    kept = (bool, int, float, str, type(None))
    return [
        {name: value for name, value in group.items() if isinstance(value, kept)}
        for group in optimizer.state_dict()["param_groups"]
    ]


def random_states() -> dict[str, Tensor]:
    """The states of torch's generators."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: dict[str, Tensor]) -> None:
    """The inverse of `random_states`."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def snapshot(
    model: nn.Module, optimizers: list[Optimizer], *, keep: bool = True
) -> dict[str, Tensor]:
    """All tensors that fix how training goes on: weights, gradients, optimizers, random states.

    Those that lie in parts over processes are put together; `keep` as for `whole_tensors`.
    """
    tensors = prefixed("model", dict(model.state_dict()))
    tensors |= prefixed("gradient", gradients(model))
    tensors |= prefixed("random", random_states())
    for index, optimizer in enumerate(optimizers):
        tensors |= prefixed(f"optimizer{index}", optimizer_tensors(optimizer))
    return whole_tensors(tensors, keep=keep)


def put_back(
    model: nn.Module,
    optimizers: list[Optimizer],
    tensors: dict[str, Tensor],
    groups: list[list[dict[str, Any]]],
) -> None:
    """The inverse of `snapshot`, but for the random states, which come last of all."""
    now = model.state_dict()
    weights = under("model", tensors)
    model.load_state_dict(
        {n: in_parts_as(t, now[n]) if n in now else t for n, t in weights.items()}
    )
    set_gradients(model, under("gradient", tensors))
    for index, (optimizer, settings) in enumerate(zip(optimizers, groups, strict=True)):
        load_optimizer(optimizer, settings, under(f"optimizer{index}", tensors))


@contextmanager
def belonging(path: Path) -> Iterator[None]:
    """Turn the complaint that a checkpoint does not fit a model into one sentence."""
    try:
        yield
    except StackwiseError:
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise RunError(
            f"the checkpoint {path} is of another model or another version; "
            "remove it to start this run again"
        ) from error


def sweep(path: Path) -> None:
    """Remove what a kill in the middle of `write` left beside `path`."""
    for part in path.parent.glob(f".{path.stem}-*.part{path.suffix}"):
        part.unlink(missing_ok=True)


def write(path: Path, tensors: dict[str, Tensor], place: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all."""
    text = json.dumps(plain({"format": FORMAT} | place))
    write_tensors(path, tensors, metadata={"place": text, "hash": tensors_hash(tensors, text)})


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read a checkpoint; None where there is none.

    Raises:
        RunError: the file is cut off, foreign or of a newer format.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = file.metadata() or {}
        place = _place(about)
        if place["format"] > 1 or "hash" in about:
            _check_whole(tensors, about)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise RunError(
            f"the checkpoint {path} is damaged ({error}); remove it to start this run again"
        ) from error
    if place["format"] > FORMAT:
        raise RunError(f"the checkpoint {path} was written by a newer stackwise")
    return tensors, place


def _place(about: dict[str, str]) -> dict[str, Any]:
    place: dict[str, Any] = parse_json(about["place"])
    wrong = misfit(place, PLACE)
    if wrong is not None:
        raise ValueError(wrong)
    return place


def _check_whole(tensors: dict[str, Tensor], about: dict[str, str]) -> None:
    if about["hash"] != tensors_hash(tensors, about["place"]):
        raise ValueError("it does not hold what was written: its hash is another")
