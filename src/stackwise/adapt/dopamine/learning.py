"""How a mode is learned: gates with numbers that train, on a network that does not.

The loop trains `Gates`, which holds the numbers of the mode and nothing else, so that a checkpoint
is as small as the mode. The network stands beside it, in evaluation mode (running statistics and
dropout as at inference) and without gradients of its own, and sees the gates by hooks.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.adapt.dopamine.gate import Form, Numbers
from stackwise.adapt.dopamine.hooks import Passing, attach, detach
from stackwise.adapt.dopamine.sites import Site
from stackwise.layers.evaluating import in_evaluation
from stackwise.training.rules import Backprop, Loop

Gain = Literal["plain", "softplus", "exp"]
FACTORS: dict[Gain, Callable[[Tensor], Tensor]] = {
    "plain": lambda raw: 1 + raw,
    "exp": torch.exp,
    # shifted, so that 0 is a factor of 1
    "softplus": lambda raw: functional.softplus(raw + 0.5413248546129181),
}
"""How a factor is made of a number that begins at 0; the last two stay above 0."""


class Gates(nn.Module):
    """The numbers of a mode while it learns. All begin at 0, as what is added to a beginning: decay
    of weights pulls them to the network as it was.

    Args:
        base: the network. It is no submodule: it is not trained, kept or switched to training.
        sites: where gates stand. starts: thresholds at the beginning, by site.
        learn: which of tau, gain and bias.
        context: the rank of thresholds that depend on the input; 0 for none.
    """

    sharpness: float
    form: Form

    def __init__(
        self,
        base: nn.Module,
        sites: Sequence[Site],
        starts: dict[str, Tensor],
        *,
        learn: Sequence[str],
        gain: Gain,
        context: int,
    ) -> None:
        super().__init__()
        self.__dict__["base"] = base
        self.sites, self.factor = list(sites), FACTORS[gain]
        self.sharpness, self.form = 10.0, "soft"
        self.shares: list[Tensor] = []
        self.counted = False
        for place, site in enumerate(self.sites):
            for role in learn:
                self._add(role, place, torch.zeros(site.width))
            if "tau" in learn:
                self.register_buffer(f"start_{place}", starts[site.name].float())
            if context:
                # one of the two begins at 0, so that all thresholds begin where they would
                self._add("down", place, torch.randn(context, site.width) / site.width**0.5)
                self._add("up", place, torch.zeros(site.width, context))
        self.places = {site.name: place for place, site in enumerate(self.sites)}

    def _add(self, role: str, place: int, values: Tensor) -> None:
        self.register_parameter(f"{role}_{place}", nn.Parameter(values))

    def _apply(self, fn: Any, recurse: bool = True) -> "Gates":
        # the network goes along to the device, though it is no submodule
        self.__dict__["base"]._apply(fn)
        return super()._apply(fn, recurse)

    def at(self, name: str, like: Tensor | None = None) -> Numbers:
        """What holds at a site now."""
        place = self.places[name]
        held = {role: getattr(self, f"{role}_{place}", None) for role in ("tau", "gain", "bias")}
        if held["tau"] is not None:
            held["tau"] = held["tau"] + getattr(self, f"start_{place}")
        if held["gain"] is not None:
            held["gain"] = self.factor(held["gain"])
        more = {role: getattr(self, f"{role}_{place}", None) for role in ("down", "up")}
        numbers = Numbers(**held, **more, sharpness=self.sharpness, form=self.form)
        return numbers if like is None else numbers.to(like)

    def watch(self, passing: Passing) -> None:
        """Keep the mean of the gates of a site, where it is part of the loss."""
        if self.counted:
            self.shares.append(passing.share.float().mean())

    def numbers(self) -> dict[str, Numbers]:
        """What was learned, by site, copied."""
        found = {}
        for site in self.sites:
            now = self.at(site.name)
            held = {r: getattr(now, r) for r in ("tau", "gain", "bias", "down", "up")}
            kept = {r: t.detach().cpu().clone() for r, t in held.items() if t is not None}
            found[site.name] = replace(Numbers(), **kept)
        return found


@contextmanager
def on_frozen(gates: Gates) -> Iterator[Gates]:
    """Have the gates on their network, which is frozen and in evaluation mode meanwhile."""
    base: nn.Module = gates.__dict__["base"]
    learned = {p: p.requires_grad for p in base.parameters()}
    device = next((p.device for p in base.parameters()), torch.device("cpu"))
    base.requires_grad_(False)
    attach(base, gates, gates.sites, gates.at, watch=gates.watch)
    try:
        with in_evaluation(base):
            yield gates
    finally:
        detach(base, gates)
        base.to(device)
        for parameter, flag in learned.items():
            parameter.requires_grad_(flag)


class ModeRule(Backprop):
    """`Backprop` on gates, with the sparsity term and a sharpness that rises.

    L = loss + sparsity * sum over sites of mean(m)

    Args:
        loss: (the network, batch) -> scalar.
        sharpness: of the gates, and in the end. anneal_from: that at the beginning; it rises
            linearly. Validation scores count only where it has arrived.
    """

    def __init__(
        self,
        loss: Callable[[nn.Module, Any], Tensor],
        *,
        sparsity: float = 0.0,
        sharpness: float = 10.0,
        anneal_from: float | None = None,
        **training: Any,
    ) -> None:
        super().__init__(self._whole, decay=lambda name, parameter: True, **training)
        self.plain, self.sparsity = loss, sparsity
        self.sharpness, self.anneal_from = sharpness, anneal_from
        self.settled = anneal_from is None

    def _whole(self, model: nn.Module, batch: Any) -> Tensor:
        gates: Any = model
        gates.shares, gates.counted = [], self.sparsity > 0
        loss = self.plain(gates.__dict__["base"], batch)
        gates.counted = False
        if gates.shares:
            loss = loss + self.sparsity * torch.stack(gates.shares).sum()
        return loss

    def step(self, loop: Loop, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Set the sharpness of this step, then learn as ever."""
        gates: Any = model
        if self.anneal_from is not None:
            share = loop.step / max(loop.total_steps - 1, 1)
            gates.sharpness = self.anneal_from + (self.sharpness - self.anneal_from) * share
            self.settled = loop.step + 1 >= loop.total_steps
        else:
            gates.sharpness = self.sharpness
        return super().step(loop, model, batch)
