"""Donors: what a user names, read as task vectors of the base's blocks.

A donor is a module or a fitted learner, a dictionary of weights, a run, a model folder, a delta or
an adapter of peft. Weights in a model folder stay on disk and are mapped; an adapter is a low-rank
task vector, s B A on the matrices that it has and nothing elsewhere.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.adapt.atlas.blocks import Blocks
from stackwise.adapt.atlas.folder_weights import FolderWeights
from stackwise.adapt.atlas.vectors import Difference
from stackwise.adapt.delta import Delta, WeightDelta, base_hash, delta_folder
from stackwise.adapt.delta.hashes import module_of
from stackwise.adapt.delta.parts import Part
from stackwise.errors import KnobError, ModelError
from stackwise.models import check_finished, model_folder, open_model

SHOWN = 5
"""Names that an error lists."""


@dataclass(frozen=True)
class TaskVector:
    """What one donor would add to the blocks of a base.

    Attributes:
        name: what tables call the donor.
        parts: by block; a block that is missing is not changed by this donor.
        left_out: of the donor's weights, those that are no block of the base: its own head.
    """

    name: str
    parts: dict[str, Part]
    left_out: tuple[str, ...] = field(default=())

    def delta(self, model: Any, **about: Any) -> WeightDelta:
        """The task vector as a delta of its base: put on, taken off, scaled, added, saved."""
        return WeightDelta(self.parts, **{"base": base_hash(model), "method": "atlas"} | about)


def task_vectors(model: Any, donors: Any, blocks: Blocks) -> list[TaskVector]:
    """The task vector of each donor.

    Args:
        model: the base. donors: a list, or a dictionary of donors by name.

    Raises:
        ModelError: there is none, or one does not fit the base; it says where.
    """
    if isinstance(donors, (str, Path)) or not isinstance(donors, (Mapping, Sequence)):
        raise KnobError(f"donors is a list of models, or a dictionary of them, not {donors!r}")
    named = donors.items() if isinstance(donors, Mapping) else zip(_names(donors), donors)
    found = [task_vector(model, donor, blocks, str(name)) for name, donor in named]
    if not found:
        raise ModelError("there are no donors: give models that were fine-tuned from the base")
    return found


def task_vector(model: Any, donor: Any, blocks: Blocks, name: str = "donor") -> TaskVector:
    """The task vector of one donor.

    Args:
        model: the base, whose blocks these are.

    Raises:
        ModelError: names or shapes differ from the base's; or a delta is for another base.
    """
    opened = _opened(donor)
    if isinstance(opened, Delta):
        return _of_delta(module_of(model), opened, blocks, name)
    if isinstance(opened, FolderWeights):
        try:
            return of_weights(opened, blocks, name)
        except _OtherNames:  # the files name tensors otherwise than the module does
            opened = open_model(donor, dtype="auto")
            opened = getattr(opened, "model_", opened)
    weights = opened if isinstance(opened, Mapping) else weights_of(module_of(opened))
    try:
        return of_weights(weights, blocks, name)
    except _OtherNames as error:
        raise ModelError(f"the donor {name} {error}") from error


class _OtherNames(Exception):
    """A donor's names are not the base's."""


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """The parameters of a module by all their names."""
    every = module.named_parameters(remove_duplicate=False)
    return {name: weight.detach() for name, weight in every}


def of_weights(weights: Mapping[str, Any], blocks: Blocks, name: str) -> TaskVector:
    """The task vector of a donor's weights.

    Raises:
        ModelError: shapes differ.
        _OtherNames: a block is missing, or the donor has weights that the base has not.
    """
    found = matched(weights, blocks)
    missing = [block for block in blocks.weights if block not in found]
    if missing:
        raise _OtherNames(f"lacks {_listed(missing)}: it has another architecture than the base")
    parts: dict[str, Part] = {}
    left_out = []
    wrong = []
    for block, key in found.items():
        weight = blocks.weights[block]
        shape = _shape(weights, key)
        if shape != tuple(weight.shape):
            if block in blocks.optional:
                left_out.append(key)
                continue
            wrong.append(f"{block} {shape} instead of {tuple(weight.shape)}")
            continue
        parts[block] = Difference(weight, _getter(weights, key, name))
    if wrong:
        raise ModelError(f"the donor {name} has {_listed(wrong)}: it is no fine-tuned form of this")
    left_out += _own_head(weights, blocks, set(found.values()))
    return TaskVector(name, parts, tuple(left_out))


def matched(weights: Mapping[str, Any], blocks: Blocks) -> dict[str, str]:
    """What a donor calls each block. Blocks that it does not have are missing."""
    found = {
        block: key_of(weights, aliases, blocks.prefix) for block, aliases in blocks.aliases.items()
    }
    return {block: key for block, key in found.items() if key is not None}


def key_of(weights: Mapping[str, Any], aliases: Sequence[str], prefix: str) -> str | None:
    """What weights call a parameter: by one of its names, with or without the prefix of the body
    that transformers gives; None where they do not have it.
    """
    names = [*aliases]
    if prefix:
        head = f"{prefix}."
        names += [one.removeprefix(head) for one in aliases] + [head + one for one in aliases]
    return next((one for one in names if one in weights), None)


def _own_head(weights: Mapping[str, Any], blocks: Blocks, used: set[str]) -> list[str]:
    """Weights of a donor that are no block: its head, where the module that holds it is one that
    the base has not or that is left out; buffers and others are refused by their names.

    Raises:
        _OtherNames: they lie within what the base has.
    """
    every = {alias for aliases in blocks.aliases.values() for alias in aliases}
    others = [key for key in weights if key not in used and key not in every]
    known = {name.partition(".")[0] for name in blocks.weights}
    out = set(blocks.left_out) | blocks.optional
    strange = [
        key
        for key in others
        if key not in out and key.partition(".")[0] in known and not _is_buffer(weights, key)
    ]
    if strange:
        raise _OtherNames(f"has {_listed(strange)}, which the base has not")
    return [key for key in others if key.partition(".")[0] not in known or key in out]


BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def _is_buffer(weights: Mapping[str, Any], key: str) -> bool:
    """What a dictionary of a module's state holds beside its parameters."""
    if isinstance(weights, FolderWeights):
        return False
    return key.rpartition(".")[2] in BUFFERS or not weights[key].is_floating_point()


def _shape(weights: Mapping[str, Any], key: str) -> tuple[int, ...]:
    if isinstance(weights, FolderWeights):
        return weights.shape(key)
    if not isinstance(weights[key], Tensor):
        raise ModelError(f"a donor's {key} is a {type(weights[key]).__name__}, not a tensor")
    return tuple(weights[key].shape)


def _getter(weights: Mapping[str, Any], key: str, name: str) -> Callable[[], Tensor]:
    seen: list[bool] = []

    def get() -> Tensor:
        weight: Tensor = weights[key]
        if not seen:  # once: a number that is none would spread to the whole model
            if not weight.is_floating_point():
                raise ModelError(
                    f"the donor {name} has {key} as {weight.dtype} (quantised numbers): save it in "
                    "float32 or bfloat16 first"
                )
            if not bool(weight.isfinite().all()):
                raise ModelError(f"the donor {name} has numbers in {key} that are not finite")
            seen.append(True)
        return weight

    return get


def _of_delta(module: nn.Module, delta: Delta, blocks: Blocks, name: str) -> TaskVector:
    if not isinstance(delta, WeightDelta):
        raise ModelError(
            f"the donor {name} is a delta of the kind {delta.kind!r}, which is no change of "
            "weights that could be scaled"
        )
    delta.fits(module)
    if delta.base is not None and delta.base != (found := base_hash(module)):
        raise ModelError(
            f"the donor {name} was made for a base with the hash {delta.base}, and this "
            f"{type(module).__name__} has {found}: give the base that it was made for"
        )
    first = {alias: block for block, aliases in blocks.aliases.items() for alias in aliases}
    parts: dict[str, Part] = {}
    left_out = []
    for weight, part in delta.additions(module).items():
        block = first.get(weight)
        if block is None:
            left_out.append(weight)
        else:
            parts[block] = parts[block].plus(part) if block in parts else part
    if not parts:
        raise ModelError(
            f"the donor {name} changes no block that is composed: {_listed(left_out)} are left out"
        )
    return TaskVector(name, parts, tuple(left_out))


def _opened(donor: Any) -> Any:
    """A delta, weights, a module or a learner."""
    if not isinstance(donor, (str, Path)):
        return donor
    folder = Path(donor)
    if (folder / "run.json").is_file():
        check_finished(folder)
    if is_delta(donor):
        return Delta.load(delta_folder(folder))
    found = model_folder(donor)
    if found is not None:
        return FolderWeights(found)
    opened = open_model(donor, dtype="auto")
    return getattr(opened, "model_", opened)


def is_delta(donor: Any) -> bool:
    """Whether a donor is a delta, or a folder or a run that holds one."""
    if not isinstance(donor, (str, Path)):
        return isinstance(donor, Delta)
    try:
        delta_folder(donor)
    except ModelError:
        return False
    return True


def _names(donors: Sequence[Any]) -> list[str]:
    """What tables call the donors of a list: a folder's own name where that says which it is."""
    paths = [Path(one) if isinstance(one, (str, Path)) else None for one in donors]
    short = [path.name if path is not None else f"donor {n}" for n, path in enumerate(paths, 1)]
    names = [
        one if short.count(one) == 1 else str(donor)
        for one, donor in zip(short, donors, strict=True)
    ]
    return [
        one if names.count(one) == 1 else f"{one} ({place})" for place, one in enumerate(names, 1)
    ]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def as_numbers(dtype: torch.dtype) -> torch.dtype:
    """In what sums are taken: float32 at least, so that halves are rounded once."""
    return torch.promote_types(dtype, torch.float32)
