"""Small networks and rows on which rich representations are tried."""

import torch
from torch import Tensor, nn


class Small(nn.Module):
    """Two layers, dropout and a head, in evaluation mode."""

    def __init__(self, seed: int, width: int = 6, classes: int = 3) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.trunk = nn.Sequential(nn.Linear(5, width), nn.BatchNorm1d(width), nn.ReLU())
            self.dropout = nn.Dropout(0.5)
            self.head = nn.Linear(width, classes)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.trunk(x)))


def rows(count: int = 40, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(n, 5) numbers and (n,) classes that can be told from them."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % classes
    centres = 3 * torch.randn(classes, 5, generator=torch.Generator().manual_seed(7))
    return centres[y] + torch.randn(count, 5, generator=generator), y


def same(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have the same weights, bit for bit."""
    left, right = one.state_dict(), other.state_dict()
    return list(left) == list(right) and all(torch.equal(t, right[k]) for k, t in left.items())
