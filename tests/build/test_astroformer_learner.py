"""Astroformer as an estimator: layouts, other sizes of pictures, its stack, its files and ONNX."""

import numpy as np
import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch.nn import functional

import stackwise
from stackwise import AstroformerClassifier, compare_layouts
from stackwise.errors import StackwiseError
from stackwise.learning.outputs import batch_loss
from stackwise.shrink.gradual_pruning import gradual_pruning
from stackwise.stack import Stack
from stackwise.tasks.images.estimators.export import export
from stackwise.tasks.images.small import small_pictures
from stackwise.tasks.images.task import ImagesTask

QUICK = {"size": "pico", "threads": 1, "max_epochs": 1}
FEW = {"stem_stride": 2, "strides": (2, 2, 1, 1)}


@pytest.fixture(scope="module")
def fitted() -> AstroformerClassifier:
    X, y = small_pictures(60)
    return AstroformerClassifier(**QUICK).fit(X, y)


@parametrize_with_checks(
    [AstroformerClassifier(**QUICK | FEW | {"max_epochs": 5, "lr": 0.01})],
    expected_failed_checks=lambda _: {
        "check_sample_weight_equivalence_on_dense_data": "weights change which rows are held out",
    },
)
def test_the_estimator_keeps_the_contract_of_scikit_learn(estimator, check):
    check(estimator)


def test_shapes_are_learned():
    X, y = small_pictures(150)
    knobs = QUICK | FEW | {"max_epochs": 8, "batch_size": 16, "augment": "none"}
    made = AstroformerClassifier(**knobs).fit(X, y)
    assert made.score(*small_pictures(60, seed=1)) > 0.8


def test_small_pictures_are_enlarged_and_it_is_said():
    X, y = small_pictures(30)
    made = AstroformerClassifier(**QUICK).fit(X[:, :5, :6], y)
    assert made.network_size_ == (8, 8)
    assert any("5 x 6 are enlarged to 8 x 8" in note for note in made.notes_)
    sides = {size: AstroformerClassifier(size=size).least_size for size in ("nano", "0", "5")}
    assert sides == {"nano": 8, "0": 32, "5": 32}
    assert AstroformerClassifier(size="pico", strides=(1, 2, 1, 1), stem_stride=1).least_size == 2


def test_every_knob_reaches_the_network():
    X, y = small_pictures(30)
    given = {
        "layout": "C-C-CT-T", "relative": "mlp", "stem_stride": 2, "strides": (1, 2, 1, 1),
        "drop_path": 0.3, "dropout": 0.2,
    }  # fmt: skip
    network = AstroformerClassifier(**QUICK, **given, hidden_head=False).fit(X, y).network_
    kept = {name: network.arguments[name] for name in given}
    assert kept == given | {"strides": [1, 2, 1, 1]}
    assert network.hidden is None
    assert [block.kind for block in network.blocks] == ["C", "C", "C", "T", "T"]


def test_labels_are_smoothed_in_training_alone():
    X, y = small_pictures(30)
    made = AstroformerClassifier(**QUICK, smoothing=0.2).fit(X, y)
    network, generator = made.network_, torch.Generator().manual_seed(0)
    batch = {
        "pixels": torch.randn(4, 1, 12, 12, generator=generator), "weight": torch.ones(4),
        "target": torch.tensor([0, 1, 2, 0]), "target_other": torch.tensor([1, 1, 0, 0]),
        "share": torch.full((4,), 0.7),
    }  # fmt: skip
    with torch.no_grad():
        logits = network(batch["pixels"])
        soft = 0.7 * torch.eye(3)[batch["target"]] + 0.3 * torch.eye(3)[batch["target_other"]]
        by_hand = functional.cross_entropy(logits, 0.8 * soft + 0.2 / 3)
        assert torch.allclose(made.build_rule().loss(network, batch), by_hand)
        assert torch.allclose(batch_loss(network, batch), functional.cross_entropy(logits, soft))


def test_tables_of_offsets_do_not_decay(fitted):
    kept = {n for n, p in fitted.network_.named_parameters() if fitted.decays(n, p)}
    named = {n for n, p in fitted.network_.named_parameters() if p.ndim > 1}
    assert named - kept == fitted.network_.no_weight_decay() and named != kept


def test_a_fitted_classifier_is_resized_and_kept(fitted, tmp_path):
    X, _ = small_pictures(10, side=20)
    larger = fitted.resized((20, 20))
    larger.save(tmp_path)
    found = stackwise.load(tmp_path).predict_proba(X)
    assert np.array_equal(found, larger.predict_proba(X))
    assert "resized from 12 x 12 pixels" in larger.notes_
    same, small = fitted.resized(12), small_pictures(10)[0]
    assert np.array_equal(same.predict_proba(small), fitted.predict_proba(small))
    with pytest.raises(StackwiseError, match="20 x 20 with 1 channel.*fitted on.*12 x 12"):
        fitted.predict(X)
    with pytest.raises(StackwiseError, match="4 x 9 are too small.*at least 8"):
        fitted.resized((4, 9))


def test_its_stack_is_the_list_of_its_blocks(fitted):
    stack = Stack.of(fitted)
    assert len(stack) == 5 and stack.names[-1] == "blocks.4"
    pixels = fitted.pixels(small_pictures(6)[0][:, None])[:]
    with torch.no_grad():
        with stack.capture() as stream:
            fitted.network_(pixels)
        maps = fitted.network_.forward_features(pixels)
        assert torch.equal(stream.hidden[-1], maps[-1])
        assert torch.equal(stream.hidden[4], maps[2])
        with stack.path([0, 1, 2, 4]):  # without the second block of the third stage
            skipped = fitted.network_.forward_features(pixels)
        assert torch.equal(skipped[2], stream.hidden[3])


def test_the_augmentation_for_little_data_hides_no_part():
    made = AstroformerClassifier(augment="mixed").recipe()
    assert made.mixup > 0 and made.operations == 2
    assert made.cutmix == 0 and made.erase == 0


@pytest.mark.slow
@pytest.mark.parametrize("relative", ["bias", "mlp"])
def test_the_onnx_file_answers_alike(relative: str, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    X, y = small_pictures(30)
    made = AstroformerClassifier(**QUICK | FEW, relative=relative).fit(X, y)
    path, _ = export(made, tmp_path / "model.onnx")
    session = runtime.InferenceSession(path)
    (found,) = session.run(None, {"pixels": X[:5, None].astype(np.float32)})
    assert np.allclose(found, made.predict_proba(X[:5]), atol=1e-5)


def test_it_is_pruned_on_a_task(fitted):
    pruned = gradual_pruning(fitted, ImagesTask.small(), sparsity=0.5, epochs=8, every=1)
    weight = pruned.network_.blocks[4].body.first.weight
    assert 0.3 < float((weight == 0).float().mean()) < 0.9


def test_layouts_are_compared_on_the_same_splits():
    X, y = small_pictures(60)
    found = compare_layouts(X, y, ("CCCC", "CCCT"), 2, **QUICK | FEW)
    fits = found.tables["fits"]
    assert fits["layout"].tolist() == ["CCCC", "CCCT"] * 2
    assert fits["seed"].tolist() == [0, 0, 1, 1]
    assert fits["parameters"][0] < fits["parameters"][1]
    means = fits.groupby("layout")["test_accuracy"].mean().to_dict()
    assert found.summary["test_accuracy"] == means and found.summary["best"] in means
    with pytest.raises(StackwiseError, match="at least one layout and one seed"):
        compare_layouts(X, y, seeds=0)


@pytest.mark.parametrize(
    "knobs, message",
    [
        ({"size": "6"}, "size"),
        ({"layout": "CCXT"}, "layout 'CCXT': use C and T, one per stage"),
        ({"size": "nano", "layout": "TTTT"}, "width 24 is not divisible by head_dim 16"),
        ({"strides": (2, 2, 3, 1)}, "strides are 1 or 2"),
    ],
)
def test_impossible_knobs_are_refused(knobs: dict, message: str):
    X, y = small_pictures(30)
    with pytest.raises(StackwiseError, match=message):
        AstroformerClassifier(**QUICK | knobs).fit(X, y)
