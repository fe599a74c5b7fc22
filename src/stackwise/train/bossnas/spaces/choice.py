"""A layer whose operations are modules of their own and share nothing."""

import copy
from collections.abc import Sequence

from torch import Tensor, nn


class Choice(nn.Module):
    """One of several operations.

    Args:
        operations: modules; each takes what stands before the layer.
    """

    def __init__(self, operations: Sequence[nn.Module]) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operations)

    def forward(self, h: Tensor, choice: int, state: int) -> Tensor:
        """The chosen operation; its input's state changes nothing here."""
        output: Tensor = self.operations[choice](h)
        return output

    def cut(self, choice: int, state: int) -> nn.Module:
        """A copy of the chosen operation."""
        return copy.deepcopy(self.operations[choice])
