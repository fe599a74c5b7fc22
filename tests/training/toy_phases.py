"""A toy fit of two phases whose second model is deeper; run as a script for the kill tests."""

import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from stackwise.files import write_tensors
from stackwise.training import ArrayBatches, Backprop, Phase, Trained, session, train_phases


class Tower(nn.Module):
    """`depth` hidden layers with dropout, so that the random state matters."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.arguments = {"depth": depth}
        layers = [nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Dropout(0.1)) for _ in range(depth)]
        self.hidden = nn.ModuleList(layers)
        self.head = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = x + layer(x)
        return self.head(x)


def deeper(model: nn.Module) -> nn.Module:
    """The same tower with its blocks twice."""
    assert isinstance(model, Tower)
    grown = Tower(2 * len(model.hidden))
    grown.head.load_state_dict(model.head.state_dict())
    for index, block in enumerate(grown.hidden):
        block.load_state_dict(model.hidden[index % len(model.hidden)].state_dict())
    return grown


def fit(pause: float = 0.0, refuse: bool = False) -> Trained:
    """Train the tower, grow it, train on; `refuse` fails where a step is taken."""
    torch.manual_seed(0)
    x = torch.randn(256, 6)
    y = x[:, :1] * x[:, 1:2]

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        assert not refuse
        time.sleep(pause)
        return (model(batch["x"]) - batch["y"]).square().mean()

    def rule() -> Backprop:
        return Backprop(
            loss,
            lr=3e-3,
            schedule="cosine",
            warmup=0.1,
            validate=lambda model: {"loss": float((model(x) - y).square().mean())},
        )

    batches = ArrayBatches({"x": x, "y": y}, 32, seed=1)
    return train_phases(
        Tower(1),
        [
            Phase("short", rule(), batches, max_epochs=8),
            Phase(
                "deep",
                rule(),
                batches,
                max_epochs=8,
                patience=6,
                start=deeper,
                rebuild=lambda arguments: Tower(**arguments),
            ),
        ],
        seed=3,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    from stackwise.training import loop

    loop.EPOCH_PAUSE, loop.STEP_PAUSE, loop.WRITE_PAUSE = 0.0, 0.05, 0.0
    folder = Path(sys.argv[1])
    with session(folder=folder, resume=True):
        trained = fit(pause=0.004)
    write_tensors(folder / "final.safetensors", dict(trained.model.state_dict()))
