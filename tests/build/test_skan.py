"""The bases equal their references, and pruning a selectable layer leaves its function alone."""

import numpy as np
import pytest
import scipy.interpolate
import scipy.special
import torch

from stackwise.build.skan import FAMILIES, SelectableKANLayer, basis
from stackwise.errors import ModelError

X = torch.linspace(-0.99, 0.99, 41)[:, None]


def layer(**knobs) -> SelectableKANLayer:
    torch.manual_seed(0)
    made = SelectableKANLayer(3, 2, **knobs)
    with torch.no_grad():
        made.gates.add_(torch.randn_like(made.gates))
    return made


def test_splines_equal_scipys_and_sum_to_one():
    spline = basis("bspline", 1)
    theirs = scipy.interpolate.BSpline(spline.knots.numpy(), np.eye(8), 3)(X[:, 0].numpy())
    ours = spline(X)[:, 0]
    assert np.allclose(ours.numpy(), theirs, atol=1e-5)
    assert torch.allclose(ours.sum(-1), torch.ones(41), atol=1e-6) and (ours >= 0).all()
    assert (spline(torch.tensor([[-2.3], [2.3]])) == 0).all()


def test_polynomials_equal_numpys_and_scipys():
    cheby = np.polynomial.chebyshev.chebvander(X[:, 0].numpy(), 4)
    assert np.allclose(basis("cheby", 1)(X)[:, 0].numpy(), cheby, atol=1e-6)
    u = torch.tanh(X[:, 0]).numpy()
    jacobi = np.stack([scipy.special.eval_jacobi(n, 1, 1, u) for n in range(5)], -1)
    assert np.allclose(basis("jacobi", 1)(X)[:, 0].numpy(), jacobi, atol=1e-5)


def test_relu_functions_peak_at_one_in_their_centres():
    relu = basis("relu", 1)
    centres = (relu.low + relu.high)[0]  # x = 2 u - 1 with u the middle of both ends
    values = relu((centres - 1)[:, None])[:, 0]
    assert torch.allclose(values.diagonal(), torch.ones(8), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_right_and_finite_everywhere(family: str):
    made = basis(family, 2).double()
    x = torch.tensor([[0.13, -0.77], [0.52, 0.31]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(made, x)
    far = torch.tensor([[-1.0, 1.0], [0.0, 1e3], [-1e3, 0.0]]).double().requires_grad_()
    made(far).sum().backward()
    assert far.grad.isfinite().all()


@pytest.mark.parametrize("per", ["node", "edge", "output", "layer"])
@pytest.mark.parametrize("gate", ["softmax", "raw"])
@pytest.mark.parametrize("keep", [1, 2])
def test_a_pruned_layer_equals_the_hardened_one(per: str, gate: str, keep: int):
    made, x = layer(per=per, gate=gate, pool=FAMILIES), 2 * torch.randn(20, 3)
    made.select(torch.randn_like(made.gates), keep)
    assert (made.choice().sum(-1) == keep).all()
    pruned = made.pruned()
    assert torch.allclose(pruned(x), made(x), atol=1e-5)
    count = sum(p.numel() for p in pruned.parameters())
    assert count < sum(p.numel() for p in made.parameters())


def test_parameters_after_pruning_follow_the_formula():
    made = layer(pool=("bspline", "cheby"))
    made.select(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    # coefficients, base, bias
    assert sum(p.numel() for p in made.pruned().parameters()) == 2 * (8 + 5 + 5) + 6 + 2


def test_straight_through_is_one_hot_forward_and_soft_backward():
    made = layer()
    made.mode = "straight"
    weights = made.weights()
    assert ((weights == 0) | (weights == 1)).all() and (weights.sum(-1) == 1).all()
    made(torch.randn(5, 3)).square().sum().backward()
    assert (made.gates.grad != 0).all()


def test_no_input_changes_what_another_adds():
    made, a, b = layer(pool=FAMILIES), torch.randn(6, 3), torch.randn(6, 3)
    both, first, rest = b.clone(), a.clone(), b.clone()
    first[:, 0], rest[:, 0] = b[:, 0], a[:, 0]
    mixed = made(both) - made(rest) - made(first) + made(a)
    assert mixed.abs().max() < 1e-5


def test_the_order_of_the_pool_does_not_matter():
    made, x = layer(pool=("bspline", "cheby")), torch.randn(9, 3)
    other = layer(pool=("cheby", "bspline"))
    other.load_state_dict(made.state_dict() | {"gates": made.gates.detach().flip(-1)})
    assert torch.allclose(made(x), other(x), atol=1e-6)


def test_a_pool_of_one_has_a_gate_of_exactly_one():
    assert (layer(pool=("rbf",)).weights() == 1).all()


def test_a_pruned_layer_exports():
    made, x = layer(), torch.randn(4, 3)
    made.select(made.gates.detach())
    pruned = made.pruned()
    assert torch.allclose(torch.export.export(pruned, (x,)).module()(x), pruned(x), atol=1e-6)


def test_one_family_of_splines_equals_pykans_basis():
    spline = pytest.importorskip("kan.spline")
    ours = basis("bspline", 1)
    theirs = spline.B_batch(X, ours.knots.float()[None], k=3)
    assert torch.allclose(ours(X), theirs, atol=1e-6)


def test_wrong_arguments_are_named():
    with pytest.raises(ModelError, match="unknown family 'spline'"):
        layer(pool=("spline",))
    with pytest.raises(ModelError, match="pool is empty"):
        layer(pool=())
    with pytest.raises(ModelError, match=r"keep \(9\) exceeds the pool \(5\)"):
        layer().select(torch.zeros(3, 5), 9)
