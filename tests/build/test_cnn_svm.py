"""Hinge heads keep their equations, learn with the network, and decide by the margin."""

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from stackwise import CNNSVMClassifier, swap_head
from stackwise.build.cnn_svm import ConvSVM, SVMHead, hinge, one_vs_rest, squared_hinge
from stackwise.build.cnn_svm.head import summed_cost
from stackwise.build.cnn_svm.posthoc import fit_machines
from stackwise.build.cnn_svm.swapping import svm_loss
from stackwise.errors import DataError, KnobError, ModelError
from stackwise.stack import Stack
from stackwise.tasks.images.baselines.residual_cnn import ResidualCNNClassifier
from stackwise.tasks.images.small import small_pictures

SMALL = {"channels": [4], "kernel_size": 3, "hidden": 8, "threads": 1, "augment": "none"}
WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": "weights change which rows are held out",
}


def scores_and_labels(rows: int = 7, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    scores = 2 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return scores, torch.arange(rows) % classes


def fitted(**knobs) -> CNNSVMClassifier:
    X, y = small_pictures(60)
    return CNNSVMClassifier(**SMALL | {"max_epochs": 2, "min_steps": 0} | knobs).fit(X, y)


@parametrize_with_checks(
    [CNNSVMClassifier(channels=[4], kernel_size=3, hidden=16, lr=0.01, max_epochs=30, batch_size=32,
                      threads=1, dropout=0.0)],
    expected_failed_checks=lambda _: WEIGHTS,
)  # fmt: skip
def test_the_estimator_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("loss", "power"), [(hinge, 1), (squared_hinge, 2)])
def test_hinges_equal_a_loop_over_rows_and_classes(loss, power):
    scores, y = scores_and_labels()
    expected = 0.0
    for i in range(7):
        for c in range(4):
            code = 1.0 if c == y[i] else -1.0
            expected += max(0.0, 1 - code * float(scores[i, c])) ** power
    codes = one_vs_rest(y, 4).double()
    assert abs(float(loss(scores, codes, "sum")) - expected) < 1e-9
    assert abs(float(loss(scores, codes)) - expected / 28) < 1e-9


def test_the_squared_hinge_has_its_gradient_and_none_beyond_the_margin():
    scores, y = scores_and_labels()
    scores.requires_grad_()
    codes = one_vs_rest(y, 4).double()
    assert torch.autograd.gradcheck(lambda s: squared_hinge(s, codes), (scores,))
    (gradient,) = torch.autograd.grad(squared_hinge(scores, codes, "sum"), scores)
    beyond = codes * scores >= 1
    assert beyond.any() and (gradient[beyond] == 0).all() and (gradient[~beyond] != 0).all()


def test_codes_that_are_not_plus_and_minus_one_are_refused():
    scores, y = scores_and_labels()
    with pytest.raises(DataError, match="codes of the hinge are 1 and -1"):
        squared_hinge(scores, nn.functional.one_hot(y, 4).double())
    with pytest.raises(DataError, match="no column for the label 12"):
        one_vs_rest(torch.tensor([0, 12]), 10)
    with pytest.raises(KnobError, match="C must be > 0, got 0"):
        SVMHead(3, 2, C=0)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_scores_of_zero_cost_C_and_push_every_score_alike(reduction):
    head = SVMHead(5, 3, C=2.0, reduction=reduction)
    y = torch.tensor([0, 2, 1, 1])
    scores = torch.zeros(4, 3, requires_grad=True)
    loss = head.objective(scores, y)
    whole = 2.0 if reduction == "mean" else 2.0 * 12
    assert torch.allclose(loss, whole + head.penalty())
    (gradient,) = torch.autograd.grad(loss, scores)
    each = 2 * 2.0 / (12 if reduction == "mean" else 1)
    assert torch.allclose(gradient, -each * one_vs_rest(y, 3))


def test_the_penalty_is_of_the_weights_alone():
    network = ConvSVM(channels=1, image_size=(8, 8), n_outputs=3, widths=[2], hidden=4)
    before = network.head.penalty()
    with torch.no_grad():
        network.head.bias.add_(1)
        network.hidden.weight.mul_(2)
    assert torch.equal(network.head.penalty(), before)
    (gradient,) = torch.autograd.grad(before, network.head.weight)
    assert torch.allclose(gradient, 2 * network.head.weight / network.head.weight.numel())


def test_the_mean_is_the_sum_at_another_C():
    features, y = torch.randn(9, 6, dtype=torch.float64), torch.arange(9) % 4
    mean = SVMHead(6, 4, C=0.7, reduction="mean").double()
    total = SVMHead(6, 4, C=summed_cost(0.7, "mean", 6, 9), reduction="sum").double()
    total.load_state_dict(mean.state_dict())
    one, other = (
        torch.autograd.grad(head.loss(features, y), head.weight)[0] for head in (mean, total)
    )
    # penalties are computed in float32
    assert torch.allclose(other / one, torch.full_like(one, 6 * 4 / 2), rtol=1e-5)


def test_full_batch_training_finds_the_machines_of_scikit_learn():
    generator = np.random.default_rng(0)
    X = generator.normal(size=(40, 5)).astype(np.float64)
    y = (X[:, :3] + 0.8 * generator.normal(size=(40, 3))).argmax(1)
    W = torch.zeros(3, 5, dtype=torch.float64, requires_grad=True)
    codes, x = one_vs_rest(torch.as_tensor(y), 3).double(), torch.as_tensor(X)
    optimizer = torch.optim.LBFGS([W], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-14,
                                  line_search_fn="strong_wolfe")  # fmt: skip

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = W.square().sum() / 2 + 0.5 * squared_hinge(x @ W.T, codes, "sum")
        loss.backward()
        return loss

    optimizer.step(step)
    theirs = LinearSVC(C=0.5, dual=False, fit_intercept=False, tol=1e-10).fit(X, y)
    assert np.abs(W.detach().numpy() - theirs.coef_).max() < 1e-4


def test_the_papers_network_has_its_parameters_and_its_beginning():
    network = ConvSVM(channels=1, image_size=(28, 28), n_outputs=10, widths=[32, 64], init="paper")
    assert sum(p.numel() for p in network.parameters()) == 3_274_634
    assert all((p == 0.1).all() for n, p in network.named_parameters() if n.endswith("bias"))
    assert network.hidden.weight.abs().max() <= 0.2
    assert (
        abs(float(network.hidden.weight.detach().std()) - 0.088) < 0.002
    )  # of a normal cut at 2 sigma


def test_the_hinge_moves_the_trunk_from_the_first_step():
    torch.manual_seed(0)
    network = ConvSVM(channels=1, image_size=(8, 8), n_outputs=3, widths=[2], hidden=4, dropout=0)
    batch = {"pixels": torch.randn(6, 1, 8, 8), "target": torch.arange(6) % 3}
    svm_loss(network, batch).backward()
    assert network.blocks[0].conv.weight.grad.abs().sum() > 0


def test_dropout_drops_its_share_in_training_and_nothing_else():
    network = ConvSVM(channels=1, image_size=(8, 8), n_outputs=3, widths=[2], hidden=4000,
                      dropout=0.3)  # fmt: skip
    kept = []
    network.head.register_forward_pre_hook(lambda _, given: kept.append(given[0]))
    pixels = torch.randn(1, 1, 8, 8)
    network.train()(pixels)
    network.eval()(pixels)
    network(pixels)
    alive = kept[1] > 0
    assert abs(float((kept[0][alive] == 0).float().mean()) - 0.3) < 0.04
    assert torch.equal(kept[1], kept[2])


def test_predictions_are_the_largest_margin_and_there_are_no_probabilities():
    X, _ = small_pictures(60)
    model = fitted()
    margins = model.decision_function(X)
    assert margins.shape == (60, 3)
    assert (model.predict(X) == model.classes_[margins.argmax(1)]).all()
    assert not hasattr(model, "predict_proba")
    with pytest.raises(AttributeError) as said:
        model.predict_proba(X)
    assert "margins, not probabilities" in str(said.value.__cause__)
    assert hasattr(fitted(head="softmax"), "predict_proba")


def test_another_order_of_the_classes_changes_no_decision():
    scores, _ = scores_and_labels(50)
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(order[scores[:, order].argmax(1)], scores.argmax(1))
    head = SVMHead(4, 4)
    y = torch.arange(50) % 4
    renamed = torch.argsort(order)[y]
    assert torch.allclose(head.row_losses(scores, y), head.row_losses(scores[:, order], renamed))


@pytest.mark.parametrize("labels", [[3, 7, 9], ["b", "a", "c"]])
def test_labels_come_back_as_they_were_given(labels):
    X, y = small_pictures(60)
    named = np.array(labels)[np.unique(y, return_inverse=True)[1]]
    found = CNNSVMClassifier(**SMALL, max_epochs=1, min_steps=0).fit(X, named).predict(X)
    assert found.dtype == named.dtype and set(found) <= set(labels)


def test_machines_put_on_afterwards_leave_the_trunk_and_equal_scikit_learns():
    X, y = small_pictures(60)
    plain = fitted(head="softmax")
    after = fitted(fit_head="posthoc", C=3.0)
    own, trained = after.network_.state_dict(), plain.network_.state_dict()
    assert all(torch.equal(own[n], trained[n]) for n in own if not n.startswith("head"))
    assert not torch.equal(own["head.weight"], trained["head.weight"])


@pytest.mark.parametrize("classes", [2, 3])
def test_machines_of_two_classes_are_mirror_images_and_decide_as_scikit_learns(classes):
    generator = np.random.default_rng(1)
    X = generator.normal(size=(60, 4))
    y = X[:, :classes].argmax(1)
    head = SVMHead(4, classes, C=2.0, reduction="sum").double()
    assert fit_machines(head, X, y, np.ones(60))
    theirs = LinearSVC(C=2.0, dual=False).fit(X, y)
    with torch.no_grad():
        scores = head(torch.as_tensor(X)).numpy()
    assert (scores.argmax(1) == theirs.predict(X)).all()
    if classes == 2:
        assert np.allclose(scores[:, 0], -scores[:, 1])


def test_swapping_leaves_the_trunk_the_model_and_the_predictions():
    X, y = small_pictures(60)
    model = ResidualCNNClassifier(width=2, max_epochs=1, min_steps=0, threads=1).fit(X, y)
    swapped = swap_head(model, "svm-l1")
    assert hasattr(model, "predict_proba") and not hasattr(swapped, "predict_proba")
    assert (swapped.predict(X) == model.predict(X)).all()
    trunk = model.network_.state_dict()
    assert all(torch.equal(v, trunk[n]) for n, v in swapped.network_.state_dict().items())
    learned = swap_head(model, data=(X, y), epochs=1)
    stem = "stem.0.weight"
    assert not torch.equal(learned.network_.state_dict()[stem], trunk[stem])
    after = swap_head(model, data=(X, y), fit_head="posthoc")
    assert torch.equal(after.network_.state_dict()[stem], trunk[stem])


def test_a_swapped_learner_is_saved_with_its_head(tmp_path):
    X, y = small_pictures(60)
    model = ResidualCNNClassifier(width=2, max_epochs=1, min_steps=0, threads=1).fit(X, y)
    swapped = swap_head(model, "svm-l1", C=3.0)
    swapped.save(tmp_path / "swapped")
    again = ResidualCNNClassifier.load(tmp_path / "swapped")
    assert again.network_.head.arguments == swapped.network_.head.arguments
    assert np.array_equal(again.decision_function(X), swapped.decision_function(X))


def test_a_users_module_gets_machines_and_learns_with_them():
    torch.manual_seed(0)
    x = torch.randn(64, 6)
    y = x[:, :3].argmax(1)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    swapped = swap_head(model, data=(x, y), epochs=60, lr=0.01, batch_size=16)
    assert isinstance(swapped[2], SVMHead) and isinstance(model[2], nn.Linear)
    assert float((swapped(x).argmax(1) == y).float().mean()) > 0.9
    after = swap_head(model, data=(x, y), fit_head="posthoc")
    assert torch.equal(after[0].weight, model[0].weight)


def test_what_has_no_linear_layer_is_refused():
    with pytest.raises(ModelError, match="no linear layer 'head'; it has 0"):
        swap_head(nn.Sequential(nn.Linear(2, 2)), layer="head")
    with pytest.raises(ModelError, match="holds no linear layer"):
        swap_head(nn.Sequential(nn.ReLU()))
    with pytest.raises(KnobError, match="there is no head 'svm'"):
        swap_head(nn.Sequential(nn.Linear(2, 2)), "svm")


def test_the_stack_of_the_estimator_is_its_blocks():
    model = fitted(channels=[4, 4])
    assert len(Stack.of(model)) == 2


def test_its_onnx_file_gives_margins(tmp_path):
    ort = pytest.importorskip("onnxruntime")
    from stackwise.tasks.images.estimators.export import export

    X, _ = small_pictures(20)
    model = fitted()
    (path, _) = export(model, tmp_path / "model.onnx")
    (output,) = ort.InferenceSession(path).run(["margin"], {"pixels": X[:, None].astype("float32")})
    assert np.abs(output - model.decision_function(X)).max() < 1e-4
