"""DeepStack-V: the stacks are added inside the vision tower.

The patch embedding and the first N blocks run on the low view and on every crop, each with its own
class token and the ordinary positions. Then the crops' patches become stacks, which are added to
the patches of the low view (not to its class token) at the inputs of blocks N, N + 1, .. N + K - 1.
The crops end there; what comes out is as long as for one picture. The tower must learn with it.
"""

from typing import Any

import torch
from torch import Tensor, nn

from stackwise.build.deepstack.injection import DeepStack, check_depth
from stackwise.build.deepstack.sampling import Sampling, stacks_of_crops
from stackwise.stack import Stack
from stackwise.tasks.vqa.estimators.vision import Tower, patches_of


class DeepStackViT(nn.Module):
    """A vision tower that reads a picture in two resolutions; it holds no weight of its own.

    Args:
        tower: a vision transformer and how it is called. split: N, the blocks that the crops go
            through; None is half of them, as in the paper's code.
        stacks: K, the most crops of a picture.
    """

    def __init__(
        self, tower: Tower, split: int | None = None, stacks: int = 4, mode: Sampling = "spatial"
    ) -> None:
        super().__init__()
        depth = len(Stack.of(tower.model))
        self.tower, self.mode = tower, mode
        self.split = depth // 2 if split is None else split
        check_depth(self.split, 1, stacks, depth)
        self.deep = DeepStack(tower.model, start=self.split)

    def forward(self, low: Tensor, crops: Tensor, grids: Tensor) -> Tensor:
        """(B, C, r, r), (B, K, C, r, r) and (B, 2) gh, gw -> (B, p, p, width)."""
        rows, most = crops.shape[:2]
        early = self.after_split(crops.flatten(0, 1))
        grid = patches_of(early, self.tower.patches)
        stacks = stacks_of_crops(grid.unflatten(0, (rows, most)), grids, self.mode)
        lead = early.shape[1] - self.tower.patches**2
        positions = torch.ones(rows, early.shape[1], dtype=torch.bool, device=low.device)
        positions[:, :lead] = False
        output: Any = self.deep(stacks=stacks, positions=positions, **self.tower.inputs(low))
        return patches_of(output.last_hidden_state, self.tower.patches)

    def after_split(self, pictures: Tensor) -> Tensor:
        """(n, C, r, r) -> (n, tokens, width): the stream before block N."""
        stack = Stack.of(self.tower.model)
        with stack.path(range(max(self.split, 1))), stack.capture() as stream:
            self.tower.model(**self.tower.inputs(pictures))
        return stream.hidden[self.split]
