"""A toy fit that torch's launcher can run in several processes; argument: the folder to write."""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from stackwise.files import write_tensors
from stackwise.training import ArrayBatches, Backprop, Trained, session, train


def fit() -> Trained:
    """Two epochs of batches of 16 rows, which divide among two processes."""
    torch.manual_seed(0)
    x = torch.randn(64, 3)
    y = x.sum(1, keepdim=True)

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return (model(batch["x"]) - batch["y"]).square().mean()

    rule = Backprop(
        loss,
        lr=0.05,
        validate=lambda model: {"loss": float((model(x) - y).square().mean())},
    )
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    return train(model, rule, ArrayBatches({"x": x, "y": y}, 16), max_epochs=2, device="cpu")


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    with session(folder=folder):
        trained = fit()
    if torch.distributed.get_rank() == 0:
        write_tensors(folder / "final.safetensors", dict(trained.model.state_dict()))
    torch.distributed.barrier()  # gloo aborts in a process that leaves while another still writes
    torch.distributed.destroy_process_group()
