"""ReLU and dropout in one draw."""

import pytest
import torch
from torch import Tensor, nn

from stackwise.layers.relu_dropout import ReLUDropout


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def numbers(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, dtype=dtype)


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_without_training_it_is_relu(p: float):
    x = numbers(7, 5)
    assert torch.equal(ReLUDropout(p).eval()(x), x.relu())
    assert torch.equal(ReLUDropout(0.0)(x), x.relu())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1,), (3, 7), (2, 3, 5)])
def test_an_output_is_zero_or_the_scaled_relu(dtype: torch.dtype, shape: tuple[int, ...]):
    x = numbers(*shape, dtype=dtype)
    y = ReLUDropout(0.25)(x)
    assert y.dtype == dtype
    wanted = x.relu() / 0.75
    assert (
        (y == 0) | torch.isclose(y, wanted, rtol=1e-2 if dtype == torch.bfloat16 else 1e-4)
    ).all()


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_the_share_that_is_dropped_is_p_and_the_mean_stays(p: float):
    x = torch.ones(1_000_000)
    y = ReLUDropout(p)(x)
    deviation = (p * (1 - p) / len(x)) ** 0.5
    assert float((y == 0).double().mean()) == pytest.approx(p, abs=5 * deviation)
    assert float(y.double().mean()) == pytest.approx(1, abs=5 * deviation / (1 - p))


def test_neighbours_and_rows_are_dropped_independently():
    y = (ReLUDropout(0.5)(torch.ones(2000, 512)) == 0).double() - 0.5
    for shift in (1, 2, 3, 4, 8):
        assert abs(float((y[:, shift:] * y[:, :-shift]).mean())) < 2e-3
    assert abs(float((y[1:] * y[:-1]).mean())) < 2e-3


def test_the_gradient_is_that_of_relu_times_the_same_mask():
    x = numbers(40, 30, dtype=torch.float64).requires_grad_()
    y = ReLUDropout(0.4)(x)
    weight = torch.randn_like(y)
    (y * weight).sum().backward()
    mask = (y != 0).double() / 0.6
    again = x.detach().clone().requires_grad_()
    (again.relu() * mask * weight).sum().backward()
    assert torch.allclose(x.grad, again.grad, rtol=1e-4)


def test_the_seed_fixes_what_is_dropped():
    x = torch.ones(10_000)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(ReLUDropout(0.3)(x))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_nan_is_not_hidden():
    assert ReLUDropout(0.1)(torch.full((100,), torch.nan)).isnan().all()


def test_a_wrong_probability_is_refused():
    with pytest.raises(ValueError, match=r"at least 0 and below 1, got 1\.0"):
        ReLUDropout(1.0)


def test_a_network_with_it_learns_like_one_with_the_two_layers_of_torch():
    x = numbers(512, 4)
    y = (x[:, :1] * x[:, 1:2]).tanh()
    losses = []
    for middle in (lambda: [ReLUDropout(0.1)], lambda: [nn.ReLU(), nn.Dropout(0.1)]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 64), *middle(), nn.Linear(64, 1))
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
        for _ in range(200):
            (net(x) - y).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        losses.append(float((net.eval()(x) - y).detach().square().mean()))
    assert losses[0] == pytest.approx(losses[1], rel=0.5)
    assert losses[0] < 0.1 * float(y.square().mean())
