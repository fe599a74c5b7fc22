"""The scan against a loop that autograd records, in float64."""

import pytest
import torch
from torch import Tensor

from stackwise.errors import ModelError
from stackwise.layers import selective_scan as module
from stackwise.layers.selective_scan import selective_scan

E, N = 3, 4


def given(length: int, rows: int = 2) -> list[Tensor]:
    """x, delta, A, B, C and a state."""
    generator = torch.Generator().manual_seed(length)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, delta, A = draw(length, rows, E), draw(length, rows, E).abs(), -draw(E, N).abs()
    B, C, state = draw(length, rows, N), draw(length, rows, N), draw(rows, E, N)
    return [tensor.requires_grad_() for tensor in (x, delta, A, B, C, state)]


def loop(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, h: Tensor):
    outputs = []
    for t in range(len(x)):
        h = torch.exp(delta[t, ..., None] * A) * h + (delta[t] * x[t])[..., None] * B[t, :, None]
        outputs.append((h * C[t, :, None]).sum(-1))
    return torch.stack(outputs), h


# one step, within a stretch, whole stretches, a stretch and a rest; also a batch of one
@pytest.mark.parametrize("length", [1, 7, 32, 64, 65, 100])
@pytest.mark.parametrize("rows", [1, 2])
def test_the_scan_and_its_gradients_equal_the_loop(length: int, rows: int):
    arguments = given(length, rows)
    found, expected = selective_scan(*arguments), loop(*arguments)
    weights = [torch.randn_like(part) for part in expected]
    gradients = [torch.autograd.grad(parts, arguments, weights) for parts in (found, expected)]
    for ours, theirs in zip([*found, *gradients[0]], [*expected, *gradients[1]], strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("length", [1, 3, 7])
def test_the_gradient_is_that_of_finite_differences(length: int, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 3)
    assert torch.autograd.gradcheck(selective_scan, given(length))


def test_a_second_backward_pass_through_the_same_graph_gives_the_same():
    arguments = given(40)
    y, _ = selective_scan(*arguments)
    first = torch.autograd.grad(y.sum(), arguments, retain_graph=True)
    assert all(map(torch.equal, first, torch.autograd.grad(y.sum(), arguments)))


def test_no_state_is_a_state_of_zeros():
    *arguments, state = given(5)
    assert torch.equal(
        selective_scan(*arguments)[0], selective_scan(*arguments, torch.zeros_like(state))[0]
    )


def test_with_a_of_zero_the_state_is_a_running_sum():
    x, delta, A, B, _, _ = given(40)
    reader = torch.ones(40, 2, N, dtype=torch.float64)
    y, last = selective_scan(x, delta, torch.zeros_like(A), B, reader)
    written = (delta * x)[..., None] * B[:, :, None]
    assert torch.allclose(y, written.cumsum(0).sum(-1), atol=1e-12)
    assert torch.allclose(last, written.sum(0), atol=1e-12)


def test_the_graph_has_one_node_for_all_steps_and_keeps_few_states():
    arguments = given(320)
    y, _ = selective_scan(*arguments)
    kept = sum(tensor.numel() for tensor in y.grad_fn.saved_tensors)
    inputs = sum(tensor.numel() for tensor in arguments)
    states = 320 // module.CHUNK + 2 * module.CHUNK
    assert kept < inputs + states * 2 * E * N < inputs + 320 * 2 * E * N


def test_an_empty_sequence_is_refused():
    with pytest.raises(ModelError, match="length 0"):
        selective_scan(*given(0))
