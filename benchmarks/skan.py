"""S-KAN against pykan and the plain forms of efficient-kan and FastKAN, of one family and size.

- training step and prediction of a network of splines against pykan's with its symbolic branch off,
  and against the Cox-de Boor form that efficient-kan is known for;
- the same of Gaussians against the form of FastKAN, without its normalisation over the inputs;
- a pool of five families after pruning against before, both ours;
- a pool of five families on one-hot categories against the same without the look-up of their two
  values, both ours.

All are in float32 with the same fused AdamW and rows. The plain forms are written from their
definitions.
"""

import copy
import itertools
from collections.abc import Callable
from functools import partial

import torch
from kan import KAN
from torch import Tensor, nn
from torch.nn import functional as F

from side_by_side import alternate, line
from stackwise.build.skan import SKAN
from stackwise.build.skan.gates import top

SIZES = {
    "10-16-1, 128 rows": ([10, 16, 1], 128, 41),
    "30-64-1, 256 rows": ([30, 64, 1], 256, 15),
    "100-128-10, 512 rows": ([100, 128, 10], 512, 5),
}
TABLES = {
    "4 numbers and 8 categories of 10, 256 rows": (4, [10] * 8, 256, 15),
    "8 numbers and 12 categories of 50, 256 rows": (8, [50] * 12, 256, 7),
}
POOL = ["bspline", "rbf", "cheby", "wavelet", "relu"]
FLOOR = (
    "ours finds the families of a layer and their weights by name in each call; on a small network "
    "that fixed cost shows"
)


class PlainSplines(nn.Module):
    """silu base and cubic splines by the Cox-de Boor recurrence on stored knots."""

    def __init__(self, n_in: int, n_out: int, grid: int = 5) -> None:
        super().__init__()
        knots = torch.arange(-3, grid + 4) * 2 / grid - 1
        self.register_buffer("knots", knots.expand(n_in, -1).contiguous())
        self.base = nn.Parameter(torch.randn(n_out, n_in) * 0.1)
        self.spline = nn.Parameter(torch.randn(n_out, n_in, grid + 3) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        t, u = self.knots, x[..., None]
        values = ((u >= t[:, :-1]) & (u < t[:, 1:])).to(x.dtype)
        for k in range(1, 4):
            left = (u - t[:, : -k - 1]) / (t[:, k:-1] - t[:, : -k - 1])
            right = (t[:, k + 1 :] - u) / (t[:, k + 1 :] - t[:, 1:-k])
            values = left * values[..., :-1] + right * values[..., 1:]
        return F.linear(F.silu(x), self.base) + F.linear(values.flatten(1), self.spline.flatten(1))


class PlainGaussians(nn.Module):
    """A linear layer of Gaussians and one of silu, as FastKAN has them."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(-2, 2, 8))
        self.spline = nn.Linear(8 * n_in, n_out, bias=False)
        self.base = nn.Linear(n_in, n_out)

    def forward(self, x: Tensor) -> Tensor:
        values = torch.exp(-(((x[..., None] - self.centres) / (4 / 7)) ** 2))
        output: Tensor = self.spline(values.flatten(1)) + self.base(F.silu(x))
        return output


def plain(layer: type[nn.Module], widths: list[int]) -> nn.Module:
    """Layers of one form."""
    pairs = itertools.pairwise(widths)
    return nn.Sequential(*(layer(before, after) for before, after in pairs))


def ours(widths: list[int], pool: list[str]) -> SKAN:
    """Ours of the same widths."""
    return SKAN(n_numeric=widths[0], hidden=widths[1:-1], n_outputs=widths[-1], pool=pool)


def everything_kept(network: SKAN) -> SKAN:
    """A network of one family as it is after its last phase."""
    for layer in network.selectable:
        layer.kept = torch.ones_like(layer.gates, dtype=torch.bool)
    return network.pruned()


def pruned(network: SKAN) -> SKAN:
    """Each node keeps a family at random."""
    for layer in network.selectable:
        layer.kept = top(torch.rand_like(layer.gates), 1)
    return network.pruned()


def stepper(forward: Callable[[Tensor], Tensor], model: nn.Module) -> Callable[..., object]:
    """What takes one training step on (x, y)."""
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-3, weight_decay=0.0, fused=True)

    def step(x: Tensor, y: Tensor) -> None:
        (forward(x) - y).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def measure(case: str, widths: list[int], rows: int, repeats: int, threads: int) -> None:
    """Print the cases of one size."""
    torch.manual_seed(0)
    x, y = 2 * torch.rand(rows, widths[0]) - 1, torch.randn(rows, widths[-1])
    none = torch.zeros(rows, 0, dtype=torch.int64)
    splines = everything_kept(ours(widths, ["bspline"]))
    gaussians = everything_kept(ours(widths, ["rbf"]))
    theirs = KAN(width=list(widths), grid=5, k=3, symbolic_enabled=False, auto_save=False, seed=0)
    theirs.speed()
    mixture = ours(widths, POOL)
    pairs = [
        ("splines", splines, theirs, "pykan"),
        ("splines", splines, plain(PlainSplines, widths), "efficient-kan form"),
        ("Gaussians", gaussians, plain(PlainGaussians, widths), "FastKAN form"),
        ("pruned pool of five", pruned(mixture), mixture, "the pool before pruning"),
    ]
    for family, own, peer, name in pairs:
        through = partial(_through, own, none)
        other = partial(_through, peer, none) if isinstance(peer, SKAN) else peer
        steps = [partial(stepper(f, m), x, y) for f, m in ((through, own), (other, peer))]
        turns = min(repeats, 7) if name == "pykan" else repeats
        line(f"training step, {family}, {case}", *alternate(*steps, turns), name, "s", "float32",
             threads, FLOOR)  # fmt: skip
        with torch.no_grad():
            found = alternate(partial(through, x), partial(other, x), turns)
        line(f"prediction, {family}, {case}", *found, name, "s", "float32", threads, FLOOR)


def measure_categories(
    case: str, numbers: int, cardinalities: list[int], rows: int, repeats: int, threads: int
) -> None:
    """Print the cases of a table with categories."""
    torch.manual_seed(0)
    network = SKAN(n_numeric=numbers, cardinalities=cardinalities, pool=POOL)
    by_bases = copy.deepcopy(network)
    by_bases.layers[0].two_valued = 0  # inputs of which nothing is known
    x, y = 2 * torch.rand(rows, numbers) - 1, torch.randn(rows, 1)
    codes = torch.stack([torch.randint(0, size, (rows,)) for size in cardinalities], 1)
    both = [partial(_through, model, codes) for model in (network, by_bases)]
    steps = [
        partial(stepper(forward, model), x, y)
        for forward, model in zip(both, (network, by_bases), strict=True)
    ]
    name = "bases for each row"
    line(f"training step, pool of five, {case}", *alternate(*steps, repeats), name, "s",
         "float32", threads)  # fmt: skip
    with torch.no_grad():
        found = alternate(*(partial(forward, x) for forward in both), repeats)
    line(f"prediction, pool of five, {case}", *found, name, "s", "float32", threads)


def _through(network: SKAN, none: Tensor, x: Tensor) -> Tensor:
    output: Tensor = network(x, none)
    return output


def main() -> None:
    """Print a line a case."""
    threads = torch.get_num_threads()
    for case, (widths, rows, repeats) in SIZES.items():
        measure(case, widths, rows, repeats, threads)
    for case, table in TABLES.items():
        measure_categories(case, *table, threads)


if __name__ == "__main__":
    main()
