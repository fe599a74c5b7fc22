"""A small base, donors of it, and rows to learn coefficients from."""

import copy

import torch
from torch import Tensor, nn

from stackwise.adapt.atlas import Composition, blocks_of, task_vectors


class Small(nn.Module):
    """Two blocks with batch normalisation between them, and a head: (B, 6) -> (B, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.norm(self.first(x)))
        return self.head(h + torch.tanh(self.second(h)))


def base_model(seed: int = 0) -> Small:
    torch.manual_seed(seed)
    made = Small().eval()
    made.norm.running_mean.normal_(0, 0.1)
    return made


def tuned(base: nn.Module, seed: int, size: float = 0.3) -> nn.Module:
    """A donor: the base with other numbers everywhere."""
    torch.manual_seed(seed)
    made = copy.deepcopy(base)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(size * torch.randn_like(weight))
    return made


def donors_of(base: nn.Module, count: int = 3) -> list[nn.Module]:
    return [tuned(base, seed) for seed in range(1, count + 1)]


def rows(seed: int = 0, count: int = 96) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(count, 6)


def composition(base: nn.Module, donors: list[nn.Module], **how: object) -> Composition:
    blocks = blocks_of(base, exclude=how.pop("exclude", []))
    return Composition(base, blocks, task_vectors(base, donors, blocks), **how)


def set_to(made: Composition, values: Tensor | float) -> Composition:
    with torch.no_grad():
        made.values.copy_(torch.as_tensor(values).expand_as(made.values))
    return made
