"""A pruned network is the hardened one, and comes back from its arguments."""

import json

import pytest
import torch

from stackwise.build.skan import SKAN
from stackwise.errors import ModelError


def hardened(per: str = "node") -> SKAN:
    torch.manual_seed(0)
    network = SKAN(
        n_numeric=2, cardinalities=[3], ranges=[[0, 4], [1, 1]], hidden=(4,), n_outputs=2, per=per
    )
    for layer in network.layers:
        layer.select(torch.randn_like(layer.gates))
    return network


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return 4 * torch.rand(8, 2), torch.arange(8)[:, None] % 4


@pytest.mark.parametrize("per", ["node", "edge", "output", "layer"])
def test_a_pruned_network_equals_the_hardened_one_and_its_saved_copy(per: str):
    network, rows = hardened(per), inputs()
    pruned = network.pruned()
    assert torch.allclose(pruned(*rows), network(*rows), atol=1e-5)
    copy = SKAN(**json.loads(json.dumps(pruned.arguments)))
    copy.load_state_dict(pruned.state_dict())
    assert torch.equal(copy(*rows), pruned(*rows))


def test_ranges_are_mapped_to_one_and_values_outside_counted():
    network = hardened()
    scaled = network.scaled(torch.tensor([[0.0, 1.0], [4.0, 1.0]]))
    assert scaled.tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert network.outside(torch.tensor([[5.0, 1.0], [-1.0, 2.0], [2.0, 1.0]])).tolist() == [2, 1]


def test_values_far_outside_still_move_the_prediction():
    network, (_, categories) = hardened(), inputs()
    first, second = (network(torch.full((8, 2), far), categories) for far in (100.0, 200.0))
    assert (first != second).any(1).all()


def test_a_pruned_network_exports():
    pruned, rows = hardened().pruned().eval(), inputs()
    exported = torch.export.export(pruned, rows).module()
    assert torch.allclose(exported(*rows), pruned(*rows), atol=1e-6)


def test_wrong_arguments_are_named():
    with pytest.raises(ModelError, match="at least one feature"):
        SKAN(n_numeric=0)
    with pytest.raises(ModelError, match="pruned already"):
        hardened().pruned().pruned()
