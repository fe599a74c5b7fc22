"""Batch normalisation whose mean and variance are those of a batch spread over processes.

    mean = 1 / n  sum over processes, rows, places of x,     variance = 1 / n  sum of (x - mean)^2

with n the count of all processes together, so that a step learns what one process would have
learned, however the rows divide. The sums are differentiable: a row's gradient has the part that
went through the statistics of the others. Works wherever torch's all-reduce does, on CPUs too,
which torch's own `SyncBatchNorm` refuses.

The variance is taken from the mean of all, in a second exchange: the mean of the squares less the
square of the mean would lose its digits where the mean is large.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stackwise.errors import TrainingError


class _SumOverProcesses(torch.autograd.Function):
    """y = sum of the processes' x; each x reaches every process's y, so dx = sum of their dy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _SumOverProcesses.apply(gradients[0])


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of a tensor over all processes, through which gradients go."""
    total: Tensor = _SumOverProcesses.apply(x)
    return total


def are_several() -> bool:
    """Whether several processes have joined."""
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )


class _Gathered(_BatchNorm):
    """The forward pass that all three layers share; one process alone runs torch's own."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C) or (B, C, ...), B the rows of this process, of the same shape."""
        if not (self.training and are_several()):
            output: Tensor = super().forward(input)
            return output
        self._check_input_dim(input)
        places = [0, *range(2, input.ndim)]
        x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        rows = x.new_tensor([x.numel() / x.shape[1]])
        *sums, count = sum_over_processes(torch.cat([x.sum(places), rows])).split(x.shape[1])
        mean = sums[0] / count
        shape = [1, -1] + [1] * (input.ndim - 2)
        centred = x - mean.view(shape)
        variance = sum_over_processes(centred.square().sum(places)) / count
        if self.track_running_stats:
            self._follow(mean.detach(), variance.detach() * count / (count - 1))
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        normed = centred * scale.view(shape)
        if self.affine:
            normed = normed + self.bias.view(shape)
        return normed.to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics as torch does: an average that fades, or that of all."""
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None and self.running_var is not None
        self.num_batches_tracked += 1
        share = self.momentum
        if share is None:
            share = 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


class GatheredBatchNorm1d(_Gathered, nn.BatchNorm1d):
    """`nn.BatchNorm1d` over all processes: (B, C) or (B, C, L)."""


class GatheredBatchNorm2d(_Gathered, nn.BatchNorm2d):
    """`nn.BatchNorm2d` over all processes: (B, C, H, W)."""


class GatheredBatchNorm3d(_Gathered, nn.BatchNorm3d):
    """`nn.BatchNorm3d` over all processes: (B, C, D, H, W)."""


GATHERED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: GatheredBatchNorm1d,
    nn.BatchNorm2d: GatheredBatchNorm2d,
    nn.BatchNorm3d: GatheredBatchNorm3d,
}
"""The layer of ours that stands in for each of torch's."""


@contextmanager
def gathered_batch_statistics(model: nn.Module) -> Iterator[None]:
    """Make torch's batch norms in `model` take their statistics over all processes, in the block.

    A layer changes its class and nothing else, and changes it back: its weights, its buffers, its
    hooks and its names in a state dict stay what they are. In one process nothing is done.

    Raises:
        TrainingError: a layer is a batch norm of another class, whose statistics would be those of
            a part of the batch.
    """
    changed: list[tuple[nn.Module, type[nn.Module]]] = []
    try:
        for name, layer in model.named_modules() if are_several() else ():
            kind = type(layer)
            if kind in GATHERED:
                changed.append((layer, kind))
                layer.__class__ = GATHERED[kind]
            elif isinstance(layer, _BatchNorm) and not isinstance(
                layer, (_Gathered, nn.SyncBatchNorm)
            ):
                raise TrainingError(
                    f"{name!r} is a {kind.__name__}, whose batch statistics several processes "
                    "cannot gather; use torch.nn's BatchNorm1d, 2d or 3d, or train in one process"
                )
        yield
    finally:
        for layer, kind in changed:
            layer.__class__ = kind
