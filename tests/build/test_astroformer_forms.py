"""Astroformer in the forms that it is used in: exported, made again, in 16 bits."""

import pytest
import small_networks
import torch
from small_networks import is_exported_and_made_again
from small_networks import small_astroformer as network


def pictures(rows: int = 2, height: int = 32, width: int = 64) -> torch.Tensor:
    return small_networks.pictures(height, width, rows)


def test_a_network_is_exported_and_made_again():
    is_exported_and_made_again(network(), 32, 64)


@pytest.mark.parametrize("relative", ["bias", "mlp", "post"])
def test_bfloat16_autocast_trains(relative: str):
    model = network(drop_path=0.2, dropout=0.1, relative=relative).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(pictures()).float().square().mean()
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
