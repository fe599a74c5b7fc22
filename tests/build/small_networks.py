"""Small networks on pictures, with pictures for them, and what each is held to."""

import torch
from torch import nn

from stackwise.build.astroformer import Astroformer
from stackwise.build.ms_mlp import MSMLP


def small_astroformer(**changes) -> Astroformer:
    torch.manual_seed(0)
    sizes = {"channels": 2, "n_outputs": 3, "widths": (4, 6, 8, 8), "depths": (1, 1, 2, 2)}
    more = {"stem": 4, "head_dim": 2, "image_size": (32, 64)}
    return Astroformer(**sizes | more | changes).eval()


def small_ms_mlp(**changes) -> MSMLP:
    torch.manual_seed(0)
    sizes = {"channels": 2, "n_outputs": 3, "widths": (5, 9), "depths": (1, 2), "patch": 2}
    scale = {} if changes.get("hybrid") else {"layer_scale": 0.5}
    return MSMLP(**sizes | scale | {"image_size": 8} | changes).eval()


def pictures(height: int, width: int, rows: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(rows, 2, height, width, generator=generator)


def is_exported_and_made_again(model: nn.Module, height: int, width: int) -> None:
    two, five = (pictures(height, width, rows) for rows in (2, 5))
    rows = ({0: torch.export.Dim("rows", min=2)},)
    exported = torch.export.export(model, (two,), dynamic_shapes=rows).module()
    assert torch.allclose(exported(five), model(five), atol=1e-5)
    again = type(model)(**model.arguments).eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(two), model(two))
