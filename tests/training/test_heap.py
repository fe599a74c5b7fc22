"""Memory of large gradients: kept between steps, handed back afterwards, and of no effect."""

import contextlib
import resource

import pytest
import torch
from torch import nn

from stackwise.training import heap
from stackwise.training.heap import LARGE, keeping_memory

ROWS = LARGE // 4 // 16 + 1000
needs_glibc = pytest.mark.skipif(heap._glibc() is None, reason="memory is kept by glibc")


def large() -> nn.Module:
    torch.manual_seed(0)
    return nn.Embedding(ROWS, 16)


def steps(model: nn.Module, count: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(count):
        model(torch.arange(step, 64 + step)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def pages(model: nn.Module, count: int) -> int:
    """Pages that the system hands out while the model takes some steps."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    steps(model, count)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@needs_glibc
def test_a_large_gradient_takes_no_new_pages_in_each_step():
    model = large()
    with keeping_memory(model):
        steps(model, 10)
        # 4 gradients are 4 times it; a heap in use may still have to grow by one now and then
        fewest = min(pages(model, 4) for _ in range(5))
    assert fewest < LARGE // resource.getpagesize()


def test_weights_are_the_same_to_the_bit():
    models = [large(), large()]
    steps(models[0], 3)
    with keeping_memory(models[1]):
        steps(models[1], 3)
    assert torch.equal(models[0].weight, models[1].weight)


@pytest.mark.parametrize("fails", [False, True])
def test_settings_are_made_for_large_models_alone_and_taken_back(monkeypatch, fails: bool):
    calls = []

    class Library:
        mallopt = staticmethod(lambda *given: calls.append(given))
        malloc_trim = staticmethod(lambda pad: calls.append(("trim", pad)))

    monkeypatch.setattr(heap, "_glibc", Library)
    with keeping_memory(nn.Linear(3, 2)):
        assert calls == []
    expected = pytest.raises(RuntimeError) if fails else contextlib.nullcontext()
    with expected, keeping_memory(nn.Embedding(ROWS, 16)):
        assert len(calls) == 2
        if fails:
            raise RuntimeError
    assert calls[2:] == [
        (heap.MMAP_THRESHOLD, LARGE), (heap.TRIM_THRESHOLD, 2 * LARGE), ("trim", 0),
    ]  # fmt: skip


def test_without_glibc_nothing_happens(monkeypatch):
    monkeypatch.setattr(heap, "_glibc", lambda: None)
    with keeping_memory(large()):
        pass
