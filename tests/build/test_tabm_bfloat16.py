"""TabM in bfloat16: which parts change their type, and how little the result does."""

import numpy as np
import pytest
import torch
from torch import Tensor

from stackwise import TabMClassifier, TabMRegressor
from stackwise.build.tabm import TabM, learner, precision

VARIANTS = ("tabm", "mini", "packed", "naive", "bad")
BINS = [[-2.0, -0.5, 0.0, 1.0, 2.0]] * 4


def network(variant: str, **more) -> TabM:
    torch.manual_seed(0)
    options = {"k": 4, "width": 64, "depth": 3, "dropout": 0.0} | more
    return TabM(n_numeric=4, cardinalities=[3], n_outputs=2, variant=variant, **options)


def rows(count: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(count, 4, generator=generator),
        torch.randint(0, 4, (count, 1), generator=generator),
    )


def types_of(model: TabM) -> dict[str, torch.dtype]:
    """The type of each block's output and of the network's."""
    found: dict[str, torch.dtype] = {}
    handles = [
        block.register_forward_hook(lambda _, __, y, at=index: found.update({f"{at}": y.dtype}))
        for index, block in enumerate(model.blocks)
    ]
    with torch.autocast("cpu", torch.bfloat16):
        found["output"] = model(*rows()).dtype
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_hidden_blocks_keep_one_type_and_the_ends_stay_in_float32(variant: str, dropout: float):
    assert types_of(network(variant, dropout=dropout)) == {
        "0": torch.float32, "1": torch.bfloat16, "2": torch.bfloat16, "output": torch.float32,
    }  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("embedding", [None, "piecewise"])
def test_outputs_and_gradients_are_those_of_float32_to_rounding(variant: str, embedding):
    bins = BINS if embedding else None
    model = network(variant, num_embedding=embedding, bins=bins, d_embedding=4)
    numeric, categorical = rows()
    target = numeric[:, :2].sin()[:, None]
    outputs, gradients = [], []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = model(numeric, categorical)
        (output - target).square().mean().backward()
        outputs.append(output.detach())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert gradients[1].dtype == torch.float32
    assert not torch.equal(outputs[0], outputs[1])
    assert float((outputs[0] - outputs[1]).abs().max()) < 0.02 * float(outputs[0].abs().max())
    assert float(torch.cosine_similarity(*gradients, dim=0)) > 0.999


def test_a_double_network_stays_double():
    numeric, categorical = rows()
    model = network("tabm").double()
    # one-hot categories are float32 zeros and ones, which double numbers carry along
    assert model(numeric.double(), categorical).dtype == torch.float64


def table(classes: bool) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(600, 4))
    y = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.1 * generator.normal(size=600)
    return X, (y > 0).astype(int) if classes else y


@pytest.mark.parametrize("cls", [TabMRegressor, TabMClassifier])
def test_a_fit_in_bfloat16_is_as_good_and_a_seed_fixes_it(cls: type):
    X, y = table(cls is TabMClassifier)
    knobs = {"k": 4, "width": 64, "max_epochs": 12, "batch_size": 64, "random_state": 0}
    scores, predictions = {}, []
    for kind in ("float32", "bfloat16", "bfloat16"):
        fitted = cls(**knobs, precision=kind).fit(X[:450], y[:450])
        scores[kind] = fitted.score(X[450:], y[450:])
        predictions.append(fitted.predict(X[450:]))
        assert next(fitted.network_.parameters()).dtype == torch.float32
    assert scores["bfloat16"] == pytest.approx(scores["float32"], abs=0.05)
    assert np.array_equal(predictions[1], predictions[2])


def options_of(**knobs) -> dict:
    """What the loop is told by an estimator that is about to fit."""
    estimator = TabMRegressor(**knobs)
    estimator.seed_ = 0
    return estimator.training_options()


@pytest.mark.parametrize(
    ("has", "gain", "expected"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, 0.5, True),  # tiles need no measurement
        ({"amx_bf16": False, "avx512_bf16": True}, 1.9, True),
        ({"amx_bf16": False, "avx512_bf16": True}, 0.6, False),
        ({"amx_bf16": False, "avx512_bf16": False}, 1.9, False),
        ({}, 1.9, False),
    ],
)
def test_bfloat16_is_taken_where_the_processor_multiplies_it_faster(
    monkeypatch, has, gain, expected
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    monkeypatch.setattr(precision, "measured_gain", lambda: gain)
    assert precision.bfloat16_is_faster.__wrapped__() is expected
    monkeypatch.setattr(learner, "bfloat16_is_faster", lambda: expected)
    chosen = options_of(device="cpu")["precision"]
    assert chosen == ("bfloat16" if expected else "auto")


def test_the_measurement_leaves_threads_and_random_state_alone():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    assert precision.measured_gain() > 0
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("knobs", "expected"),
    [
        ({"precision": "float32"}, "float32"),
        ({"precision": "bfloat16", "width": 8}, "bfloat16"),
        ({"width": 8}, "auto"),
        ({"device": "cuda"}, "auto"),
    ],
)
def test_the_knob_decides_the_type_where_it_is_given(knobs: dict, expected: str):
    assert options_of(**knobs)["precision"] == expected
