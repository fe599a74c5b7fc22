"""Residual layers side by side against the same layers one after the other, and against branches
that are summed one by one, in plain torch.
"""

from collections.abc import Callable

import torch
from torch import nn

from side_by_side import alternate, line
from stackwise.shrink.shallow_again import ShallowNet

SIZES = {
    "8 layers of 8 filters, 14 x 14": (8, 8, 14),
    "8 layers of 16 filters, 28 x 28": (8, 16, 28),
    "8 layers of 64 filters, 28 x 28": (8, 64, 28),
}
ROWS = (1, 64)


class Branches(nn.Module):
    """The plainest form: x + the sum of what each layer makes of x."""

    def __init__(self, net: ShallowNet) -> None:
        super().__init__()
        self.lift, self.pool, self.head = net.lift, net.pool, net.head
        self.convs = nn.ModuleList([block.conv for block in net.blocks.children()])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.lift(pixels)
        x = x + sum(conv(x).relu() for conv in self.convs)
        return self.head(self.pool(x).flatten(1))


def network(mode: str, depth: int, filters: int, side: int) -> ShallowNet:
    torch.manual_seed(0)
    return ShallowNet(
        channels=1, image_size=(side, side), n_outputs=10, depth=depth, filters=filters, mode=mode
    ).eval()


def forward(net: nn.Module, pixels: torch.Tensor, count: int) -> Callable[[], None]:
    """So many passes."""

    def passes() -> None:
        with torch.inference_mode():
            for _ in range(count):
                net(pixels)

    return passes


def learning(net: nn.Module, pixels: torch.Tensor) -> Callable[[], None]:
    """A pass and its gradients."""
    target = torch.arange(len(pixels)) % 10

    def step() -> None:
        net.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(net(pixels), target).backward()

    return step


def main() -> None:
    """Print a line a case."""
    threads = torch.get_num_threads()
    for name, (depth, filters, side) in SIZES.items():
        ours = network("parallel", depth, filters, side)
        peers = {
            "branches summed one by one": Branches(ours),
            "the deep stack": network("sequential", depth, filters, side),
        }
        for rows in ROWS:
            pixels = torch.randn(rows, 1, side, side)
            with torch.inference_mode():
                plain = peers["branches summed one by one"](pixels)
                assert torch.allclose(plain, ours(pixels), rtol=1e-4, atol=1e-4)
            repeats, count = (101, 5) if rows == 1 else (9, 1)
            for what, peer in peers.items():
                pair = (forward(ours, pixels, count), forward(peer, pixels, count))
                line(f"forward, {name}, batch {rows}", *alternate(*pair, repeats), what, "s",
                     "float32", threads, "as many operations on both sides")  # fmt: skip
        pixels = torch.randn(64, 1, side, side)
        what = "branches summed one by one"
        pair = (learning(ours, pixels), learning(peers[what], pixels))
        line(f"forward and backward, {name}, batch 64", *alternate(*pair, 9), what, "s", "float32",
             threads, "as many operations on both sides")  # fmt: skip


if __name__ == "__main__":
    main()
