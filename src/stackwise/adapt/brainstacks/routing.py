"""Train a router on what was found by trying, and have it switch the stacks of each prompt.

The router is a delta of its own: put on beside the stacks of its domains, it looks at each prompt
once (the base's states of it), sets the weights of the domains row by row, and keeps them while the
answer is generated from a cache.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.adapt.brainstacks.combinations import discover, first_tensor, row_losses
from stackwise.adapt.brainstacks.router import MetaRouter, base_states
from stackwise.adapt.brainstacks.switch import Switch
from stackwise.adapt.delta import Delta
from stackwise.errors import KnobError, ModelError
from stackwise.learning.trainable import Trainable
from stackwise.training import ArrayBatches, Backprop, train

DISCOVERED = 0.8
"""Share of a target that is what was found by trying; the rest is the domain that a sample came
from, where that is known."""
UNSURE, CONFIDENCE = 0.3, 0.05


@dataclass(frozen=True)
class Samples:
    """What a router learns from.

    Attributes:
        states: (n, S, d) float32. mask: (n, S). targets: (n, D) in [0, 1].
        labels: (n,) the place of the one domain a sample came from, -1 where it is unknown.
        found: (n, D), what was found by trying.
    """

    states: Tensor
    mask: Tensor
    targets: Tensor
    labels: Tensor
    found: Tensor


@torch.no_grad()
def samples_of(
    model: nn.Module,
    sources: Mapping[str, Trainable],
    domains: Sequence[str],
    *,
    count: int,
    tokens: int,
    floor: Mapping[str, float],
    half: Sequence[str] = (),
) -> Samples:
    """Look at `count` samples of each source: the base's states, and which domains help.

    Args:
        sources: by name; a source that is named as a domain says where its samples came from.
    """
    model.eval()
    switch = Switch.of(model)
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for name, joined in sources.items():
        label = list(domains).index(name) if name in domains else -1
        rows = 0
        for batch in joined.batches.epoch(0):
            size = len(first_tensor(batch))
            args, inputs = _as_called(joined, model, batch)
            states, mask = base_states(model, args, inputs, tokens)

            found = discover(_tried(switch, joined, model, batch), domains, floor=floor, half=half)
            parts.append((states.cpu(), mask.cpu(), found, torch.full((size,), label)))
            rows += size
            if rows >= count:
                break
    longest = max(states.shape[1] for states, *_ in parts)
    states = torch.cat([functional.pad(s, (0, 0, 0, longest - s.shape[1])) for s, *_ in parts])
    mask = torch.cat([functional.pad(m, (0, longest - m.shape[1])) for _, m, *_ in parts])
    found, labels = (torch.cat([part[place] for part in parts]) for place in (2, 3))
    prior = functional.one_hot(labels.clamp_min(0), len(domains)).float()
    mixed = DISCOVERED * found + (1 - DISCOVERED) * prior
    targets = torch.where((labels >= 0)[:, None], mixed, found)
    low = torch.tensor([float(floor.get(name, 0.0)) for name in domains])
    return Samples(states, mask, torch.maximum(targets, low).clamp(0, 1), labels, found)


def _tried(
    switch: Switch, joined: Trainable, model: nn.Module, batch: Any
) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """weights by domain -> the loss of each row of a batch."""

    def losses(weights: Mapping[str, Tensor]) -> Tensor:
        with switch.only(weights):
            return row_losses(joined.loss, model, batch)

    return losses


def _as_called(joined: Trainable, model: nn.Module, batch: Any) -> tuple[tuple[Any, ...], Any]:
    """The arguments with which the loss calls the model on a batch."""
    caught: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def catch(_: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        caught.append((args, inputs))

    hook = model.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        joined.loss(model, batch)
    finally:
        hook.remove()
    args, inputs = caught[0]
    labels = batch.get("labels") if isinstance(batch, Mapping) else None
    return args, inputs | ({} if labels is None else {"labels": labels})


def router_loss(router: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Cross-entropy to the targets, and a push away from one half: 0.05 relu(0.3 - |p - 0.5|)."""
    logits = router(batch["states"], batch["mask"])
    plain = functional.binary_cross_entropy_with_logits(logits, batch["targets"])
    unsure = functional.relu(UNSURE - (logits.sigmoid() - 0.5).abs()).mean()
    return plain + CONFIDENCE * unsure


@torch.no_grad()
def router_scores(router: nn.Module, held: Samples) -> dict[str, float]:
    """0.5 single + 0.35 mixed - 0.15 bce on held-out samples, and its parts.

    single: how often the likeliest domain is the one that a sample came from. mixed: how often the
    two likeliest are the set that was found (targets above 0.3), where that has two.
    """
    logits = router(held.states, held.mask)
    bce = float(functional.binary_cross_entropy_with_logits(logits, held.targets))
    known = held.labels >= 0
    single = float((logits.argmax(1) == held.labels)[known].float().mean()) if known.any() else 0.0
    wanted = held.targets > UNSURE
    two = wanted.sum(1) == 2
    mixed = 0.0
    if two.any() and logits.shape[1] >= 2:
        top = torch.zeros_like(wanted).scatter(1, logits.topk(2, 1).indices, True)
        mixed = float((top == wanted).all(1)[two].float().mean())
    return {"score": 0.5 * single + 0.35 * mixed - 0.15 * bce, "single": single, "mixed": mixed,
            "bce": bce}  # fmt: skip


def train_router(
    samples: Samples, *, hidden: int, epochs: int, lr: float, seed: int, device: str = "auto",
    time_limit: float | None = None,
) -> MetaRouter:  # fmt: skip
    """Train a router; a tenth of the samples is held out and says which epoch is kept.

    The rate falls by a cosine, step by step (the authors': epoch by epoch).

    Raises:
        KnobError: there are too few samples.
    """
    count = len(samples.states)
    if count < 10:
        raise KnobError(f"a router needs at least 10 samples, got {count}")
    order = list(range(count))
    random.Random(seed).shuffle(order)
    held, kept = (torch.tensor(part) for part in (order[: count // 10], order[count // 10 :]))
    tenth = Samples(*(value[held] for value in vars(samples).values()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        router = MetaRouter(
            width=samples.states.shape[2], domains=samples.targets.shape[1], hidden=hidden
        )
    rule = Backprop(
        router_loss, lr=lr, weight_decay=0.01, schedule="cosine", monitor="score", mode="max",
        validate=lambda module: router_scores(module, tenth),
    )  # fmt: skip
    rows = {name: getattr(samples, name)[kept] for name in ("states", "mask", "targets")}
    return train(  # type: ignore[return-value]
        router, rule, ArrayBatches(rows, 16, seed=seed), max_epochs=epochs, seed=seed,
        device=device, time_limit=time_limit, name="router",
    ).model.cpu()  # fmt: skip


class RouterDelta(Delta, kind="stack-router"):
    """A router as a delta: with it on, each prompt switches the stacks that it needs.

    Args:
        domains: those that it knows, in its order. threshold: a weight up to which a domain counts
            nothing. floor: what a domain counts at least. tokens: of a prompt that it looks at.
    """

    in_weights: ClassVar[bool] = False

    def __init__(
        self,
        router: MetaRouter,
        domains: Sequence[str],
        *,
        threshold: float = 0.12,
        floor: Mapping[str, float] | None = None,
        tokens: int = 256,
        **about: Any,
    ) -> None:
        super().__init__(**about)
        self.router = router.eval().requires_grad_(False)
        self.domains, self.floor = list(domains), dict(floor or {})
        self.threshold, self.tokens = float(threshold), int(tokens)

    def fits(self, module: nn.Module) -> None:
        """Stacks are on, and none that it does not know."""
        switch = Switch.on(module)
        on = [] if switch is None else switch.domains
        strange = sorted(set(on) - set(self.domains))
        if not on or strange:
            raise ModelError(
                f"{self._name} knows the domains {', '.join(self.domains)}, and "
                + (f"{strange[0]!r} is on" if strange else "no stack is on")
                + ": put its own on before it"
            )

    def attach(self, module: nn.Module) -> None:
        """Look at each prompt before the model does."""
        module.register_forward_pre_hook(_Route(self), with_kwargs=True)

    def detach(self, module: nn.Module) -> None:
        """Look no more; every domain counts as one again."""
        hooks = module._forward_pre_hooks
        for number, hook in list(hooks.items()):
            if isinstance(hook, _Route) and hook.delta is self:
                del hooks[number]
                module._forward_pre_hooks_with_kwargs.pop(number, None)
        switch = Switch.on(module)
        if switch is not None:
            switch.weights = None

    @torch.no_grad()
    def weights_of(self, module: nn.Module, *args: Any, **inputs: Any) -> dict[str, Tensor]:
        """What each domain counts for each row that the module is called with: (B,) each."""
        states, mask = base_states(module, args, inputs, self.tokens)
        router = self.router.to(states.device)
        chance = router(states, mask).sigmoid()
        found = {}
        for place, name in enumerate(self.domains):
            weight = chance[:, place].clamp_min(self.floor.get(name, 0.0))
            found[name] = torch.where(weight > self.threshold, weight, torch.zeros_like(weight))
        return found

    def not_mergeable(self) -> str | None:
        """It answers for each prompt anew."""
        return "it looks at each prompt"

    def tensors(self) -> dict[str, Tensor]:
        """The router's weights."""
        return dict(self.router.state_dict())

    def settings(self) -> dict[str, Any]:
        """Its sizes, and how its answers are used."""
        return {"router": self.router.arguments, "domains": self.domains, "floor": self.floor,
                "threshold": self.threshold, "tokens": self.tokens}  # fmt: skip

    @classmethod
    def made_of(
        cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any], **about: Any
    ) -> Self:
        """From its weights and sizes."""
        sizes = {name: int(settings["router"][name]) for name in ("width", "domains", "hidden")}
        said = tensors["queries"].shape, tensors["inward.0.weight"].shape
        if said != ((sizes["domains"], sizes["hidden"]), (sizes["hidden"], sizes["width"])):
            raise ModelError(f"its weights are not of the sizes that it names, {sizes}")
        if len(settings["domains"]) != sizes["domains"]:
            raise ModelError(f"it names {len(settings['domains'])} domains for {sizes['domains']}")
        router = MetaRouter(**sizes, dropout=float(settings["router"]["dropout"]))
        router.load_state_dict(dict(tensors))
        return cls(
            router, settings["domains"], threshold=settings["threshold"],
            floor=settings["floor"], tokens=settings["tokens"], **about,
        )  # fmt: skip


class _Route:
    """The hook: sets the weights at the beginning of a prompt."""

    def __init__(self, delta: RouterDelta) -> None:
        self.delta = delta

    def __call__(self, module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        switch = Switch.on(module)
        if switch is not None and not switch.fixed and not _goes_on(inputs):
            switch.weights = self.delta.weights_of(module, *args, **inputs)


def _goes_on(inputs: Mapping[str, Any]) -> bool:
    """Whether a cache holds the beginning, so that this is no prompt."""
    cache = inputs.get("past_key_values")
    return cache is not None and int(cache.get_seq_length()) > 0
