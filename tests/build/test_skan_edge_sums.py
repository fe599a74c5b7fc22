"""Inputs that are 0 or 1: their edges by two values are their edges by bases, to rounding."""

import copy

import pytest
import torch
from torch import nn

from stackwise.build.skan import FAMILIES, SKAN, SelectableKANLayer
from stackwise.build.skan.gates import top
from stackwise.build.skan.selection import scores
from stackwise.learning.outputs import batch_loss

NUMBERS, HOT, OUT = 3, 5, 4


def stirred(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def pair(**options) -> tuple[SelectableKANLayer, SelectableKANLayer]:
    """A layer whose last inputs are 0 or 1, and the same one that does not know."""
    torch.manual_seed(0)
    numbers = options.pop("numbers", NUMBERS)
    knows = stirred(SelectableKANLayer(numbers + HOT, OUT, two_valued=HOT, **options))
    other = SelectableKANLayer(numbers + HOT, OUT, **options)
    other.load_state_dict(knows.state_dict())
    return knows, other


def rows(numbers: int = NUMBERS) -> torch.Tensor:
    return torch.cat([torch.randn(20, numbers), torch.randint(0, 2, (20, HOT)).float()], 1)


def assert_alike(one: nn.Module, other: nn.Module, x: torch.Tensor) -> None:
    found = [model(x) for model in (one, other)]
    assert torch.allclose(*found, atol=1e-5, rtol=1e-5)
    for output in found:
        output.sin().sum().backward()
    for name, parameter in one.named_parameters():
        theirs = dict(other.named_parameters())[name]
        assert (parameter.grad is None) == (theirs.grad is None), name
        if parameter.grad is not None:
            assert torch.allclose(parameter.grad, theirs.grad, atol=1e-4, rtol=1e-4), name


@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_and_gradients_of_each_family_are_those_of_its_basis(family: str):
    assert_alike(*pair(pool=[family]), rows())


@pytest.mark.parametrize("per", ["node", "edge", "output", "layer"])
@pytest.mark.parametrize("base", [True, False])
def test_a_mixture_of_all_families_is_the_same(per: str, base: bool):
    assert_alike(*pair(pool=FAMILIES, per=per, base=base), rows())


@pytest.mark.parametrize("per", ["node", "edge", "output", "layer"])
def test_a_pruned_layer_is_the_same(per: str):
    knows, other = pair(pool=FAMILIES, per=per)
    knows.kept = top(torch.rand_like(knows.gates), 1)
    other.kept = knows.kept
    assert_alike(knows.pruned(), other.pruned(), rows())


def test_a_layer_without_numbers_is_the_same():
    knows, other = pair(pool=["bspline", "wavelet"], numbers=0)
    assert_alike(knows, other, rows(0))
    assert_alike(knows.pruned(), other.pruned(), rows(0))


def test_a_network_evaluates_bases_of_one_hot_columns_at_two_places_alone():
    torch.manual_seed(0)
    network = SKAN(n_numeric=2, cardinalities=[3, 40], hidden=[5])
    seen = []
    for basis in network.layers[0].bases.values():
        basis.register_forward_hook(lambda _, given, __: seen.append(tuple(given[0].shape)))
    codes = torch.stack([torch.randint(0, 4, (30,)), torch.randint(0, 41, (30,))], 1)
    found = network(torch.randn(30, 2), codes)
    assert found.shape == (30, 1)
    assert set(seen) == {(30, 2), (2, 43)}


def test_a_pruned_network_keeps_its_answers_and_a_saved_one_comes_back():
    torch.manual_seed(0)
    network = SKAN(n_numeric=2, cardinalities=[3], hidden=[5]).eval()
    for layer in network.selectable:
        layer.kept = top(torch.rand_like(layer.gates), 1)
    inputs = torch.randn(30, 2), torch.randint(0, 4, (30, 1))
    smaller = network.pruned()
    assert torch.allclose(network(*inputs), smaller(*inputs), atol=1e-5)
    again = SKAN(**copy.deepcopy(smaller.arguments))
    again.load_state_dict(smaller.state_dict())
    assert torch.equal(again.eval()(*inputs), smaller(*inputs))


def test_contributions_are_those_of_the_bases():
    torch.manual_seed(0)
    network = SKAN(n_numeric=2, cardinalities=[3, 4], hidden=[5]).eval()
    other = copy.deepcopy(network)
    other.layers[0].two_valued = 0
    codes = torch.stack([torch.randint(0, 4, (50,)), torch.randint(0, 5, (50,))], 1)
    given = {"numeric": torch.randn(50, 2), "categorical": codes}
    found = [scores(model, "contribution", given, batch_loss) for model in (network, other)]
    for mine, theirs in zip(*found, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)
