"""Evaluation mode for a while."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every module's own mode is put back on leaving."""
    with in_evaluation(*models), torch.no_grad():
        yield


@contextlib.contextmanager
def in_evaluation(*models: nn.Module) -> Iterator[None]:
    """Evaluation mode; every module's own mode is put back on leaving."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
