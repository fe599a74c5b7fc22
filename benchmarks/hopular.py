"""Hopular against its plain PyTorch form: training steps, predictions, and memory.

The peer has the same embedding and the same blocks with torch's `nn.MultiheadAttention`, computes
everything at once and keeps nothing between predictions.

- training step: all rows in one batch, each leaving itself out, in sizes of rows and columns;
- prediction: `predict`'s blocks of rows with keys and values kept, against the peer in batches that
  embed the memory anew;
- memory: the largest resident size of a process of its own that takes training steps with
  `memory="chunked"`, against the peer's.
"""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from side_by_side import alternate, line
from stackwise.build.hopular import Hopular
from stackwise.build.hopular.masking import target_loss
from stackwise.learning.outputs import mean_values, through_network
from stackwise.training.lamb import Lamb

SIZES = {
    "200 rows of 8 columns": (200, 8, 25),
    "400 rows of 16 columns": (400, 16, 9),
    "800 rows of 32 columns": (800, 32, 4),
}
E, HEADS, BLOCKS = 8, 4, 2
LARGE = 4000
PEER = "plain PyTorch"
BLOCK = (
    "rows go through in blocks of 64, so that no prediction depends on its neighbours; a batch of "
    "all rows makes better use of the matrix products"
)
PACKED = (
    "torch's attention packs the projections of keys and values into one product; recordings of "
    "one size also differ by a tenth from time to time"
)


class PlainBlock(nn.Module):
    """Both lookups as torch's attention."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.sample_norm, self.feature_norm = nn.LayerNorm(d), nn.LayerNorm(E)
        self.samples = nn.MultiheadAttention(d, HEADS, batch_first=True)
        self.features = nn.MultiheadAttention(E, HEADS, batch_first=True)

    def forward(self, xi: Tensor, embedded: Tensor, memory: Tensor, hidden: Tensor) -> Tensor:
        u = self.sample_norm(xi.flatten(1))[None]
        stored = self.sample_norm(memory)[None]
        xi = (u + self.samples(u, stored, stored, attn_mask=hidden)[0])[0].view_as(xi)
        v, own = self.feature_norm(xi), self.feature_norm(embedded)
        output: Tensor = v + self.features(v, own, own)[0]
        return output


class Plain(nn.Module):
    """Hopular with one module a part, everything at once; it borrows the embedding of ours."""

    def __init__(self, ours: Hopular) -> None:
        super().__init__()
        self.ours = ours
        d = ours.attributes * E
        self.blocks = nn.ModuleList(PlainBlock(d) for _ in range(BLOCKS))
        self.norm, self.answer = nn.LayerNorm(d), nn.Linear(d, sum(ours.sizes))

    def forward(self, numeric: Tensor, categorical: Tensor, hide: bool = False) -> Tensor:
        memory = self.ours.embedded_memory()
        embedded = self.ours._embed(self.ours.unknown(numeric, categorical))
        hidden = torch.zeros(len(numeric), len(memory), dtype=torch.bool)
        if hide:
            hidden.fill_diagonal_(True)
        xi = embedded
        for block in self.blocks:
            xi = block(xi, embedded, memory, hidden)
        answer: Tensor = self.answer(self.norm(functional.gelu(xi.flatten(1))))
        return answer


def made(rows: int, columns: int, memory: str = "full") -> tuple[Hopular, Tensor, Tensor, Tensor]:
    """A network that remembers random rows, and those rows."""
    torch.manual_seed(0)
    network = Hopular(
        n_numeric=columns, n_outputs=1, memory_rows=rows, feature_dim=E, heads=HEADS,
        blocks=BLOCKS, dropout=(0.0, 0.0, 0.0), memory=memory,
    )  # fmt: skip
    x, y = torch.randn(rows, columns), torch.randn(rows)
    codes = torch.zeros(rows, 0, dtype=torch.int64)
    return network.remember(x, codes, y), x, codes, y


def stepper(model: nn.Module, answers: Callable[[], Tensor], of: Hopular, y: Tensor) -> Callable[
    [], None
]:  # fmt: skip
    """What takes one training step on all rows."""
    optimizer = Lamb(model.parameters(), lr=1e-3, weight_decay=0.1)
    weight = torch.ones_like(y)

    def step() -> None:
        target_loss(of, answers(), y, weight).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def steps(rows: int, columns: int, memory: str = "full") -> tuple[Callable[[], None], ...]:
    """Ours and the plain one."""
    ours, x, codes, y = made(rows, columns, memory)
    own = torch.arange(rows)
    mine = stepper(
        ours, lambda: ours.attribute_answers(ours.unknown(x, codes), own=own), ours, y
    )  # fmt: skip
    other = made(rows, columns)[0]
    plain = Plain(other)
    return mine, stepper(plain, lambda: plain(x, codes, hide=True), other, y)


def measure(case: str, rows: int, columns: int, repeats: int, threads: int) -> None:
    """Print the steps and the predictions of one size."""
    line(f"training step, {case}", *alternate(*steps(rows, columns), repeats), PEER, "s", "float32",
         threads, PACKED)  # fmt: skip
    ours, x, codes, _ = made(rows, columns)
    plain = Plain(made(rows, columns)[0]).eval()
    ours.eval()
    reduce = partial(mean_values, classes=False)
    few, arrays = x[:64], (x[:64].numpy(), codes[:64].numpy())

    def peer() -> Tensor:
        with torch.no_grad():
            return plain(few, codes[:64])

    inputs = dict(zip(("numeric", "categorical"), arrays))
    found = alternate(lambda: through_network(ours, inputs, reduce), peer, repeats)
    line(f"prediction of 64 rows, {case}", *found, PEER, "s", "float32", threads, BLOCK)


def peak(which: int) -> float:
    """MiB of a process that takes two steps on many rows: 0 ours in stretches, 1 the plain one."""
    code = (
        "import resource, sys, torch; torch.set_num_threads(1); "
        f"sys.path.insert(0, {str(Path(__file__).parent)!r}); "
        "import importlib; bench = importlib.import_module('hopular'); "
        f"step = bench.steps({LARGE}, 8, 'chunked')[{which}]; step(); step(); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Print a line a case."""
    threads = torch.get_num_threads()
    for case, (rows, columns, repeats) in SIZES.items():
        measure(case, rows, columns, repeats, threads)
    line(f"peak memory of steps on {LARGE:,} rows of 8 columns, chunked", peak(0), peak(1), PEER,
         "MiB", "float32", threads)  # fmt: skip


if __name__ == "__main__":
    main()
