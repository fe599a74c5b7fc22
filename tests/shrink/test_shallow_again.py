"""Deep stacks made shallow: exact where they should be, kept as a model, and said where they cannot
be.
"""

import copy

import numpy as np
import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn
from torch.nn import functional

import stackwise
from stackwise import ShallowAgainClassifier, shallow_again
from stackwise.conformance import small_language_model
from stackwise.errors import KnobError, ModelError
from stackwise.layers.sweeps import sweeps_of
from stackwise.models import open_model, save_model
from stackwise.shrink.shallow_again import ResidualLayer, ShallowNet, expansion, fuse_parallel
from stackwise.shrink.shallow_again.grouping import groups_of, runs_of_one_shape
from stackwise.stack import Stack
from stackwise.tasks.images.baselines.residual_cnn import ResidualCNN, ResidualCNNClassifier
from stackwise.tasks.images.small import small_pictures
from stackwise.tasks.images.task import ImagesTask

SMALL = {"depth": 3, "filters": 4, "threads": 1, "augment": "none", "max_epochs": 2, "min_steps": 0}
WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": "weights change which rows are held out",
}


@parametrize_with_checks(
    [ShallowAgainClassifier(depth=2, filters=4, lr=0.02, max_epochs=30, batch_size=32, threads=1)],
    expected_failed_checks=lambda _: WEIGHTS,
)
def test_the_estimator_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def net(mode: str, depth: int = 3, **more) -> ShallowNet:
    torch.manual_seed(0)
    return ShallowNet(
        channels=1, image_size=(8, 8), n_outputs=3, depth=depth, filters=4, mode=mode, **more
    )


@pytest.fixture(scope="module")
def fitted() -> ShallowAgainClassifier:
    X, y = small_pictures(60)
    return ShallowAgainClassifier(mode="sequential", **SMALL).fit(X, y)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_one_layer_is_the_same_in_both_forms_to_the_bit(pixels):
    assert torch.equal(net("parallel", 1)(pixels), net("sequential", 1)(pixels))


def test_both_forms_have_the_same_weights_under_the_same_names(pixels):
    deep, shallow = net("sequential"), net("parallel")
    assert list(deep.state_dict()) == list(shallow.state_dict())
    shallow.load_state_dict(deep.state_dict())
    assert (deep(pixels) - shallow(pixels)).abs().max() > 1e-3
    whole = net("parallel", order=3)
    whole.load_state_dict(deep.state_dict())
    torch.testing.assert_close(whole(pixels), deep(pixels), rtol=1e-5, atol=1e-6)


def test_the_activation_comes_before_the_sum():
    layers = [ResidualLayer(1, 1) for _ in range(2)]
    for layer, weight in zip(layers, (2.0, -2.0), strict=True):
        nn.init.constant_(layer.conv.weight, weight)
        nn.init.zeros_(layer.conv.bias)
    x = torch.ones(1, 1, 1, 1)
    assert float(x + ResidualLayer.together(layers, x)) == 3.0


def test_a_fused_convolution_is_the_sum_of_its_parts(pixels):
    layers = [ResidualLayer(4, 3, "tanh") for _ in range(3)]
    x = torch.randn(2, 4, 6, 6)
    parts = sum(layer.residual(x) for layer in layers)
    torch.testing.assert_close(ResidualLayer.together(layers, x), parts, rtol=1e-5, atol=1e-6)
    fused = fuse_parallel([layer.conv for layer in layers])
    assert isinstance(fused, nn.Conv2d) and fused.out_channels == 12
    found = fused(x).tanh().unflatten(1, (3, 4)).sum(1)
    torch.testing.assert_close(found, parts, rtol=1e-5, atol=1e-6)
    linear = [nn.Linear(4, 4), nn.Linear(4, 4, bias=False)]
    rows = torch.randn(2, 4)
    expected = torch.cat([one(rows) for one in linear], 1)
    torch.testing.assert_close(fuse_parallel(linear)(rows), expected, rtol=1e-6, atol=1e-6)


def test_what_cannot_be_fused_is_named():
    with pytest.raises(ModelError, match=r"block 1 has kernel_size \(5, 5\), block 0 \(3, 3\)"):
        fuse_parallel([nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 5)])
    with pytest.raises(ModelError, match="block 1 is a Linear"):
        fuse_parallel([nn.Conv2d(4, 4, 3), nn.Linear(4, 4)])
    with pytest.raises(ModelError, match="a ReLU cannot be fused"):
        fuse_parallel([nn.ReLU()])


def test_a_learner_is_cut_and_mended_and_kept_as_data(fitted, tmp_path):
    X, y = small_pictures(60)
    before = fitted.predict_proba(X)
    cut = shallow_again(fitted)
    assert isinstance(cut, ShallowAgainClassifier)
    assert sweeps_of(cut.network_) == {
        "name": "blocks", "groups": [[0, 1, 2]], "order": 1, "fuse": True
    }  # fmt: skip
    assert np.abs(cut.predict_proba(X) - before).max() > 1e-4
    whole = shallow_again(fitted, order=3)
    np.testing.assert_allclose(whole.predict_proba(X), before, atol=1e-5)
    mended = shallow_again(fitted, (X, y), epochs=2)
    mended.save(tmp_path / "m")
    again = stackwise.load(tmp_path / "m")
    assert (again.predict_proba(X) == mended.predict_proba(X)).all()
    assert (fitted.predict_proba(X) == before).all()  # what was given is as it was


def test_a_little_training_mends_what_the_cut_broke():
    X, y = small_pictures(90)
    deep = ShallowAgainClassifier(mode="sequential", **SMALL | {"max_epochs": 60, "lr": 0.01})
    deep.fit(X, y)

    def loss(learner) -> float:
        return float(
            -np.log(
                learner.predict_proba(X)[np.arange(90), np.searchsorted(deep.classes_, y)]
            ).mean()
        )

    cut, mended = shallow_again(deep), shallow_again(deep, (X, y), epochs=20, lr=5e-3)
    assert loss(deep) < loss(mended) < loss(cut)


def test_a_model_that_is_cut_is_cut_anew(fitted):
    X, _ = small_pictures(60)
    again = shallow_again(shallow_again(fitted), order=3)
    np.testing.assert_allclose(again.predict_proba(X), fitted.predict_proba(X), atol=1e-5)


def test_a_learner_that_was_trained_side_by_side_and_cut_anew_comes_back_as_it_was(tmp_path):
    X, y = small_pictures(60)
    whole = shallow_again(ShallowAgainClassifier(**SMALL).fit(X, y), order=3)
    whole.save(tmp_path / "m")
    assert (stackwise.load(tmp_path / "m").predict_proba(X) == whole.predict_proba(X)).all()


def test_a_language_model_that_is_cut_and_rebuilt_comes_back_as_it_was(tmp_path):
    cut = shallow_again(open_model(small_language_model()), group=2)
    shorter = Stack.of(cut).rebuild([0, 1, 2])
    save_model(shorter, tmp_path / "m")
    ids = torch.arange(12).reshape(2, 6) + 5
    with torch.no_grad():
        torch.testing.assert_close(open_model(tmp_path / "m")(ids).logits, shorter(ids).logits)


def test_stages_are_cut_one_by_one():
    torch.manual_seed(0)
    model = ResidualCNN(channels=1, n_outputs=3, width=4, n_blocks=3).eval()
    pixels = torch.randn(2, 1, 8, 8)
    expected = [[0, 1, 2], [3], [4, 5], [6], [7, 8]]
    assert runs_of_one_shape(Stack.of(model), lambda: model(pixels)) == expected
    assert runs_of_one_shape(Stack.of(model)) == expected
    assert groups_of(Stack.of(model), 2) == [[0, 1], [2], [3], [4, 5], [6], [7, 8]]
    assert shallow_again(model)(pixels).shape == (2, 3)
    with pytest.raises(ModelError, match="no two of its blocks in a row keep the shape"):
        shallow_again(ResidualCNN(channels=1, n_outputs=3, width=4))


def test_statistics_of_batch_normalisation_are_taken_anew():
    X, y = small_pictures(60)
    knobs = {"width": 4, "n_blocks": 3, "threads": 1, "max_epochs": 1, "min_steps": 0}
    learner = ResidualCNNClassifier(augment="none", **knobs).fit(X, y)
    cut = shallow_again(learner, (X, y), epochs=0)
    norm = cut.network_.blocks[1].body[1]
    assert not torch.equal(norm.running_mean, learner.network_.blocks[1].body[1].running_mean)
    joined = cut.trainable((X, y))
    seen = []
    hook = norm.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    cut.network_.eval()
    for batch in joined.batches.epoch(0):
        joined.loss(cut.network_, batch)
    hook.remove()
    found = torch.cat(seen).mean((0, 2, 3))
    assert (norm.running_mean - found).abs().max() < 0.2 * found.abs().max() + 0.05


def test_a_language_model_is_cut_generates_and_comes_back(tmp_path):
    model = open_model(small_language_model())
    ids = torch.arange(12).reshape(2, 6) + 5
    with torch.no_grad():
        deep = model(ids).logits
        whole = shallow_again(model, group=2, order=2)
        torch.testing.assert_close(whole(ids).logits, deep, rtol=1e-4, atol=1e-5)
        assert whole.config.use_cache is False and model.config.use_cache is not False
        cut = shallow_again(model, group=2)
        logits = cut(ids).logits
        assert (logits - deep).abs().max() > 1e-4
        step = cut(ids[:, :4], use_cache=True)
        rest = cut(ids[:, 4:], past_key_values=step.past_key_values).logits
        torch.testing.assert_close(rest, logits[:, 4:], rtol=1e-4, atol=1e-4)
    save_model(cut, tmp_path / "cut")
    again = open_model(tmp_path / "cut")
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, logits, rtol=1e-6, atol=1e-6)
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "cut").eval()
    with torch.no_grad():  # without this library the weights are those of the deep form
        torch.testing.assert_close(plain(ids).logits, deep, rtol=1e-4, atol=1e-5)


def test_a_vision_transformer_is_cut_with_its_batches():
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32,
        image_size=8, patch_size=4, num_channels=1, num_labels=3,
    )  # fmt: skip
    model = ViTForImageClassification(config).eval()
    pixels = torch.randn(6, 1, 8, 8)
    batches = [{"pixel_values": pixels, "labels": torch.arange(6) % 3}]
    cut = shallow_again(model, batches, group=2, epochs=1)
    assert type(cut) is type(model)
    assert sweeps_of(cut)["groups"] == [[0, 1], [2, 3]]
    assert cut(pixel_values=pixels).logits.shape == (6, 3)


def test_a_transformer_that_normalises_behind_the_sum_is_refused():
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=32, num_labels=2,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    batches = [{"input_ids": torch.arange(10).reshape(2, 5), "labels": torch.tensor([0, 1])}]
    with pytest.raises(ModelError, match=r"not of the form x \+ F\(x\)"):
        shallow_again(model, batches, epochs=0)


def test_what_cannot_be_done_is_one_sentence(fitted):
    with pytest.raises(KnobError, match="order is 4, and the largest group has 3 blocks"):
        shallow_again(fitted, order=4)
    with pytest.raises(ModelError, match="group is 1"):
        shallow_again(fitted, group=1)
    with pytest.raises(ModelError, match="has no network"):
        shallow_again(object())


def test_the_probe_tells_what_each_order_costs(fitted, tmp_path):
    task = ImagesTask.load(small_pictures(60))
    findings = expansion(fitted, task)
    table = findings.tables["orders"]
    assert list(table.index) == [1, 2, 3]
    assert table["error"].iloc[-1] < 1e-5 < table["error"].iloc[0]
    assert table["loss"].iloc[-1] == pytest.approx(
        findings.summary["loss of the deep model"], rel=1e-4
    )
    assert findings.summary["least order within a tenth of that loss"] is not None
    findings.save(tmp_path / "f")
    assert (tmp_path / "f" / "figures" / "orders.png").is_file()


def test_a_module_is_tuned_with_a_loss_of_ones_own():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), *[Residual(8) for _ in range(3)], nn.Linear(8, 2))
    x, y = torch.randn(32, 4), torch.arange(32) % 2
    cut = shallow_again(model, (x, y), loss=functional.cross_entropy, epochs=1)
    assert sweeps_of(cut)["groups"] == [[0], [1, 2, 3], [4]]
    assert copy.deepcopy(cut)(x).shape == (32, 2)


class Residual(nn.Module):
    """x + tanh(w x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, x):
        return x + self.inner(x).tanh()
