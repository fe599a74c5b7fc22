"""What a transform cost and saved is said beside the model as it was."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from stackwise.conformance import small_language_model
from stackwise.models import open_model
from stackwise.runs.beside import knows_classes, lines_of, lost, measured


def record(before, after, mode="min"):
    return {
        "metric": {"name": "score", "mode": mode},
        "scores": {"validation": {"score": after}, "test": {"score": after}},
        "before": {"scores": {"validation": {"score": before}, "test": {"score": before}}},
    }


@pytest.mark.parametrize(
    ("before", "after", "mode", "much"),
    [
        (1.0, 1.05, "min", False), (1.0, 1.2, "min", True), (1.0, 0.5, "min", False),
        (0.8, 0.79, "max", False), (0.8, 0.5, "max", True), (-2.0, -1.5, "min", True),
    ],
)  # fmt: skip
def test_a_warning_says_that_much_is_lost(before, after, mode, much):
    found = record(before, after, mode)
    assert (lost(found) is not None) == much
    lines = lines_of(found)
    assert lines[0] == f"validation score: {before:.5g} before, {after:.5g} after"
    assert lines[-1].startswith("Warning: much is lost: score is") == much


def test_nothing_is_said_of_a_run_that_changed_no_model():
    assert lines_of({"scores": {"test": {"score": 1.0}}}) == []


def test_a_model_of_other_classes_has_no_score_as_it_was():
    task = SimpleNamespace(classes=np.array(["a", "b"]))
    assert knows_classes(SimpleNamespace(classes_=np.array(["b", "a"])), task)
    assert not knows_classes(SimpleNamespace(classes_=np.array(["a", "c"])), task)
    assert not knows_classes(SimpleNamespace(classes_=np.array(["a", "b", "c"])), task)
    assert knows_classes(nn.Linear(2, 2), task)


def test_zeros_make_packed_bytes_fewer_and_half_precision_halves_bytes():
    model = open_model(small_language_model())
    whole = measured(model)
    assert whole["bytes"] == sum(p.numel() * 4 for p in model.parameters())
    assert whole["milliseconds"] > 0
    model.stored_dtype = torch.bfloat16
    assert measured(model)["bytes"] == whole["bytes"] / 2
    linear = nn.Linear(64, 64)
    nn.init.zeros_(linear.weight)
    found = measured(linear)
    assert found["packed_bytes"] < found["bytes"] / 8 and found["milliseconds"] is None
    assert measured(object())["bytes"] is None
