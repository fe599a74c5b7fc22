"""TabM against the authors' package: a training step and a prediction, the same weights' shapes.

Three sizes in float32 with the same fused AdamW; then the same step with our activations and
weights in bfloat16, against the package in float32.
"""

import torch

from side_by_side import alternate, line
from stackwise.build.tabm import TabM
from tabm import TabM as Package

SIZES = {"small": (8, 128, 128, 9), "middle": (16, 256, 256, 5), "large": (32, 512, 256, 3)}
FEATURES, CATEGORIES = 12, [4, 7, 9]


def step(model: torch.nn.Module, x: torch.Tensor, c: torch.Tensor, y: torch.Tensor, dtype=None):
    """What takes one training step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def run() -> None:
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            output = model(x, c)
        loss = (output.float()[..., 0] - y).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return run


def predict(model: torch.nn.Module, x: torch.Tensor, c: torch.Tensor):
    """What predicts the rows."""

    def run() -> None:
        with torch.no_grad():
            model(x, c).mean(1)

    return run


def main() -> None:
    """Print a line a case."""
    threads = torch.get_num_threads()
    for name, (k, width, batch, repeats) in SIZES.items():
        torch.manual_seed(0)
        x, y = torch.randn(batch, FEATURES), torch.randn(batch, 1)
        c = torch.stack([torch.randint(0, n, (batch,)) for n in CATEGORIES], 1)

        def ours(k: int = k, width: int = width) -> TabM:
            return TabM(n_numeric=FEATURES, cardinalities=CATEGORIES, k=k, width=width)

        def theirs(k: int = k, width: int = width) -> Package:
            return Package.make(
                n_num_features=FEATURES, cat_cardinalities=CATEGORIES, d_out=1, k=k, d_block=width
            )

        case = f"{name}: k={k}, 3 blocks of {width}, batch {batch}"
        found = alternate(step(ours(), x, c, y), step(theirs(), x, c, y), repeats)
        line(f"training step, {case}", *found, "tabm", "s", "float32", threads)
        found = alternate(predict(ours().eval(), x, c), predict(theirs().eval(), x, c), 2 * repeats)
        line(f"prediction, {case}", *found, "tabm", "s", "float32", threads)
        found = alternate(step(ours(), x, c, y, torch.bfloat16), step(theirs(), x, c, y), repeats)
        line(
            f"training step in bfloat16, {case}", *found, "tabm in float32", "s", "bfloat16",
            threads, "at this width casts cost what the products save, or the processor has no "
            "tiles for bfloat16; the estimators then stay in float32",
        )  # fmt: skip


if __name__ == "__main__":
    main()
