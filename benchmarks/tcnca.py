"""What a long range costs: dilated convolutions against the FFT, and a whole block against others.

- the operator alone, forward and backward, 1k to 131k moments: a stack that sees an eighth of them
  against one FFT convolution over all, which is what an EMA computes;
- a whole block against its plain form: a loop over chunks, torch's convolution with both sides
  padded and the end cut off, and three linear maps in place of one;
- a whole block against the same size with full causal attention over all moments.
"""

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from side_by_side import alternate, line
from stackwise.build.tcnca import Block, Sizes
from stackwise.layers.dilated_conv import DilatedConv, stack_reaching
from stackwise.layers.moving_average import fft_conv

LENGTHS = {1024: 5, 8192: 3, 131_072: 1}
DIM = 16
FFT = "FFT convolution over all moments"
PLAIN = "the plain form: a loop over chunks"
FULL = "a block of full causal attention (scaled_dot_product_attention)"
SHORT = (
    "four passes over the sequence with the bias, the activation and the sum behind each, against "
    "one FFT: the advantage is one of accelerators"
)
NEAR = "at this length full attention is still cheap: the cost crosses further on"


def trained(module: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    """Forward and backward, to the weights and to x."""
    x = x.clone().requires_grad_()

    def step() -> None:
        module(x).square().mean().backward()
        x.grad = None

    return step


def operator(threads: int) -> None:
    """The stack against the FFT, at a reach of an eighth of the length."""
    for length, repeats in LENGTHS.items():
        kernel, factor, depth = stack_reaching(length // 8)
        stack = DilatedConv(DIM, kernel, factor, depth)
        taps = nn.Parameter(torch.randn(DIM, length) / length**0.5)
        x = torch.randn(1, length, DIM)

        def by_fft(x: Tensor, taps: Tensor = taps) -> Tensor:
            return fft_conv(x.transpose(1, 2), taps).transpose(1, 2)

        found = alternate(trained(stack, x), trained(by_fft, x), repeats)
        case = f"operator, forward and backward, {length:,} moments, {DIM} channels"
        line(case, *found, FFT, "s", "float32", threads, SHORT)
        with torch.no_grad():
            found = alternate(partial(stack, x), partial(by_fft, x), repeats)
        case = f"operator, forward, {length:,} moments, {DIM} channels"
        line(case, *found, FFT, "s", "float32", threads, SHORT)


class PlainBlock(nn.Module):
    """A block of TCNCA as its equations stand, with equal weights and numbers."""

    def __init__(self, of: Block) -> None:
        super().__init__()
        self.of = copy.deepcopy(of)

    def forward(self, x: Tensor) -> Tensor:
        own = self.of.mixing
        read = own.norm(x)
        stack = own.temporal.operator
        flow = read.transpose(1, 2)
        for block, dilation in enumerate(stack.dilations):
            reach = (stack.kernel_size - 1) * dilation
            both = functional.conv1d(
                flow, stack.weight[0, block, 0][:, None], stack.bias[0, block, 0],
                padding=reach, dilation=dilation, groups=flow.shape[1],
            )  # fmt: skip
            flow = flow + both[:, :, : x.shape[1]].relu()
        moved = functional.silu(flow.transpose(1, 2) + own.temporal.omega * read)
        u, q, k, r, hx = own._parts(moved)
        v = functional.silu(own.value(read))
        size = own.attend.chunk
        places = torch.arange(size)
        hidden = torch.ones(size, size).triu(1).bool()
        found = []
        for start in range(0, x.shape[1], size):
            part = slice(start, start + size)
            scores = q[:, part] @ k[:, part].transpose(1, 2) / q.shape[-1] ** 0.5
            scores = (scores + own.attend.bias(places, places)).masked_fill(hidden, -torch.inf)
            found.append(scores.softmax(-1) @ v[:, part])
        h = functional.silu(hx + own.output(torch.cat(found, 1) * r))
        return self.of.feed_forward(x + u * (h - x))


class FullAttention(nn.Module):
    """Pre-norm causal attention over everything, and the same feed-forward part."""

    def __init__(self, dim: int, heads: int, of: Block) -> None:
        super().__init__()
        self.norm, self.heads = nn.LayerNorm(dim), heads
        self.into, self.output = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.feed_forward = copy.deepcopy(of.feed_forward)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.into(self.norm(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = (one.transpose(1, 2) for one in parts.unbind(2))
        found = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.feed_forward(x + self.output(found.transpose(1, 2).flatten(2)))


def block(threads: int) -> None:
    """A whole block, forward and backward."""
    for length, repeats in ((1024, 3), (4096, 1), (16_384, 1)):
        kernel, factor, depth = stack_reaching(length // 8)
        sizes = Sizes(
            dim=32, v_dim=64, z_dim=16, ffn_dim=64, chunk=64, kernel_size=kernel,
            dilation_factor=factor, depth=depth,
        )  # fmt: skip
        ours, x = Block(sizes), torch.randn(1, length, 32)
        plain, full = PlainBlock(ours), FullAttention(32, 2, ours)
        assert torch.allclose(ours(x), plain(x), atol=1e-4)
        case = f"a block, forward and backward, {length:,} moments"
        step = trained(ours, x)
        line(case, *alternate(step, trained(plain, x), repeats), PLAIN, "s", "float32", threads)
        line(case, *alternate(step, trained(full, x), repeats), FULL, "s", "float32", threads, NEAR)


def main() -> None:
    """Print a line a case."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    operator(threads)
    block(threads)


if __name__ == "__main__":
    main()
