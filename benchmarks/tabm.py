"""TabM against the authors' package: training steps, predictions, and the error after training.

- training step: both in float32 with the same fused AdamW and clipped gradients, in three sizes;
- training step in bfloat16: ours under autocast, the package in float32;
- prediction: `predict`'s blocks of rows against the package in batches, both in float32;
- prediction in bfloat16: ours under autocast, the package in float32;
- test error: ours in both types and the package in float32, trained from the same weights by the
  same steps on diamonds: whether the speed above is at equal error.
"""

import copy
import importlib
import sys
from collections.abc import Callable
from functools import partial
from statistics import mean

import numpy as np
import torch
from torch import Tensor, nn

from side_by_side import alternate, line
from stackwise.build.tabm import TabM
from stackwise.build.tabm.precision import measured_gain
from stackwise.learning.outputs import mean_values, through_network
from stackwise.tasks.table.features.contract import FeatureContract
from stackwise.tasks.table.task import TableTask

SIZES = {
    "k=8, 3 blocks of 128, batch 128": (8, 128, 128, 41),
    "k=16, 3 blocks of 256, batch 256": (16, 256, 256, 15),
    "k=32, 3 blocks of 512, batch 256": (32, 512, 256, 9),
}
FEATURES, CATEGORIES = 12, [4, 7, 9]
SEEDS, STEPS = (0, 1, 2), 150
BLOCKS = (
    "rows go through in blocks of few sizes that give the same bits, so that no prediction depends "
    "on its neighbours; a small network shows that fixed cost"
)
SLOW = (
    f"this processor multiplies bfloat16 {measured_gain():.2f} times as fast as float32 (it has no "
    "tiles for it), so that precision=auto trains in float32 here"
)


def _package() -> type[nn.Module]:
    """The authors' TabM; its package has the name of this script."""
    here = sys.path.pop(0)
    try:
        found: type[nn.Module] = importlib.import_module("tabm").TabM
    finally:
        sys.path.insert(0, here)
    return found


Package = _package()


def pair(numbers: int, categories: list[int], k: int, width: int) -> tuple[nn.Module, nn.Module]:
    """Ours and the package's of the same size."""
    ours = TabM(n_numeric=numbers, cardinalities=categories, k=k, width=width)
    theirs = Package.make(
        n_num_features=numbers, cat_cardinalities=categories, d_out=1, k=k, d_block=width
    )
    return ours, theirs


def stepper(model: nn.Module, low: bool) -> Callable[[Tensor, Tensor, Tensor], object]:
    """What takes one training step on (numbers, categories, target), in bfloat16 where `low`."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=3e-4, fused=True)

    def step(x: Tensor, c: Tensor, y: Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            output = model(x, c)
        (output[..., 0].float() - y[:, None]).square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


@torch.no_grad()
def predict(model: nn.Module, x: Tensor, c: Tensor, batch: int, low: bool = False) -> Tensor:
    """(n,) mean predictions, in batches of rows."""
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        parts = zip(x.split(batch), c.split(batch), strict=True)
        return torch.cat([model(*part).float().mean(1)[:, 0] for part in parts])


def measure_speed(case: str, k: int, width: int, batch: int, repeats: int, threads: int) -> None:
    """Print the steps and the predictions of one size."""
    torch.manual_seed(0)
    rows = 4 * batch
    x, y = torch.randn(rows, FEATURES), torch.randn(rows)
    c = torch.stack([torch.randint(0, n, (rows,)) for n in CATEGORIES], 1)
    ours, theirs = pair(FEATURES, CATEGORIES, k, width)
    some = x[:batch], c[:batch], y[:batch]
    peer = partial(stepper(theirs, low=False), *some)
    for low in (False, True):
        found = alternate(partial(stepper(ours, low), *some), peer, repeats)
        dtype = "bfloat16" if low else "float32"
        line(f"training step, {case}", *found, "tabm in float32", "s", dtype, threads,
             SLOW if low else None)  # fmt: skip

    ours.eval()
    theirs.eval()
    arrays = x.numpy(), c.numpy()
    reduce = partial(mean_values, classes=False)
    peer_predict = partial(predict, theirs, x, c, batch)
    inputs = dict(zip(("numeric", "categorical"), arrays))
    found = alternate(lambda: through_network(ours, inputs, reduce), peer_predict, repeats)
    line(
        f"prediction of {rows} rows, {case}", *found, "tabm in float32", "s", "float32", threads,
        BLOCKS,
    )  # fmt: skip
    found = alternate(partial(predict, ours, x, c, batch, low=True), peer_predict, repeats)
    line(f"prediction of {rows} rows, {case}", *found, "tabm in float32", "s", "bfloat16", threads,
         SLOW)  # fmt: skip


def same_start(ours: nn.Module, theirs: nn.Module) -> None:
    """Give ours the package's initial weights."""
    with torch.no_grad():
        for block, other in zip(ours.blocks, theirs.backbone.blocks, strict=True):
            for name, parameter in block[0].named_parameters():
                parameter.copy_(getattr(other[0], name))
        ours.head.weight.copy_(theirs.output.weight)
        ours.head.bias.copy_(theirs.output.bias)


def measure_error(threads: int) -> None:
    """Print the test error of ours in both types and of the package, mean of the seeds.

    All begin with the same weights and see the same rows; only what dropout drops differs.
    """
    errors: dict[str, list[float]] = {"float32": [], "bfloat16": [], "peer": []}
    for seed in SEEDS:
        task = TableTask.load("diamonds", split_seed=seed, max_rows=6000)
        (frame, y), (held, truth) = task.part("train"), task.part("test")
        contract = FeatureContract().fit(frame, seed=seed)
        arrays, others = contract.transform(frame), contract.transform(held)
        known = (others.categorical < np.array(contract.cardinalities)).all(1)
        target = torch.as_tensor((y - y.mean()) / y.std()).float()
        wanted = torch.as_tensor((truth[known] - y.mean()) / y.std()).float()
        torch.manual_seed(seed)
        ours, theirs = pair(contract.n_numeric, contract.cardinalities, k=16, width=256)
        same_start(ours, theirs)
        models = {"float32": ours, "bfloat16": copy.deepcopy(ours), "peer": theirs}
        for name, model in models.items():
            step = stepper(model, low=name == "bfloat16")
            torch.manual_seed(seed)
            order = torch.Generator().manual_seed(seed)
            for _ in range(STEPS):
                rows = torch.randint(0, len(target), (256,), generator=order).numpy()
                step(
                    torch.as_tensor(arrays.numeric[rows]),
                    torch.as_tensor(arrays.categorical[rows]),
                    target[rows],
                )
            found = predict(
                model.eval(), torch.as_tensor(others.numeric[known]),
                torch.as_tensor(others.categorical[known]), 256,
            )  # fmt: skip
            errors[name].append(float((found - wanted).square().mean().sqrt()))
    case = f"test error after {STEPS} steps on diamonds, k=16, 3 blocks of 256, {len(SEEDS)} seeds"
    for dtype in ("float32", "bfloat16"):
        line(
            case, mean(errors[dtype]), mean(errors["peer"]), "tabm in float32",
            "standard deviations of the target", dtype, threads,
        )  # fmt: skip


def main() -> None:
    """Print a line a case."""
    threads = torch.get_num_threads()
    for case, size in SIZES.items():
        measure_speed(case, *size, threads)
    measure_error(threads)


if __name__ == "__main__":
    main()
