"""The representation: what the last layers of several networks are given, side by side.

    phi(x) = [phi_1(x); ...; phi_n(x)]          (B, d_1 + ... + d_n)

phi_i is what the last layer of network i reads: it stops before that layer, and dropout does
nothing, since the members of `concat` stay in evaluation mode. Nothing is trained here.
"""

import copy
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.layers.sweeps import sweeps_of, with_sweeps
from stackwise.learning.last_layer import inputs_of

Pooling = Literal["auto", "mean", "first"]


def head_of(network: nn.Module, layer: str | None = None) -> tuple[str, nn.Module]:
    """The last layer of a network: by default the last module with weights of its own.

    Args:
        layer: its dotted name, where another one is meant.

    Raises:
        ModelError: there is none, or none of that name; the last candidates are named.
    """
    found = {
        name: module for name, module in network.named_modules()
        if name and next(module.parameters(recurse=False), None) is not None
    }  # fmt: skip
    what = type(network).__name__
    if layer is not None:
        if layer not in dict(network.named_modules()) or not layer:
            near = ", ".join([*found][-5:]) or "none"
            raise ModelError(f"a {what} has no layer {layer!r}; its last ones are {near}")
        return layer, network.get_submodule(layer)
    if len(found) < 2:
        raise ModelError(
            f"a {what} has {len(found)} layers with weights: there is no representation before "
            "the last one"
        )
    return list(found.items())[-1]


def linear_head(network: nn.Module, layer: str | None = None) -> tuple[str, nn.Linear]:
    """The last layer, which must be linear.

    Raises:
        ModelError: it is not, so that heads cannot be joined into one.
    """
    name, head = head_of(network, layer)
    if not isinstance(head, nn.Linear):
        raise ModelError(
            f"the last layer of a {type(network).__name__}, {name}, is a {type(head).__name__} and "
            "no linear layer, so that heads cannot be joined; probe the members, or name layer="
        )
    return name, head


def pooled(features: Tensor, pooling: Pooling = "auto") -> Tensor:
    """Features as rows (B, d).

    Args:
        features: (B, d); maps (B, C, H, W), averaged over places; or (B, k, d): of "auto" the k
            members of an ensemble, side by side, of "mean" and "first" tokens.
    """
    if features.ndim == 4:
        return features.mean((2, 3))
    if features.ndim == 3 and pooling != "auto":
        return features.mean(1) if pooling == "mean" else features[:, 0]
    return features.flatten(1)


class Concatenated(nn.Module):
    """The features of several networks, side by side: (B, ...) -> (B, sum d).

    The networks are children of their own names (`member0`, ...), not a list: they are no stack.

    Args:
        members: as they are, not copied. layers: the last layer of each.
        frozen: the members stay in evaluation mode and learn no gradients.
        own_inputs: each member has inputs of its own, `<place>.<name>`.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        layers: Sequence[str],
        *,
        pooling: Pooling = "auto",
        frozen: bool = True,
        own_inputs: bool = False,
    ) -> None:
        super().__init__()
        for place, member in enumerate(members):
            self.add_module(f"member{place}", member)
        self.layers, self.pooling = list(layers), pooling
        self.frozen, self.own_inputs = frozen, own_inputs

    @property
    def members(self) -> list[nn.Module]:
        """The networks, in their order."""
        return [self.get_submodule(f"member{place}") for place in range(len(self.layers))]

    def each(self, *args: Any, **named: Any) -> list[Tensor]:
        """The features of each member, (B, d_i)."""
        found = []
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            for place, (member, layer) in enumerate(zip(self.members, self.layers, strict=True)):
                if self.own_inputs:
                    start = f"{place}."
                    own = {
                        k.removeprefix(start): v for k, v in named.items() if k.startswith(start)
                    }
                else:
                    own = named
                with inputs_of(member.get_submodule(layer)) as seen:
                    member(*args, **own)
                if not seen:
                    raise ModelError(
                        f"{type(member).__name__} did not call its layer {layer!r}; name its last "
                        "one by layer="
                    )
                found.append(pooled(seen[-1], self.pooling))
        return found

    def forward(self, *args: Any, **named: Any) -> Tensor:
        """What the members are called with -> (B, sum d)."""
        return torch.cat(self.each(*args, **named), 1)

    def train(self, mode: bool = True) -> "Concatenated":
        """Training mode, which frozen members do not enter."""
        self.training = mode
        for member in self.members:
            member.train(mode and not self.frozen)
        return self


def concat(
    members: Sequence[nn.Module],
    layer: str | Sequence[str] | None = None,
    *,
    pooling: Pooling = "auto",
) -> Concatenated:
    """CAT: the features of trained networks side by side, as one module that is not trained.

    Args:
        members: in evaluation mode, all called with the same inputs. Not copied.
        layer: the last layer by its dotted name, of all members or of each; by default the last
            module with weights.
        pooling: what becomes of features (B, T, d); see `pooled`.

    Raises:
        ModelError: no members, one in training mode, no such layer, or two that are equal.
    """
    members = list(members)
    if not members:
        raise ModelError("a representation needs at least 1 member, got 0")
    if isinstance(layer, str) or layer is None:
        names: list[str | None] = [layer] * len(members)
    else:
        names = list(layer)
    if len(names) != len(members):
        raise ModelError(f"there are {len(members)} members and {len(names)} layers")
    for place, member in enumerate(members):
        if not isinstance(member, nn.Module):
            raise ModelError(f"member {place + 1} is a {type(member).__name__}, not a module")
        if member.training:
            raise ModelError(f"member {place + 1} is in training mode; call its eval() first")
    refuse_equal(members)
    layers = [head_of(member, name)[0] for member, name in zip(members, names, strict=True)]
    return Concatenated(members, layers, pooling=pooling)


def refuse_equal(members: Sequence[nn.Module]) -> None:
    """Refuse members that are the same to the bit: their features would stand there twice.

    Raises:
        ModelError: two are.
    """
    for place, one in enumerate(members):
        state = one.state_dict()
        for later, other in enumerate(members[place + 1 :], place + 1):
            theirs = other.state_dict()
            if list(state) == list(theirs) and all(
                tensor.shape == theirs[name].shape and torch.equal(tensor, theirs[name])
                for name, tensor in state.items()
            ):
                raise ModelError(
                    f"members {place + 1} and {later + 1} are bit-identical: features would be "
                    "duplicated; train them from different seeds"
                )


def with_outputs(network: nn.Module, outputs: int, layer: str | None = None) -> nn.Module:
    """A copy of a network whose last layer gives so many numbers, and begins anew by torch's random
    state; every other weight is the network's own.

    Raises:
        ModelError: the network's outputs cannot be other ones.
    """
    name, head = head_of(network, layer)
    arguments: Any = getattr(network, "arguments", None)
    if arguments is None:
        _, linear = linear_head(network, layer)
        made = copy.deepcopy(network)
        fresh = nn.Linear(linear.in_features, outputs, bias=linear.bias is not None)
        made.set_submodule(name, fresh.to(linear.weight))
        return made
    if "n_outputs" not in arguments or getattr(network, "put_parts", []):
        raise ModelError(
            f"the classes of a {type(network).__name__} cannot be other ones: it is made for "
            "those that it learned"
        )
    made = type(network)(**arguments | {"n_outputs": outputs})
    with_sweeps(made, sweeps_of(network))
    own = made.state_dict()
    kept = {k: v for k, v in network.state_dict().items() if not k.startswith(f"{name}.")}
    strange = [k for k, v in kept.items() if k not in own or own[k].shape != v.shape]
    if strange:
        raise ModelError(
            f"the classes of a {type(network).__name__} cannot be other ones: {strange[0]} depends "
            "on them"
        )
    made.load_state_dict(own | kept)
    return cast(nn.Module, made.train(network.training))
