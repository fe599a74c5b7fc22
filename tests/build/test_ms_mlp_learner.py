"""MS-MLP as an estimator: any picture, its stack, its files and its ONNX form."""

import numpy as np
import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks

import stackwise
from stackwise import MSMLPClassifier
from stackwise.build.ms_mlp import MSMLP, HybridBlock
from stackwise.build.ms_mlp.learner import idle_shifts
from stackwise.errors import StackwiseError
from stackwise.shrink.gradual_pruning import gradual_pruning
from stackwise.stack import Stack
from stackwise.tasks.images.estimators.export import export
from stackwise.tasks.images.small import small_pictures
from stackwise.tasks.images.task import ImagesTask

QUICK = {"size": "pico", "threads": 1, "max_epochs": 1}


@pytest.fixture(scope="module")
def fitted() -> MSMLPClassifier:
    X, y = small_pictures(60)
    return MSMLPClassifier(**QUICK).fit(X, y)


@parametrize_with_checks(
    [MSMLPClassifier(**QUICK | {"max_epochs": 12, "lr": 0.01})],
    expected_failed_checks=lambda _: {
        "check_sample_weight_equivalence_on_dense_data": "weights change which rows are held out",
    },
)
def test_the_estimator_keeps_the_contract_of_scikit_learn(estimator, check):
    check(estimator)


def bright_halves(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise of which the upper or the left half is brighter."""
    generator = np.random.default_rng(seed)
    X, y = generator.integers(0, 120, (rows, 8, 8), dtype=np.uint8), np.arange(rows) % 2
    X[y == 0, :4] += 100
    X[y == 1, :, :4] += 100
    return X, y


def test_what_is_on_which_side_is_learned():
    knobs = QUICK | {"max_epochs": 12, "batch_size": 16, "augment": "none"}
    made = MSMLPClassifier(**knobs).fit(*bright_halves(100, 0))
    assert made.score(*bright_halves(60, 1)) > 0.9


def test_small_pictures_are_enlarged_and_what_shifts_do_is_said():
    X, y = small_pictures(30)
    made = MSMLPClassifier(**QUICK).fit(X[:, :5, :6], y)
    assert made.least_size == 8 and MSMLPClassifier(size="tiny").least_size == 32
    assert made.network_size_ == (8, 8)
    assert any("5 x 6 are enlarged to 8 x 8" in note for note in made.notes_)
    assert any("stage 3 has maps of 1 x 1, which a shift of 1 or 2" in n for n in made.notes_)
    network = MSMLP(size="pico", image_size=32, channels=1)
    assert idle_shifts(network, (32, 28), (-2, 0, 2)) == []
    assert len(idle_shifts(network, (32, 32), (0, 4))) == 1


def test_every_knob_reaches_the_network():
    X, y = small_pictures(30)
    given = {
        "mixing": "even", "shifts": (0, 0, 1, 1, 1), "order": "mix-shift", "border": "zero",
        "mirror": True, "mlp_ratio": 2.0, "drop_path": 0.3, "layer_scale": 0.5,
    }  # fmt: skip
    network = MSMLPClassifier(**QUICK, **given).fit(X, y).network_
    kept = {name: network.arguments[name] for name in given}
    assert kept == given | {"shifts": [0, 0, 1, 1, 1]}
    assert network.blocks[-1].drop_path.p == pytest.approx(0.3)
    hybrid = MSMLPClassifier(**QUICK, hybrid="parallel").fit(X, y).network_
    assert {type(block) for block in hybrid.blocks} == {HybridBlock}


def test_its_stack_is_the_list_of_its_blocks(fitted):
    stack = Stack.of(fitted)
    assert len(stack) == 4 and stack.names[0] == "blocks.0"
    X, _ = small_pictures(6)
    pixels = fitted.pixels(X[:, None])[:]
    with torch.no_grad():
        with stack.capture() as stream:
            whole = fitted.network_(pixels)
        assert torch.equal(stream.hidden[-1], fitted.network_.forward_features(pixels)[-1])
        with stack.path([0, 1, 2]):  # without the last block of the last stage
            skipped = fitted.network_(pixels)
        last = stream.hidden[3].mean((2, 3))
        head = fitted.network_.head(fitted.network_.norm(last))
    assert torch.allclose(skipped, head, atol=1e-6)
    assert not torch.allclose(skipped, whole, atol=1e-6)


def test_a_pyramid_of_a_fitted_network_serves_detection(fitted):
    maps = fitted.network_.forward_features(torch.zeros(1, 1, 20, 36))  # filled up to 24 x 40
    assert [tuple(one.shape) for one in maps] == [(1, 24, 12, 20), (1, 48, 6, 10), (1, 96, 3, 5)]


def test_it_is_kept_and_answers_alike(fitted, tmp_path):
    X, _ = small_pictures(20, seed=1)
    fitted.save(tmp_path)
    again = stackwise.load(tmp_path)
    assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))


@pytest.mark.slow
def test_the_onnx_file_answers_alike(fitted, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    X, _ = small_pictures(5, seed=1)
    path, _ = export(fitted, tmp_path / "model.onnx")
    session = runtime.InferenceSession(path)
    (found,) = session.run(None, {"pixels": X[:, None].astype(np.float32)})
    assert np.allclose(found, fitted.predict_proba(X), atol=1e-5)


def test_it_is_pruned_on_a_task(fitted):
    pruned = gradual_pruning(fitted, ImagesTask.small(), sparsity=0.5, epochs=8, every=1)
    assert isinstance(pruned, MSMLPClassifier)
    weight = pruned.network_.blocks[3].first.weight
    assert 0.3 < float((weight == 0).float().mean()) < 0.9


@pytest.mark.parametrize(
    "knobs, message",
    [
        ({"size": "huge"}, "size"),
        ({"shifts": (0, 1)}, "every group needs a shift and a size, got 2 and 5"),
        ({"drop_path": 1.5}, "drop_path"),
        ({"hybrid": "parallel", "layer_scale": 0.5}, "hybrid have no layer scale, got 0.5"),
    ],
)
def test_impossible_knobs_are_refused(knobs: dict, message: str):
    X, y = small_pictures(30)
    with pytest.raises(StackwiseError, match=message):
        MSMLPClassifier(**QUICK | knobs).fit(X, y)
