"""Which stacks are on a model, beside which layers, and how much each counts just now.

    out = W x + sum over domains w_d * sum over its rounds delta(x) + active(x)

Each layer has one hook that holds what stands beside it, by domain and not by position, so that the
order in which domains come and go changes no bit. The weights w_d are numbers, or a number for each
row of a batch; a domain that weighs nothing is not computed.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.adapt.brainstacks.experts import Experts, ExpertStack, gates, mixture

NAME = "_expert_stacks"
"""Under which a module holds its switch, so that its copies have their own."""
ACTIVE = "active_experts"
"""The child of a layer that is being learned."""
Weights = Mapping[str, float | Tensor]


class Standing(NamedTuple):
    """A domain beside one layer: its rounds, all with `top_k` and `scale`."""

    rounds: list[Experts]
    top_k: int
    scale: float


class Switch:
    """The stacks on one module.

    Attributes:
        layers: what stands beside each layer, by its name.
        weights: of each domain now; None counts all as one. One that is not named counts nothing.
        learning: the domain that is being learned; its rounds that are done are among the standing.
        fixed: whether they stay as they are, and no router may set them.
        seen: while `recording`, what all stacks together added to each row, its mean over tokens.
    """

    def __init__(self) -> None:
        self.layers: dict[str, LayerStacks] = {}
        self.weights: Weights | None = None
        self.fixed = False
        self.learning: str | None = None
        self.seen: dict[str, list[Tensor]] | None = None
        self.mask: Tensor | None = None

    @classmethod
    def of(cls, module: nn.Module) -> "Switch":
        """That of the module, made where it has none."""
        found: Switch = module.__dict__.setdefault(NAME, cls())
        return found

    @classmethod
    def on(cls, module: nn.Module) -> "Switch | None":
        """That of the module, if stacks are on."""
        found: Switch | None = module.__dict__.get(NAME)
        return found

    @property
    def domains(self) -> list[str]:
        """Those that are on, by name."""
        return sorted({name for layer in self.layers.values() for name in layer.standing})

    def beside(self, module: nn.Module, name: str) -> "LayerStacks":
        """What stands beside a layer, made where nothing does."""
        if name not in self.layers:
            layer = module.get_submodule(name)
            self.layers[name] = LayerStacks(name, self)
            # before the hooks of others: they see the layer with what stands beside it
            layer.register_forward_hook(self.layers[name], prepend=True)
        return self.layers[name]

    def leave(self, module: nn.Module, name: str) -> None:
        """Take the hook of a layer away where nothing stands beside it; and the last one's switch
        with it.
        """
        if self.layers[name].standing:
            return
        layer = module.get_submodule(name)
        hooks = layer._forward_hooks
        for number, hook in list(hooks.items()):
            if hook is self.layers[name]:
                del hooks[number]
        del self.layers[name]
        if not self.layers:
            module.__dict__.pop(NAME, None)

    @contextlib.contextmanager
    def only(self, weights: Weights | None) -> Iterator[None]:
        """Let the domains count so within the block, whatever a router says; {} is the base."""
        before = self.weights, self.fixed
        self.weights, self.fixed = weights, True
        try:
            yield
        finally:
            self.weights, self.fixed = before

    @contextlib.contextmanager
    def recording(self) -> Iterator[dict[str, list[Tensor]]]:
        """See what the stacks add, (rows, d_out) a pass for each layer."""
        self.seen = {}
        try:
            yield self.seen
        finally:
            self.seen = self.mask = None

    def weight_of(self, domain: str, like: Tensor) -> float | Tensor:
        """How much a domain counts now; of several rows, a number each, shaped to multiply."""
        if self.weights is None:
            return 1.0
        weight = self.weights.get(domain, 0.0)
        if not isinstance(weight, Tensor):
            return weight
        if not bool(weight.any()):
            return 0.0
        return weight.to(like).view(-1, *[1] * (like.dim() - 1))


class LayerStacks:
    """The hook of one layer: adds to its output what the stacks beside it make of its input."""

    def __init__(self, name: str, switch: Switch) -> None:
        self.name, self.switch = name, switch
        self.standing: dict[str, Standing] = {}

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """(..., d_in) in `args` and the layer's own (..., d_out) -> (..., d_out)."""
        x = args[0]
        total = self.added(x)
        if self.switch.seen is not None:
            rows = output.new_zeros(output.shape) if total is None else total
            self.switch.seen.setdefault(self.name, []).append(_over_tokens(rows, self.switch.mask))
        active = layer._modules.get(ACTIVE)
        if isinstance(active, ExpertStack):
            learned = active(x)
            total = learned if total is None else total + learned
        return output if total is None else output + total.to(output.dtype)

    def added(self, x: Tensor) -> Tensor | None:
        """What the domains that are done add; None where none counts."""
        total: Tensor | None = None
        for domain in sorted(self.standing):
            weight = self.switch.weight_of(domain, x)
            if isinstance(weight, float) and weight == 0:
                continue
            for part in self._parts(domain, x):
                part = part if isinstance(weight, float) and weight == 1 else weight * part
                total = part if total is None else total + part
        return total

    def _parts(self, domain: str, x: Tensor) -> Iterator[Tensor]:
        standing = self.standing[domain]
        for place, experts in enumerate(standing.rounds):
            if experts.a.device != x.device:
                experts = standing.rounds[place] = experts.to(x.device)
            x = x.to(experts.a.dtype)
            gate = None
            if len(experts.a) > 1:
                gate = gates(functional.linear(x, experts.router), standing.top_k)
            yield mixture(x, gate, experts.a, experts.b, standing.scale)


def _over_tokens(rows: Tensor, mask: Tensor | None) -> Tensor:
    """(rows, tokens..., d) -> (rows, d), padding left out."""
    rows = rows.detach().float()
    if rows.dim() <= 2:
        return rows.cpu()
    if mask is not None and mask.shape == rows.shape[:-1]:
        weight = mask.to(rows)[..., None]
        return ((rows * weight).sum(1) / weight.sum(1).clamp_min(1)).cpu()
    return rows.flatten(1, -2).mean(1).cpu()


@contextlib.contextmanager
def active_off(module: nn.Module) -> Iterator[None]:
    """Leave the domain that is being learned out within the block, with the rounds of it that are
    done: the model as it was before.
    """
    homes = [layer for layer in module.modules() if ACTIVE in layer._modules]
    held = [layer._modules.pop(ACTIVE) for layer in homes]
    switch = Switch.on(module) or Switch()
    others = [name for name in switch.domains if name != switch.learning]
    try:
        with switch.only(dict.fromkeys(others, 1.0)):
            yield
    finally:
        for layer, active in zip(homes, held, strict=True):
            layer._modules[ACTIVE] = active


def float_type(layer: nn.Module) -> torch.dtype:
    """The type in which a layer computes; float32 where its weights are quantised."""
    weight = getattr(layer, "weight", None)
    if isinstance(weight, Tensor) and weight.is_floating_point():
        return weight.dtype
    return torch.float32
