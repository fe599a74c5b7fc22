"""MEGA's moving average: the recurrence, the sum and the FFT are one."""

import pytest
import torch

from stackwise.errors import ModelError
from stackwise.layers.moving_average import MovingAverage

torch.manual_seed(0)


def direct(x, kernel):
    """sum_j k_j x_{t - j}."""
    found = torch.zeros_like(x)
    for lag in range(min(kernel.shape[1], x.shape[1])):
        found[:, lag:] += kernel[:, lag] * x[:, : x.shape[1] - lag]
    return found


def test_recurrence_sum_and_fft_agree():
    average, x = MovingAverage(3, 5), torch.randn(2, 50, 3)
    by_fft = average(x)
    assert torch.allclose(by_fft, direct(x, average.kernel(50)), atol=1e-5)
    state, found = average.start(2), []
    for part in x.split([1, 9, 40], 1):
        answer, state = average.step(part, state)
        found.append(answer)
    assert torch.allclose(torch.cat(found, 1), by_fft, atol=1e-5)


def test_a_cut_kernel_sees_no_further():
    average, x = MovingAverage(3, 5, truncation=7), torch.randn(2, 30, 3)
    assert torch.allclose(average(x), direct(x, average.kernel(30)[:, :7]), atol=1e-5)
    with pytest.raises(ModelError, match="cut kernel cannot go on"):
        average.start(1)


@pytest.mark.parametrize("truncation", [None, 6])
def test_both_ways_count_the_present_twice(truncation):
    average = MovingAverage(3, 5, two_way=True, truncation=truncation)
    x = torch.randn(2, 20, 3)
    kernel = average.kernel(truncation or 20)
    wanted = direct(x, kernel[:3]) + direct(x.flip(1), kernel[3:]).flip(1)
    assert torch.allclose(average(x), wanted, atol=1e-5)
    impulse = torch.zeros(1, 20, 3)
    impulse[0, 10] = 1
    assert torch.allclose(average(impulse)[0, 10], kernel[:3, 0] + kernel[3:, 0], atol=1e-5)


def test_padding_does_not_leak():
    average = MovingAverage(3, 5, two_way=True)
    x = torch.randn(1, 20, 3)
    padded = torch.cat([x, torch.full((1, 9, 3), 5.0)], 1)
    mask = torch.arange(29)[None] < 20
    assert torch.allclose(average(padded, mask)[:, :20], average(x), atol=1e-5)
