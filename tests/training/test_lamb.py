import math

import pytest
import torch

from stackwise.training.lamb import Lamb


def test_two_steps_are_those_of_the_algorithm():
    weight = torch.nn.Parameter(torch.tensor([3.0, -4.0]))
    lamb = Lamb([weight], lr=0.1, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.01)
    w, m, v = [3.0, -4.0], [0.0, 0.0], [0.0, 0.0]
    for step, gradient in enumerate(([1.0, 2.0], [-0.5, 1.0]), start=1):
        weight.grad = torch.tensor(gradient)
        lamb.step()
        u = []
        for i, g in enumerate(gradient):
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.99 * v[i] + 0.01 * g * g
            mean, square = m[i] / (1 - 0.9**step), v[i] / (1 - 0.99**step)
            u.append(mean / (math.sqrt(square) + 1e-6) + 0.01 * w[i])
        trust = math.hypot(*w) / math.hypot(*u)
        w = [x - 0.1 * trust * y for x, y in zip(w, u, strict=True)]
        assert weight.tolist() == pytest.approx(w, rel=1e-5)


def test_a_step_is_as_long_as_the_tensor_times_the_rate():
    weight = torch.nn.Parameter(torch.randn(7, 3))
    before = weight.detach().clone()
    weight.grad = 1e-4 * torch.randn(7, 3)
    Lamb([weight], lr=0.02).step()
    moved = (weight.detach() - before).norm()
    assert float(moved) == pytest.approx(0.02 * float(before.norm()), rel=1e-4)


def test_a_tensor_of_zeros_still_moves():
    weight = torch.nn.Parameter(torch.zeros(4))
    weight.grad = torch.ones(4)
    Lamb([weight], lr=0.01).step()
    assert torch.allclose(weight, torch.full((4,), -0.01), atol=1e-5)


def test_a_tensor_without_gradient_stays():
    weight = torch.nn.Parameter(torch.ones(2))
    Lamb([weight], lr=0.1).step()
    assert torch.equal(weight, torch.ones(2))
