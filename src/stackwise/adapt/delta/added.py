"""What deltas have added to the weights of a model, and what stood there before.

Of each weight that is added to, the numbers that will change are kept aside. Whenever a delta comes
or goes they are put back first, and the sum of all that are on is added anew and rounded once:

    theta = base + (part_1 + part_2 + ...)          in float32 at least

so that no rounding gathers however often deltas come and go, and the last one to go leaves the
base bit for bit. Where only sparse parts are added to a weight, only their entries are kept aside.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.adapt.delta.parts import Part, Sparse
from stackwise.errors import ModelError

NAME = "_added_weights"
"""Under which a module holds this, so that its copies have their own."""


@dataclass(eq=False)
class _Kept:
    """What stood in a weight: all of it, or the entries that change."""

    entries: Tensor | None
    values: Tensor

    def put_back(self, weight: nn.Parameter) -> None:
        if self.entries is None:
            weight.copy_(self.values)
        else:
            weight.put_(self.entries.to(weight.device), self.values.to(weight))


@dataclass(eq=False)
class _Addition:
    """What one delta adds; once it is settled it does not go again."""

    delta: Any
    parts: dict[nn.Parameter, list[Part]]
    settled: bool = False


@dataclass(eq=False)
class AddedWeights:
    """The additions to one module."""

    additions: list[_Addition] = field(default_factory=list)
    kept: dict[nn.Parameter, _Kept] = field(default_factory=dict)

    @classmethod
    def of(cls, module: nn.Module) -> "AddedWeights":
        """That of the module, made where it has none."""
        found: AddedWeights = module.__dict__.setdefault(NAME, cls())
        here = {id(parameter) for parameter in module.parameters()}
        if any(id(weight) not in here for weight in found.kept):
            raise ModelError(
                f"this {type(module).__name__} was rebuilt while deltas were on it, so that they "
                "can neither be taken off nor joined by others: take them off before, or merge them"
            )
        return found

    def add(self, module: nn.Module, delta: Any, parts: Mapping[str, Part]) -> None:
        """Add the parts of a delta, by the names of the weights; tied ones have several."""
        weights = dict(module.named_parameters(remove_duplicate=False))
        added = _Addition(delta, {})
        for name, part in parts.items():
            added.parts.setdefault(weights[name], []).append(part)
        self.additions.append(added)
        try:
            self._rewrite(added.parts)
        except BaseException:  # memory that does not suffice, Ctrl-C
            self.additions.remove(added)
            self._rewrite(added.parts)
            raise

    def remove(self, module: nn.Module, delta: Any) -> None:
        """Take back what a delta added."""
        gone = next(one for one in self.additions if one.delta is delta)
        self.additions.remove(gone)
        self._rewrite(gone.parts)
        self._forget_where_all_is_settled(module)

    def settle(self, module: nn.Module, delta: Any) -> None:
        """Leave what a delta added for good."""
        next(one for one in self.additions if one.delta is delta).settled = True
        self._forget_where_all_is_settled(module)

    def _forget_where_all_is_settled(self, module: nn.Module) -> None:
        # until then the base is kept, so that those still on are rounded together with the others
        if all(one.settled for one in self.additions):
            module.__dict__.pop(NAME)

    @torch.no_grad()
    def _rewrite(self, weights: Iterable[nn.Parameter]) -> None:
        parts: dict[nn.Parameter, list[Part]] = {weight: [] for weight in weights}
        for one in self.additions:
            for weight, added in one.parts.items():
                if weight in parts:
                    parts[weight] += added
        for weight, added in parts.items():
            before = self.kept.pop(weight, None)
            if before is not None:
                before.put_back(weight)
            if added:
                self.kept[weight] = _added_to(weight, added)


def _added_to(weight: nn.Parameter, parts: list[Part]) -> _Kept:
    """Add the sum of the parts to a weight, and give back what stood there."""
    numbers = torch.empty(0, dtype=_widest(weight, parts), device=weight.device)
    sparse = [part for part in parts if isinstance(part, Sparse)]
    if len(sparse) < len(parts):
        kept = _Kept(None, weight.detach().clone())
        total = _sum(part.dense(numbers) for part in parts)
        weight.copy_(weight.to(numbers.dtype) + total)
        return kept
    entries = torch.cat([part.entries for part in sparse]).unique().to(weight.device)
    kept = _Kept(entries, weight.detach().take(entries))
    total = _sum(part.at(entries, numbers) for part in sparse)
    weight.put_(entries, (kept.values.to(numbers.dtype) + total).to(weight.dtype))
    return kept


def _widest(weight: nn.Parameter, parts: list[Part]) -> torch.dtype:
    """The type in which a sum is taken: float32, or wider where the weight or a part is."""
    found = torch.promote_types(weight.dtype, torch.float32)
    for part in parts:
        for tensor in part.tensors().values():
            if tensor.is_floating_point():
                found = torch.promote_types(found, tensor.dtype)
    return found


def _sum(tensors: Iterable[Tensor]) -> Tensor:
    given = iter(tensors)
    total = next(given)
    for tensor in given:
        total = total + tensor
    return total
