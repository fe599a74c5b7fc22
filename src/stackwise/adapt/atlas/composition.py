"""The composition: a base, task vectors, and the coefficients before them, which are learned.

    compose = Composition(model, blocks, vectors)
    loss = task_loss(compose.written(), batch)      # theta is in the network's weights
    loss.backward()                                 # compose.values.grad holds equation 2
    compose.release()                               # a plain network again

The network's own weights are written over before each pass. As each block's gradient is complete
it is turned into dot products and freed, so that beside the base and the network one block of one
donor is in memory at a time.
"""

import copy
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from stackwise.adapt.atlas.blocks import Blocks
from stackwise.adapt.atlas.donors import TaskVector, as_numbers
from stackwise.adapt.atlas.linearised import Linearised
from stackwise.adapt.atlas.vectors import add_to, product
from stackwise.adapt.delta import Dense, WeightDelta, base_hash
from stackwise.adapt.delta.parts import Part
from stackwise.errors import KnobError

if TYPE_CHECKING:
    import pandas as pd

Scaling = Literal["block", "weights", "donor"]


class Composition(nn.Module):
    """theta_0 + sum_i Lambda_i tau_i.

    Args:
        model: the base; it is left as it is and a copy is written to.
        blocks, vectors: of `blocks_of` and `task_vectors`.
        scaling: a coefficient for each donor and block, or for each donor alone. `weights` is
            `block` on blocks that hold no vectors.
        parts: K > 1 splits the numbers of each block at random into K groups of a coefficient
            each; a block of fewer numbers has as many groups as numbers.
        allowed: (n, m) bool, which donors each block may take; all by default.
        groups: the group of each number by block, in place of those drawn from `seed`.
        linearised: the network answers by its first-order expansion around the base.

    Attributes:
        values: (n, m or 1, K) the coefficients, float32, 0 to begin with. The only parameter: a
            checkpoint holds no more.
        network: the module that is written to. names: of the m blocks.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: Blocks,
        vectors: Sequence[TaskVector],
        *,
        scaling: Scaling = "block",
        parts: int = 1,
        allowed: Tensor | None = None,
        groups: Mapping[str, Tensor] | None = None,
        linearised: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if scaling == "donor" and parts > 1:
            raise KnobError("parts splits blocks, and scaling donor has no coefficient a block")
        self.names = [name for name in blocks.weights if any(name in v.parts for v in vectors)]
        self.donors = [vector.name for vector in vectors]
        self.scaling, self.parts = scaling, parts
        columns = 1 if scaling == "donor" else len(self.names)
        self.values = nn.Parameter(torch.zeros(len(vectors), columns, parts))
        present = torch.tensor([[name in v.parts for name in self.names] for v in vectors])
        self.allowed = present if allowed is None else present & allowed
        self._vectors = [vector.parts for vector in vectors]
        self._base = {name: blocks.weights[name] for name in self.names}
        self._groups = dict(groups or {}) or self._drawn(seed)
        self._flags = {name: p.requires_grad for name, p in model.named_parameters()}
        # not a part of this module: neither checkpoints nor optimizers are to see its weights
        self.__dict__["network"] = copy.deepcopy(model).eval().requires_grad_(False)
        self._tangents = self._leaves() if linearised else {}
        self.__dict__["_expanded"] = (
            Linearised(self.network, self._tangents) if linearised else self.network
        )
        self._hooks = [
            leaf.register_post_accumulate_grad_hook(functools.partial(self._collect, name))
            for name, leaf in self._learning().items()
        ]

    network: nn.Module
    _expanded: nn.Module

    def _drawn(self, seed: int) -> dict[str, Tensor]:
        """A split of each block for itself: equal shapes are split differently."""
        if self.parts == 1:
            return {}
        small = torch.uint8 if self.parts <= 256 else torch.int32
        generator = torch.Generator().manual_seed(seed)
        return {
            name: (torch.randperm(weight.numel(), generator=generator) % self.parts).to(small)
            for name, weight in self._base.items()
        }

    def _leaves(self) -> dict[str, Tensor]:
        return {
            name: torch.zeros_like(weight).requires_grad_() for name, weight in self._base.items()
        }

    def _learning(self) -> dict[str, Tensor]:
        """The tensors whose gradients become those of coefficients."""
        if self._tangents:
            return self._tangents
        weights = dict(self.network.named_parameters())
        for name in self.names:
            weights[name].requires_grad_()
        return {name: weights[name] for name in self.names}

    def _apply(self, fn: Any, recurse: bool = True) -> "Composition":
        """Moves to another device take the network and the base along."""
        super()._apply(fn, recurse)
        self.network._apply(fn)
        self._base = {name: fn(weight) for name, weight in self._base.items()}
        self._groups = {name: fn(group) for name, group in self._groups.items()}
        for leaf in self._tangents.values():
            leaf.data = fn(leaf.data)
        return self

    def train(self, mode: bool = True) -> "Composition":
        """The network stays in evaluation mode: its buffers are the base's."""
        return super().train(mode)

    # ---- what is written

    @torch.no_grad()
    def change(self, name: str) -> Tensor | None:
        """sum_i lambda_i tau_i of one block, in float32 at least; None where nothing is added."""
        weight = self._base[name]
        total: Tensor | None = None
        for donor, factors in self._factors(name):
            if total is None:
                total = torch.zeros_like(
                    weight, dtype=as_numbers(weight.dtype), memory_format=torch.contiguous_format
                )
            part = self._vectors[donor][name]
            if len(factors) == 1:
                add_to(total, part, float(factors))
            else:
                each = factors[self._groups[name].long()].view(total.shape)
                total.addcmul_(each.to(total), part.dense(total))
        return total

    def _factors(self, name: str) -> list[tuple[int, Tensor]]:
        """The donors that change a block, each with its coefficients (K,)."""
        place = self.names.index(name)
        column = 0 if self.scaling == "donor" else place
        values = self.values.detach()
        return [
            (donor, values[donor, column])
            for donor in self.allowed[:, place].nonzero()[:, 0].tolist()
            if bool(values[donor, column].any())
        ]

    @torch.no_grad()
    def written(self) -> nn.Module:
        """The network with theta in it, for learning; linearised, the expansion of it."""
        if not self._tangents:
            return self.composed()
        weights = dict(self.network.named_parameters())
        for name, leaf in self._tangents.items():
            weights[name].copy_(self._base[name])
            change = self.change(name)
            leaf.zero_() if change is None else leaf.copy_(change)
        return self._expanded

    @torch.no_grad()
    def composed(self) -> nn.Module:
        """The plain network with theta in it; where all coefficients are 0, the base's bits."""
        weights = dict(self.network.named_parameters())
        for name in self.names:
            base, change = self._base[name], self.change(name)
            weights[name].copy_(base if change is None else base.to(change.dtype) + change)
        return self.network

    # ---- what is learned

    @torch.no_grad()
    def _collect(self, name: str, leaf: Tensor) -> None:
        """Equation 2 for one block, as soon as its gradient is complete."""
        gradient, leaf.grad = leaf.grad, None
        if gradient is None:
            return
        gradient = gradient.to(as_numbers(gradient.dtype))
        if self.values.grad is None:
            self.values.grad = torch.zeros_like(self.values)
        place = self.names.index(name)
        into = self.values.grad[:, 0 if self.scaling == "donor" else place]
        for donor in self.allowed[:, place].nonzero()[:, 0].tolist():
            part = self._vectors[donor][name]
            if self.parts == 1:
                into[donor, 0] += product(part, gradient)
            else:
                each = (gradient * part.dense(gradient)).reshape(-1)
                into[donor].index_add_(0, self._groups[name].long(), each.to(into.dtype))

    def penalty(self, l1: float, l2: float) -> Tensor:
        """The mean over blocks of the norm of a block's coefficients over donors (and groups)."""
        across = self.values.transpose(0, 1).flatten(1)
        total = self.values.new_zeros(())
        if l1:
            total = total + l1 * across.abs().sum(1).mean()
        if l2:
            total = total + l2 * (across.square().sum(1) + 1e-12).sqrt().mean()
        return total

    # ---- what comes out

    def release(self) -> nn.Module:
        """The plain network, composed, with nothing of this left on it."""
        for hook in self._hooks:
            hook.remove()
        network = self.composed()
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(self._flags[name])
            parameter.grad = None
        return network

    def delta(self, model: Any, **about: Any) -> WeightDelta:
        """What the coefficients make of the task vectors, as a delta of the base: low-rank where
        all donors are.
        """
        parts: dict[str, Part] = {}
        for name in self.names:
            factors = self._factors(name)
            if self.parts == 1 and factors:
                scaled = [self._vectors[i][name].scaled(float(one)) for i, one in factors]
                parts[name] = functools.reduce(lambda one, other: one.plus(other), scaled)
            elif (change := self.change(name)) is not None:
                parts[name] = Dense(change.cpu())
        return WeightDelta(parts, **{"base": base_hash(model), "method": "atlas"} | about)

    def coefficients(self) -> "pd.DataFrame":
        """A row a block (and group), a column a donor; not-a-number where a donor does not have the
        block or may not be taken there.
        """
        import pandas as pd

        values = self.values.detach().cpu().expand(-1, len(self.names), -1).clone()
        values[~self.allowed] = torch.nan
        rows: dict[str, Any] = {"block": [n for n in self.names for _ in range(self.parts)]}
        if self.parts > 1:
            rows["part"] = [*range(self.parts)] * len(self.names)
        table = values.reshape(len(self.donors), -1).numpy()
        return pd.DataFrame(rows | dict(zip(self.donors, table, strict=True)))
