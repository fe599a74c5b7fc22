"""Mixing and shifting against its plain form: ten rolls, ten depthwise convolutions, two joins.

The peer is written as the public code has it. Both have the same weights and give the same numbers.
Ours convolves once where the shift is 0, takes a product where the window is 1, and joins once.

- a training step of mixing alone, at the maps of the stages of `tiny` (224 pixels);
- a training step and a prediction of the whole network `pico` on 28 x 28 pictures;
- beside them one 7 x 7 depthwise convolution, as ConvNeXt has it: what a user would take instead.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from side_by_side import alternate, line
from stackwise.build.ms_mlp import MSMLP, MixShift
from stackwise.build.ms_mlp.network import MIXING

STAGES = {
    "stage 1, 96 x 56 x 56, batch 8": (0, 96, 56, 8, 7),
    "stage 2, 192 x 28 x 28, batch 8": (1, 192, 28, 8, 9),
    "stage 3, 384 x 14 x 14, batch 16": (2, 384, 14, 16, 9),
    "stage 4, 768 x 7 x 7, batch 16": (3, 768, 7, 16, 9),
}
PLAIN, CONVNEXT = "ten rolls and ten convolutions", "one 7 x 7 depthwise convolution"
MANY = (
    "eight convolutions of a fifth of the channels each, and copies for shifts, against one call: "
    "growing windows are not free"
)


class PlainMixShift(nn.Module):
    """A roll and a convolution for each group in each branch, then the sum of both."""

    def __init__(self, of: MixShift) -> None:
        super().__init__()
        self.widths, self.shifts = of.widths, of.shifts
        self.horizontal, self.vertical = of.horizontal, of.vertical

    def forward(self, x: Tensor) -> Tensor:
        branches = []
        for axis, kernels in ((3, self.horizontal), (2, self.vertical)):
            parts = [
                torch.roll(part, shift, axis)
                for part, shift in zip(x.split(self.widths, 1), self.shifts, strict=True)
            ]
            branches.append(
                torch.cat([kernel(p) for kernel, p in zip(kernels, parts, strict=True)], 1)
            )  # fmt: skip
        return branches[0] + branches[1]


def trained(module: nn.Module, x: Tensor) -> Callable[[], None]:
    """Forward and backward, to the weights and to x."""
    x = x.clone().requires_grad_()

    def step() -> None:
        module(x).square().mean().backward()
        module.zero_grad(set_to_none=True)
        x.grad = None

    return step


def mixing(threads: int) -> None:
    """Mixing alone, at each stage."""
    for case, (stage, width, side, batch, repeats) in STAGES.items():
        ours = MixShift(width, sizes=MIXING["growing"][stage])
        peer = PlainMixShift(copy.deepcopy(ours))
        window = nn.Conv2d(width, width, 7, padding=3, groups=width)
        x = torch.randn(batch, width, side, side)
        assert torch.allclose(ours(x), peer(x), atol=1e-5)
        case = f"forward and backward of mixing, {case}"
        found = alternate(trained(ours, x), trained(peer, x), repeats)
        line(case, *found, PLAIN, "s", "float32", threads)
        found = alternate(trained(ours, x), trained(window, x), repeats)
        line(case, *found, CONVNEXT, "s", "float32", threads, MANY)


def network(threads: int) -> None:
    """The whole of `pico`."""
    ours = MSMLP(size="pico", channels=1, n_outputs=10, image_size=28)
    plain, convnext = copy.deepcopy(ours), copy.deepcopy(ours)
    for mine, rolled, window in zip(ours.blocks, plain.blocks, convnext.blocks, strict=True):
        width = len(mine.gamma)
        rolled.mix = PlainMixShift(rolled.mix)
        window.mix = nn.Conv2d(width, width, 7, padding=3, groups=width)
    x, y = torch.randn(64, 1, 28, 28), torch.randint(0, 10, (64,))
    for peer, name in ((plain, PLAIN), (convnext, CONVNEXT)):
        steps = []
        for model in (ours, peer):
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

            def step(model: nn.Module = model, optimizer: torch.optim.AdamW = optimizer) -> None:
                functional.cross_entropy(model(x), y).backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

            steps.append(step)
        line("training step, pico, 64 pictures of 28 x 28", *alternate(*steps, 15), name, "s",
             "float32", threads, MANY)  # fmt: skip
        with torch.no_grad():
            found = alternate(lambda: ours(x), lambda peer=peer: peer(x), 25)
        line("prediction, pico, 64 pictures of 28 x 28", *found, name, "s", "float32", threads,
             MANY)  # fmt: skip


def main() -> None:
    """Print a line a case."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    mixing(threads)
    network(threads)


if __name__ == "__main__":
    main()
