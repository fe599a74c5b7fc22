"""The training loop against a bare hand-written one: the same model, optimizer and batches."""

import torch
from torch import nn

from side_by_side import alternate, line
from stackwise.training import ArrayBatches, Backprop, train

CASES = {"small": (64, 64), "middle": (256, 256), "large": (512, 1024)}
ROWS, FEATURES, EPOCHS = 16_384, 32, 1
REPEATS = 25


def network(width: int) -> nn.Module:
    """Three hidden layers."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before in (FEATURES, width, width):
        layers += [nn.Linear(before, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 1))


def main() -> None:
    """Print a line a case."""
    threads = torch.get_num_threads()
    x, y = torch.randn(ROWS, FEATURES), torch.randn(ROWS, 1)
    for name, (width, batch) in CASES.items():
        batches = ArrayBatches({"x": x, "y": y}, batch)

        def ours(width: int = width, batches: ArrayBatches = batches) -> None:
            rule = Backprop(lambda m, b: (m(b["x"]) - b["y"]).square().mean())
            train(network(width), rule, batches, max_epochs=EPOCHS)

        def bare(width: int = width, batch: int = batch) -> None:
            model = network(width)
            parameters = list(model.parameters())
            optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
            for _ in range(EPOCHS):
                order = torch.randperm(ROWS)
                for first in range(0, ROWS, batch):
                    rows = order[first : first + batch]
                    loss = (model(x[rows]) - y[rows]).square().mean()
                    loss.backward()
                    nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)

        line(
            f"one epoch, {name}: 3 x {width}, batch {batch}",
            *alternate(ours, bare, REPEATS),
            "hand-written loop",
            "s",
            "float32",
            threads,
            "steps of under a millisecond: the fixed cost of a step shows",
        )


if __name__ == "__main__":
    main()
