"""Deltas that add to weights by name: all of a weight, a few entries, or a low-rank product."""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from stackwise.adapt.delta.added import AddedWeights
from stackwise.adapt.delta.contract import Delta
from stackwise.adapt.delta.hashes import module_of
from stackwise.adapt.delta.parts import FORMS, Dense, Part, Sparse
from stackwise.adapt.delta.standing import base_hash
from stackwise.errors import ModelError


class WeightDelta(Delta, kind="weights"):
    """theta[name] + parts[name].

    Weights keep their own type: the sum is taken in float32 at least and rounded once, however many
    deltas are on. Two give the same bits in either order; more, the same up to rounding. A multiple
    scales each part; a sum keeps the form of parts that have one form, and is dense where they
    differ.

    Args:
        parts: by the names of `named_parameters`; a tied weight by any of its names.
    """

    def __init__(self, parts: Mapping[str, Part], **about: Any) -> None:
        super().__init__(**about)
        self.parts = dict(parts)

    @classmethod
    def between(cls, base: Any, tuned: Any, **about: Any) -> "WeightDelta":
        """tuned - base, each weight in the smaller form: all numbers, or those that moved.

        Put on the base it gives the tuned weights up to rounding.

        Raises:
            ModelError: the two have other parameters or shapes.
        """
        ours = dict(module_of(base).named_parameters())
        theirs = dict(module_of(tuned).named_parameters())
        if ours.keys() != theirs.keys():
            odd = sorted(ours.keys() ^ theirs.keys())
            raise ModelError(f"only one of the two models has the parameter {odd[0]}")
        parts: dict[str, Part] = {}
        for name, weight in ours.items():
            moved = theirs[name].detach()
            if moved.shape != weight.shape:
                raise ModelError(
                    f"{name} is {tuple(moved.shape)} in one model, {tuple(weight.shape)} in the "
                    "other"
                )
            numbers = torch.promote_types(weight.dtype, torch.float32)
            difference = (moved.to(weight.device, numbers) - weight.detach().to(numbers)).cpu()
            count = int(difference.count_nonzero())
            if count:
                sparse = 2 * count < difference.numel()  # an index for each value
                parts[name] = Sparse.where_not_zero(difference) if sparse else Dense(difference)
        return cls(parts, **{"base": base_hash(base)} | about)

    def additions(self, module: nn.Module) -> dict[str, Part]:
        """What is added to each weight of this module, by name."""
        return self.parts

    def fits(self, module: nn.Module) -> None:
        """Every weight is there, in its shape, as floating-point numbers."""
        weights = dict(module.named_parameters(remove_duplicate=False))
        for name, part in self.additions(module).items():
            if name not in weights:
                raise ModelError(
                    f"this {type(module).__name__} has no weight {name!r}, which "
                    f"{self._name} changes"
                )
            weight = weights[name]
            if not weight.is_floating_point():
                raise ModelError(
                    f"{name} holds {weight.dtype} (quantised numbers), to which nothing can be "
                    "added: open the model in float32 or bfloat16"
                )
            if tuple(weight.shape) != tuple(part.shape):
                raise ModelError(
                    f"{name} is {tuple(weight.shape)} in this {type(module).__name__}, and "
                    f"{self._name} is for {tuple(part.shape)}"
                )

    def attach(self, module: nn.Module) -> None:
        """Add."""
        AddedWeights.of(module).add(module, self, self.additions(module))

    def detach(self, module: nn.Module) -> None:
        """Put back what stood there, and what the others that are on add."""
        AddedWeights.of(module).remove(module, self)

    def not_mergeable(self) -> str | None:
        """It can always be."""
        return None

    def settle(self, module: nn.Module) -> None:
        """Leave the sum; the weights keep the bits that they have."""
        AddedWeights.of(module).settle(module, self)

    def scaled(self, factor: float) -> Self:
        """Each part times `factor`."""
        return self._with({name: part.scaled(factor) for name, part in self.parts.items()})

    def plus(self, other: Self) -> Self:
        """Part by part; those that only one of them has as they are."""
        parts = dict(self.parts)
        for name, part in other.parts.items():
            parts[name] = parts[name].plus(part) if name in parts else part
        return self._with(parts)

    def _with(self, parts: Mapping[str, Part]) -> Self:
        """The same with other parts: no longer what the knobs made."""
        return type(self)(parts, base=self.base, method=self.method)

    def tensors(self) -> dict[str, Tensor]:
        """`<weight>/<name>` of each tensor of each part."""
        return {
            f"{name}/{role}": tensor
            for name, part in self.parts.items()
            for role, tensor in part.tensors().items()
        }

    def settings(self) -> dict[str, Any]:
        """The form of each part, and what the form needs."""
        return {
            "parts": {
                name: {"form": part.form} | part.settings()
                for name, part in sorted(self.parts.items())
            }
        }

    @classmethod
    def made_of(
        cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any], **about: Any
    ) -> Self:
        """From the tensors of its parts and their forms."""
        roles: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            name, _, role = key.rpartition("/")
            roles.setdefault(name, {})[role] = tensor
        parts = {
            name: FORMS[kept["form"]].of(roles.pop(name), kept)
            for name, kept in settings["parts"].items()
        }
        if roles:
            raise ModelError(f"{min(roles)} has tensors and no form")
        return cls(parts, **about)
