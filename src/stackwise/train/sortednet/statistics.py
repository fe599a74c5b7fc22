"""The running statistics of batch normalisation, for each sub-model its own.

A narrower stream has other means and variances, so that statistics mixed over sub-models ruin the
small ones. Each gets its own set: recomputed over some batches once the weights are learned
(`measure`), or followed while it trains, as slimmable networks do (`used` with keep=True).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from stackwise.train.sortednet.reading import Axes
from stackwise.train.sortednet.spaces import Sizes, name_of

BATCHES = 8
"""Batches over which statistics are recomputed."""
Loss = Callable[[nn.Module, Any], Tensor]


def batch_norms(network: nn.Module) -> dict[str, _BatchNorm]:
    """The layers that hold running statistics, by name."""
    return {
        name: module for name, module in network.named_modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    }  # fmt: skip


class Statistics:
    """Means and variances by sub-model and layer.

    Attributes:
        sets: what the sub-model is called -> name in its state dict -> tensor.
    """

    def __init__(self, sets: Mapping[str, Mapping[str, Tensor]] | None = None) -> None:
        self.sets = {name: dict(tensors) for name, tensors in (sets or {}).items()}

    @contextmanager
    def used(self, axes: Axes, sizes: Sizes, *, keep: bool = False) -> Iterator[nn.Module]:
        """A sub-model with its own statistics, while the context is open.

        Args:
            keep: what they have become by then is kept as the sub-model's.
        """
        with axes.cut_to(sizes) as network:
            buffers = _buffers(network)
            before = {name: tensor.clone() for name, tensor in buffers.items()}
            own = self.sets.get(name_of(sizes))
            for name, tensor in buffers.items():
                if own is not None:
                    tensor.copy_(own[name])
                else:
                    tensor.fill_(1 if name.endswith("running_var") else 0)
            try:
                yield network
            finally:
                if keep:
                    self.sets[name_of(sizes)] = {n: t.clone() for n, t in buffers.items()}
                for name, tensor in buffers.items():
                    tensor.copy_(before[name])

    def measure(self, axes: Axes, sizes: Sizes, batches: Iterable[Any], loss: Loss) -> None:
        """Recompute the statistics of a sub-model over the first batches, through its loss."""
        with self.used(axes, sizes, keep=True) as network:
            called = _Called(network, loss)
            with torch.no_grad():
                update_bn(islice(batches, BATCHES), called)

    def put(self, network: nn.Module, sizes: Sizes) -> None:
        """Write the set of a sub-model into the plain network that was made of it."""
        own = self.sets.get(name_of(sizes), {})
        for name, tensor in _buffers(network).items():
            if name in own:
                tensor.copy_(own[name])

    def tensors(self) -> dict[str, Tensor]:
        """All sets as one dict of tensors, for a file."""
        return {f"{one}|{name}": t for one, held in self.sets.items() for name, t in held.items()}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> "Statistics":
        """The inverse of `tensors`."""
        made = cls()
        for name, tensor in tensors.items():
            one, _, key = name.partition("|")
            made.sets.setdefault(one, {})[key] = tensor
        return made


class _Called(nn.Module):
    """A network that is called with a whole batch."""

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, batch: Any) -> Tensor:
        return self.loss(self.network, placed(batch, self.network))


def placed(batch: Any, network: nn.Module) -> Any:
    """The tensors of a batch where the network is."""
    device = next(network.parameters()).device
    if isinstance(batch, Mapping):
        return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
    return batch


def _buffers(network: nn.Module) -> dict[str, Tensor]:
    found = {}
    for name, module in batch_norms(network).items():
        for key, tensor in module._buffers.items():
            if tensor is not None:
                found[f"{name}.{key}"] = tensor
    return found
