"""SEPC: deformable sampling against a loop of nine samplings, and heads against a plain head.

- deformable convolution, forward alone, and forward and backward: ours in both of its forms against
  nine calls of `grid_sample`, each met by its tap's weights. Same weights, same numbers.
- a head at batch 1 (latency) and at batch 16 (throughput): towers of four convolutions, as
  RetinaNet's, against four pyramid convolutions and the branches, which multiply as often.

The plain head is the faster peer: deformable heads pay for samples, which no product of matrices
takes.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from side_by_side import alternate, line
from stackwise.layers.deformable import Form, deform_conv2d
from stackwise.layers.pyramid import SEPC
from stackwise.layers.pyramid.levels import halved
from stackwise.tasks.detection.heads.dense import tower

MAPS = {
    "24 channels, 12 x 12, batch 16": (16, 24, 12),
    "32 channels, 24 x 24, batch 8": (8, 32, 24),
    "64 channels, 48 x 48, batch 2": (2, 64, 48),
}
LOOP, HEAD = "a loop of nine grid_samples", "a plain head of two towers of four convolutions"
SMALL = "a pyramid of small maps: fifteen small convolutions in the place of few large ones"
SAMPLES = "a sample is four values of memory and no product of matrices"
TRAINED = "scattering the gradient of four corners a sample costs the same either way"


def by_loop(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """Nine samplings, each met by the weights of its tap."""
    height, width = x.shape[-2:]
    batch, _, tall, wide = offset.shape
    moves = offset.view(batch, 9, 2, tall, wide)
    rows = torch.arange(tall).view(-1, 1)
    columns = torch.arange(wide).view(1, -1)
    total = x.new_zeros(())
    for tap in range(9):
        y = rows + tap // 3 - 1 + moves[:, tap, 0]
        z = columns + tap % 3 - 1 + moves[:, tap, 1]
        grid = torch.stack([(2 * z + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
        sampled = functional.grid_sample(x, grid, align_corners=False)
        total = total + functional.conv2d(sampled, weight[:, :, tap // 3, tap % 3, None, None])
    return total


class Sampled:
    """One map, offsets and weights, convolved by a form of ours or by the loop."""

    def __init__(self, batch: int, channels: int, side: int) -> None:
        self.x = torch.randn(batch, channels, side, side, requires_grad=True)
        self.offset = torch.randn(batch, 18, side, side, requires_grad=True)
        self.weight = torch.randn(channels, channels, 3, 3, requires_grad=True)

    def convolved(self, form: Form | None) -> Tensor:
        """By the loop where there is no form."""
        if form is None:
            return by_loop(self.x, self.offset, self.weight)
        return deform_conv2d(self.x, self.offset, self.weight, form=form)

    def alone(self, form: Form | None) -> Callable[[], object]:
        """Forward, without gradients."""
        return torch.no_grad()(lambda: self.convolved(form))

    def learned(self, form: Form | None) -> Callable[[], object]:
        """Forward and backward, to all three."""

        def run() -> None:
            self.convolved(form).sum().backward()
            for one in (self.x, self.offset, self.weight):
                one.grad = None

        return run


def sampling(threads: int) -> None:
    """Deformable convolution alone."""
    forms: tuple[Form, ...] = ("auto", "grid", "rows")
    for case, sizes in MAPS.items():
        one = Sampled(*sizes)
        for form in forms:
            assert torch.allclose(one.convolved(form), one.convolved(None), atol=2e-3)
        for words, made in (("forward", one.alone), ("forward and backward", one.learned)):
            for form in forms:
                found = alternate(made(form), made(None), 9)
                line(f"deformable convolution, {words}, form {form}, {case}", *found, LOOP, "s",
                     "float32", threads, TRAINED)  # fmt: skip


class PlainHead(nn.Module):
    """Two towers of four convolutions on every level."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.classes, self.boxes = tower(channels, 4), tower(channels, 4)

    def forward(self, levels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        return [self.classes(one) for one in levels], [self.boxes(one) for one in levels]


def pyramid(batch: int, channels: int, side: int, levels: int) -> list[Tensor]:
    """Levels from `side` x `side` down."""
    found = [torch.randn(batch, channels, side, side)]
    while len(found) < levels:
        found.append(torch.randn(batch, channels, *halved(found[-1])))
    return found


def multiplications(module: nn.Module, levels: list[Tensor]) -> float:
    """Million multiplications of one picture."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(levels)
    return counter.get_total_flops() / 2e6 / len(levels[0])


def heads(threads: int) -> None:
    """Whole heads, five levels."""
    for channels, side in ((32, 16), (64, 32)):
        plain = PlainHead(channels).eval()
        for batch in (1, 16):
            levels = pyramid(batch, channels, side, 5)
            for fusion in ("pconv", "ibn", "lite", "full"):
                ours = SEPC(channels, depth=4, fusion=fusion).eval()  # type: ignore[arg-type]
                counts = (multiplications(one, levels) for one in (ours, plain))
                mine, theirs = (f"{one:.0f}" for one in counts)
                with torch.no_grad():
                    found = alternate(
                        lambda ours=ours, levels=levels: ours(levels),
                        lambda plain=plain, levels=levels: plain(levels),
                        7 if batch == 1 else 3,
                    )
                case = (
                    f"head, {fusion}, {channels} channels, levels from {side} x {side}, "
                    f"batch {batch}: {mine} and {theirs} million multiplications a picture"
                )
                line(case, *(one / batch for one in found), HEAD, "s a picture", "float32", threads,
                     SMALL if fusion in ("pconv", "ibn") else SAMPLES)  # fmt: skip


def main() -> None:
    """Print a line a case."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    sampling(threads)
    heads(threads)


if __name__ == "__main__":
    main()
