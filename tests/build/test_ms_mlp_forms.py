"""MS-MLP in the forms that it is used in: exported, made again, in 16 bits."""

import small_networks
import torch
from small_networks import is_exported_and_made_again
from small_networks import small_ms_mlp as network


def pictures(rows: int = 2, height: int = 12, width: int = 8) -> torch.Tensor:
    return small_networks.pictures(height, width, rows)


def test_a_network_is_exported_and_made_again():
    is_exported_and_made_again(network(), 12, 8)


def test_bfloat16_autocast_trains():
    model = network(drop_path=0.2).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(pictures()).float().square().mean()
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    full = network()(pictures())
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert torch.allclose(network()(pictures()).float(), full, atol=0.05, rtol=0.05)
