"""A line to learn, and what compares two fits."""

import torch
from torch import Tensor, nn

from stackwise.training import Trained


def squared(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return (model(batch["x"]) - batch["y"]).square().mean()


def line(rows: int = 64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 3, generator=generator)
    return {"x": x, "y": x.sum(1, keepdim=True)}


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def same(a: Trained, b: Trained) -> bool:
    left, right = a.model.state_dict(), b.model.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)
