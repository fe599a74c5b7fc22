"""Convolutions of S-KAN against unfolded and per-edge ones, and against plain convolutions.

- a layer of one family against the form that unfolds pictures and puts every tap through the bases
  (as the authors' layers do), and against one that evaluates the function of each edge by itself;
- the same against a plain convolution of equal width (asked was at most twice the families kept,
  times its cost), and against one with as many products, which takes C K channels;
- a pool of five families after pruning against before, both ours.

All are in float32 on the same pictures; a step is forward, backward and gradients of the weights.
The peers are written in plain torch from their definitions.
"""

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from side_by_side import alternate, line
from stackwise.build.skan import SelectableKANConv2d
from stackwise.build.skan.gates import top

SIZES = {
    "1 to 16 channels, 28 x 28, 32 pictures": (1, 16, 28, 32, 9),
    "16 to 32 channels, 14 x 14, 32 pictures": (16, 32, 14, 32, 9),
    "32 to 64 channels, 7 x 7, 32 pictures": (32, 64, 7, 32, 9),
}
BY_EDGE = {"4 to 8 channels, 14 x 14, 8 pictures": (4, 8, 14, 8, 5)}
POOL = ["bspline", "rbf", "cheby", "wavelet", "relu"]
SHOWN = ("bspline", "rbf", "cheby")
MORE = (
    "a function of K = {size} coefficients is {size} products where a plain tap is one, and the "
    "maps are to be made, kept and gone through backwards; the {what} takes {times:.1f} times as "
    "long where 2 was asked"
)
MAPS = (
    "the {size} maps of a channel are to be made, kept and gone through backwards, which takes "
    "about as long as the products of so narrow a layer; the {what} takes {times:.1f} times as long"
)


class Unfolded(nn.Module):
    """Patches, then every value of a patch through the bases, then one matrix product."""

    def __init__(self, like: SelectableKANConv2d) -> None:
        super().__init__()
        self.side, self.padding = like.taps[0], like.padding[0]
        (family,) = like.pool
        self.basis = copy.deepcopy(like.bases[family])
        self.weight = nn.Parameter(like.coefficients[family].detach().flatten(1))
        self.base = nn.Parameter(like.base.weight.detach().flatten(1))
        self.bias = nn.Parameter(like.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        patches = F.unfold(x, self.side, padding=self.padding).transpose(1, 2)
        taps = self.side**2
        by_channel = patches.unflatten(2, (-1, taps)).transpose(2, 3)  # bases are a channel's
        values = self.basis(by_channel).transpose(2, 3).flatten(2)
        y = F.linear(values, self.weight, self.bias) + F.linear(F.silu(patches), self.base)
        return y.transpose(1, 2).unflatten(2, x.shape[-2:])


class ByEdge(Unfolded):
    """Each edge has a function of its own, which is evaluated for it alone."""

    def forward(self, x: Tensor) -> Tensor:
        patches = F.unfold(x, self.side, padding=self.padding).transpose(1, 2)
        taps = self.side**2
        weight = self.weight.unflatten(1, (-1, taps, self.basis.size))
        found = []
        for output in range(len(weight)):
            total = F.silu(patches) @ self.base[output] + self.bias[output]
            for channel in range(weight.shape[1]):
                for tap in range(taps):
                    value = patches[..., channel * taps + tap, None]
                    total = total + self.basis(value)[..., 0, :] @ weight[output, channel, tap]
            found.append(total)
        return torch.stack(found, 1).unflatten(2, x.shape[-2:])


def layer(before: int, after: int, pool: list[str]) -> SelectableKANConv2d:
    """Ours, with a border of zeros around the picture as the unfolded form has it."""
    return SelectableKANConv2d(before, after, 3, padding=1, pool=pool)


def kept(of: SelectableKANConv2d) -> nn.Module:
    """A layer as it is after pruning, a family a channel at random."""
    of.kept = top(torch.rand_like(of.gates), 1)
    return of.pruned()


def step(model: nn.Module, x: Tensor) -> None:
    """Forward, backward, and no update."""
    model(x).square().mean().backward()
    model.zero_grad(set_to_none=True)


def compare(
    case: str,
    ours: nn.Module,
    peer: nn.Module,
    name: str,
    x: Tensor,
    repeats: int,
    why: str | None = None,
    peer_x: Tensor | None = None,
) -> None:
    """Print a training step and a prediction of both.

    Args:
        why: ours takes longer. peer_x: what the peer takes, where it takes something else.
    """
    other_x = x if peer_x is None else peer_x
    inner, other_inner = x.clone().requires_grad_(), other_x.clone().requires_grad_()
    threads = torch.get_num_threads()

    def row(what: str, actions: tuple[Callable[[], object], Callable[[], object]]) -> None:
        own, other = alternate(*actions, repeats)
        reason = why and why.format(what=what, times=own / other)
        line(f"{what}, {case}", own, other, name, "s", "float32", threads, reason)

    row("training step", (partial(step, ours, inner), partial(step, peer, other_inner)))
    with torch.no_grad():
        row("prediction", (partial(ours, x), partial(peer, other_x)))


def main() -> None:
    """Print a line a case."""
    torch.manual_seed(0)
    for case, (before, after, side, rows, repeats) in SIZES.items():
        x = 2 * torch.rand(rows, before, side, side) - 1
        for family in SHOWN:
            of = layer(before, after, [family])
            assert torch.allclose(of(x), Unfolded(of)(x), atol=1e-4)
            pruned = kept(of)
            compare(f"{family}, {case}", pruned, Unfolded(of), "unfolded form", x, repeats)
            size = of.bases[family].size
            plain = nn.Conv2d(before, after, 3, padding=1)
            why = MORE.replace("{size}", str(size))
            compare(f"{family}, {case}", pruned, plain, "plain convolution", x, repeats, why)
            wide = nn.Conv2d(before * size, after, 3, padding=1)
            maps = torch.rand(rows, before * size, side, side)
            name, why = "plain convolution of C K channels", MAPS.replace("{size}", str(size))
            compare(f"{family}, {case}", pruned, wide, name, x, repeats, why, maps)
        pool = layer(before, after, POOL)
        compare(f"pruned pool of five, {case}", kept(copy.deepcopy(pool)), pool,
                "the pool before pruning", x, repeats)  # fmt: skip
    for case, (before, after, side, rows, repeats) in BY_EDGE.items():
        x = 2 * torch.rand(rows, before, side, side) - 1
        of = layer(before, after, ["rbf"])
        assert torch.allclose(of(x), ByEdge(of)(x), atol=1e-4)
        compare(f"rbf, {case}", kept(of), ByEdge(of), "function by function", x, repeats)


if __name__ == "__main__":
    main()
