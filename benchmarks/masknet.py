"""MaskNet against its plain PyTorch form: training steps, predictions, and memory.

The peer is written as public click-through code writes it: one `nn.Embedding` and one
`nn.LayerNorm` a field, one module a mask, joined by `torch.cat`. Both have as many parameters, the
same fused AdamW, clipped gradients and batches.

- training step, serial and parallel, in sizes of fields, vocabulary and rows a step; the last one
  is the first with a hundred times its vocabulary, all of which AdamW moves in every step;
- prediction: `predict`'s blocks of rows against the peer in batches;
- memory: the largest resident size of a process of its own that trains a few steps.
"""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from side_by_side import alternate, line
from stackwise.build.masknet import MaskNet
from stackwise.learning.outputs import mean_values, through_network
from stackwise.training.heap import keeping_memory

SIZES = {
    "10 fields of 1,000 values, batch 256": (10, 1000, 256, 25),
    "24 fields of 2,000 values, batch 512": (24, 2000, 512, 9),
    "40 fields of 5,000 values, batch 1024": (40, 5000, 1024, 5),
    "10 fields of 100,000 values, batch 256": (10, 100_000, 256, 7),
}
K, WIDTH, BLOCKS, REDUCTION = 10, 128, 3, 2
STEPS = 5
PEER = "plain PyTorch"
CACHE = (
    "the products take the same time, but what lies between the layers of all blocks together "
    "outgrows the cache, where that of one block fits; ReLU and product with the mask feel it"
)
AT_ONCE = (
    "what lies between the layers of fused blocks is there for all blocks at once, where separate "
    "modules make it one after the other"
)
BLOCK = (
    "rows go through in blocks of few sizes that give the same bits, so that no prediction depends "
    "on its neighbours; a batch of hundreds makes better use of the matrix products"
)


class PlainBlock(nn.Module):
    """One mask and what it multiplies, each a module."""

    def __init__(self, d: int, z: int) -> None:
        super().__init__()
        t = REDUCTION * z
        self.mask = nn.Sequential(nn.Linear(d, t), nn.ReLU(), nn.Linear(t, z))
        self.hidden = nn.Sequential(nn.Linear(z, WIDTH, bias=False), nn.LayerNorm(WIDTH), nn.ReLU())

    def forward(self, raw: Tensor, h: Tensor) -> Tensor:
        output: Tensor = self.hidden(self.mask(raw) * h)
        return output


class PlainMaskNet(nn.Module):
    """A module for each field's embedding, each norm and each mask."""

    def __init__(self, fields: int, values: int, parallel: bool) -> None:
        super().__init__()
        d = fields * K
        self.parallel = parallel
        self.tables = nn.ModuleList(nn.Embedding(values + 1, K) for _ in range(fields))
        self.norms = nn.ModuleList(nn.LayerNorm(K) for _ in range(fields))
        inputs = [d] * BLOCKS if parallel else [d] + [WIDTH] * (BLOCKS - 1)
        self.blocks = nn.ModuleList(PlainBlock(d, z) for z in inputs)
        self.head = (
            nn.Sequential(nn.Linear(BLOCKS * WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2))
            if parallel
            else nn.Sequential(nn.Linear(WIDTH, 2))
        )

    def forward(self, numeric: Tensor, codes: Tensor) -> Tensor:
        found = [table(codes[:, i]) for i, table in enumerate(self.tables)]
        raw = torch.cat(found, 1)
        h = torch.cat([norm(e) for norm, e in zip(self.norms, found, strict=True)], 1)
        if self.parallel:
            h = torch.cat([block(raw, h) for block in self.blocks], 1)
        else:
            for block in self.blocks:
                h = block(raw, h)
        output: Tensor = self.head(h)
        return output


def made(ours: bool, fields: int, values: int, parallel: bool) -> nn.Module:
    """Ours or the peer of the same size."""
    if not ours:
        return PlainMaskNet(fields, values, parallel)
    return MaskNet(
        n_numeric=0, cardinalities=[values] * fields, n_outputs=2, embedding_dim=K, width=WIDTH,
        blocks=BLOCKS, reduction=REDUCTION, variant="parallel" if parallel else "serial",
        head=[WIDTH],
    )  # fmt: skip


def rows_of(fields: int, values: int, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """No numbers, (rows, fields) codes and (rows,) labels."""
    codes = torch.randint(0, values, (rows, fields))
    return torch.zeros(rows, 0), codes, torch.randint(0, 2, (rows,))


def stepper(model: nn.Module) -> Callable[[Tensor, Tensor, Tensor], object]:
    """What takes one training step on (numbers, codes, labels)."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, fused=True)

    def step(numeric: Tensor, codes: Tensor, label: Tensor) -> None:
        functional.cross_entropy(model(numeric, codes), label).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


@torch.no_grad()
def predict(model: nn.Module, numeric: Tensor, codes: Tensor, batch: int) -> Tensor:
    """(n, 2) probabilities, in batches of rows."""
    parts = zip(numeric.split(batch), codes.split(batch), strict=True)
    return torch.cat([model(*part).double().softmax(1) for part in parts])


def measure_speed(
    case: str, fields: int, values: int, batch: int, repeats: int, threads: int
) -> None:
    """Print the steps and the predictions of one size."""
    torch.manual_seed(0)
    numeric, codes, label = rows_of(fields, values, 4 * batch)
    some = numeric[:batch], codes[:batch], label[:batch]
    for parallel in (False, True):
        ours, peer = (made(own, fields, values, parallel) for own in (True, False))
        sizes = [sum(p.numel() for p in model.parameters()) for model in (ours, peer)]
        assert sizes[0] == sizes[1], sizes
        name = f"{'parallel' if parallel else 'serial'}, {case}"
        steps = [partial(stepper(model), *some) for model in (ours, peer)]
        # as the training loop does; the setting is of the whole process, so the peer has it too
        with keeping_memory(ours):
            found = alternate(*steps, repeats)
        line(f"training step, {name}", *found, PEER, "s", "float32", threads, CACHE)
        reduce = partial(mean_values, classes=True)
        inputs = {"numeric": numeric.numpy(), "categorical": codes.numpy()}
        found = alternate(
            partial(through_network, ours, inputs, reduce),
            partial(predict, peer.eval(), numeric, codes, batch), repeats,
        )  # fmt: skip
        line(f"prediction of {4 * batch} rows, {name}", *found, PEER, "s", "float32", threads,
             BLOCK)  # fmt: skip


def train_a_little(ours: bool, fields: int, values: int, batch: int) -> None:
    """Take some steps of the parallel net and print the largest resident size in MiB."""
    torch.manual_seed(0)
    step = stepper(made(ours, fields, values, parallel=True))
    for _ in range(STEPS):
        step(*rows_of(fields, values, batch))
    status = Path("/proc/self/status").read_text()  # unlike ru_maxrss it forgets the parent process
    print(float(status.partition("VmHWM:")[2].split()[0]) / 1024)


def measure_memory(case: str, fields: int, values: int, batch: int, threads: int) -> None:
    """Print the memory of ours and of the peer, each in a process of its own."""
    found = []
    for ours in (True, False):
        given = [str(value) for value in (int(ours), fields, values, batch)]
        command = [sys.executable, __file__, *given]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found.append(float(done.stdout))
    case = f"memory of a process that trains, parallel, {case}"
    line(case, *np.array(found).tolist(), PEER, "MiB", "float32", threads, AT_ONCE)


def main() -> None:
    """Print a line a case; with numbers as arguments, be the process that is measured."""
    if len(sys.argv) > 1:
        ours, fields, values, batch = map(int, sys.argv[1:])
        train_a_little(bool(ours), fields, values, batch)
        return
    threads = torch.get_num_threads()
    for case, (fields, values, batch, repeats) in SIZES.items():
        measure_speed(case, fields, values, batch, repeats, threads)
        measure_memory(case, fields, values, batch, threads)


if __name__ == "__main__":
    main()
